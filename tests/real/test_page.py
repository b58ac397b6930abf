"""The chat page in a real browser, against the real server with a scripted model."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.generate.scripted import ScriptedModel

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

LONG = " ".join(f"word{number}." for number in range(200))


def ask(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")


def answers(page: Page) -> Any:
    return page.get_by_role("log").locator("article.assistant")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def contents(model: ScriptedModel, index: int = -1) -> list[tuple[str, str]]:
    prompt: Any = model.requests[index].prompt
    return [(message["role"], message["content"]) for message in prompt]


@pytest.fixture
def chat(serve: Any, visit: Any) -> Any:
    """Open the page on a model that says this: chat(*answers, delay=0, **window) -> (page, model)."""
    windows = []

    def start(*script: Any, delay: float = 0.0, **window: Any) -> tuple[Page, ScriptedModel]:
        model = ScriptedModel(script, delay=delay)
        server = serve(model)
        opened = visit(**window)
        windows.append((opened, server.url))
        return opened.go(server.url), model

    yield start
    for opened, url in windows:
        opened.check(url)


def test_a_conversation_is_rendered_measured_and_remembered_by_the_model(chat: Any) -> None:
    page, model = chat("Hello **there**, `friend`.", "# Second\n\n- one\n- two")
    ask(page, "Good morning")
    expect(answers(page)).to_have_count(1)
    expect(answers(page).locator("strong")).to_have_text("there")
    expect(answers(page).locator("code")).to_have_text("friend")
    expect(answers(page).locator(".stats")).to_have_text(
        re.compile(r"^[\d.]+ tokens/s · first token \d+\.\d\d s · context \d+ of 1,048,576$")
    )
    ask(page, "And now?")
    expect(page.get_by_role("heading", name="Second")).to_be_visible()
    expect(answers(page).nth(1).locator("li")).to_have_text(["one", "two"])
    assert contents(model) == [
        ("user", "Good morning"),
        ("assistant", "Hello **there**, `friend`."),
        ("user", "And now?"),
    ]
    expect(page.get_by_role("heading", level=1)).to_have_text("Good morning")
    expect(page).to_have_title("Good morning · Octavo")


def test_words_are_seen_before_the_answer_is_complete(chat: Any) -> None:
    page, _ = chat(LONG, delay=0.02)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answers(page)).not_to_contain_text("word199.")
    expect(answers(page)).to_contain_text("word199.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


@pytest.mark.parametrize("way", ["key", "button"])
def test_stopping_ends_the_generation_and_keeps_what_came(chat: Any, way: str) -> None:
    page, model = chat(LONG, "Fresh.", delay=0.02)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3.")
    if way == "key":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Stop").click()
    wait_until(lambda: model.closed == 1, "the model's stream was closed")
    expect(answers(page)).to_contain_text("Stopped.")
    kept = answers(page).locator(".prose").inner_text()
    assert "word3." in kept and "word150." not in kept
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_focused()
    ask(page, "Once more")
    expect(answers(page).nth(1)).to_contain_text("Fresh.")
    assert contents(model)[1] == ("assistant", kept)


def test_regenerating_keeps_the_earlier_answer_as_a_version(chat: Any) -> None:
    page, model = chat("First answer.", "Second answer.")
    ask(page, "Choose")
    expect(answers(page)).to_contain_text("First answer.")
    page.get_by_role("button", name="Regenerate").click()
    expect(answers(page)).to_contain_text("Second answer.")
    assert contents(model) == [("user", "Choose")]
    expect(answers(page)).to_contain_text("2 of 2")
    page.get_by_role("button", name="Previous version").click()
    expect(answers(page)).to_contain_text("First answer.")
    expect(page.get_by_role("button", name="Previous version")).to_be_disabled()


def test_an_edited_question_is_asked_anew_and_the_old_branch_stays(chat: Any) -> None:
    page, model = chat("About cats.", "Cats again.", "About dogs.")
    ask(page, "Cats?")
    expect(answers(page)).to_contain_text("About cats.")
    ask(page, "More?")
    expect(answers(page)).to_have_count(2)
    page.locator("article.user").first.hover()
    page.get_by_role("button", name="Edit message").first.click()
    editor = page.get_by_role("textbox", name="Edit message")
    expect(editor).to_be_focused()
    editor.fill("Dogs?")
    editor.press("Enter")
    expect(answers(page)).to_have_text(re.compile("About dogs."))
    assert contents(model) == [("user", "Dogs?")]
    page.get_by_role("button", name="Previous version").click()
    expect(answers(page)).to_have_count(2)
    expect(answers(page).nth(1)).to_contain_text("Cats again.")


def test_the_keyboard_starts_a_line_edits_the_last_message_and_gives_up(chat: Any) -> None:
    page, model = chat("Fine.")
    box = page.get_by_role("textbox", name="Message", exact=True)
    expect(box).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(answers(page)).to_contain_text("Fine.")
    assert contents(model) == [("user", "one\ntwo")]
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("textbox", name="Edit message")).to_have_value("one\ntwo")
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Edit message")).to_have_count(0)
    expect(box).to_be_focused()
    assert len(model.requests) == 1


def test_a_reload_keeps_the_conversation_and_what_had_arrived(chat: Any) -> None:
    page, model = chat("Kept.", LONG, delay=0.02)
    ask(page, "Remember")
    expect(answers(page).locator(".stats")).to_contain_text("context")
    ask(page, "Longer")
    expect(answers(page).nth(1)).to_contain_text("word9.")
    page.reload()
    expect(answers(page)).to_have_count(2)
    expect(answers(page).first).to_contain_text("Kept.")
    expect(answers(page).nth(1)).to_contain_text("word9.")
    wait_until(lambda: model.closed == 1, "the generation of the page that went away was closed")


def test_conversations_are_searched_renamed_and_deleted(chat: Any) -> None:
    page, _ = chat("The Thames is a river.", "Crème brûlée is sweet.")
    library = page.get_by_role("navigation", name="Conversations")
    ask(page, "London")
    expect(answers(page)).to_contain_text("Thames")
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    ask(page, "Dessert")
    expect(answers(page)).to_contain_text("sweet")
    expect(library.locator(".entry")).to_have_text(["Dessert", "London"])
    search = page.get_by_role("searchbox", name="Search conversations")
    search.fill("BRULEE")
    expect(library.locator(".entry")).to_have_text(["Dessert"])
    search.fill("")
    page.get_by_role("button", name="London", exact=True).click()
    expect(answers(page)).to_contain_text("Thames")
    page.get_by_role("button", name="Rename “London”").click()
    page.get_by_role("textbox", name="Title").fill("Rivers")
    page.keyboard.press("Enter")
    expect(library.locator(".entry")).to_have_text(["Dessert", "Rivers"])
    page.get_by_role("button", name="Rivers", exact=True).hover()
    page.get_by_role("button", name="Delete “Rivers”").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(library.locator(".entry")).to_have_count(2)
    page.get_by_role("button", name="Delete “Rivers”").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(library.locator(".entry")).to_have_text(["Dessert"])
    expect(answers(page)).to_have_count(0)
    page.reload()
    expect(library.locator(".entry")).to_have_text(["Dessert"])


def test_an_exported_file_brings_the_conversations_back_elsewhere(chat: Any, tmp_path: Path) -> None:
    page, _ = chat("Carried *over*.")
    ask(page, "Pack")
    expect(answers(page).locator(".stats")).to_contain_text("context")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "conversations.json"
    download.value.save_as(file)
    assert len(json.loads(file.read_text())["conversations"]) == 1

    page, _ = chat("Unused.")
    page.get_by_label("File of conversations").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("One conversation imported.")
    page.get_by_role("button", name="Pack", exact=True).click()
    expect(answers(page).locator("em")).to_have_text("over")
    file.write_text('{"format": "octavo-conversations", "version": 1, "conversations": [{"id": "<b>"}]}')
    page.get_by_label("File of conversations").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("wrong “id”")


def test_settings_reach_the_model_and_wrong_ones_do_not(chat: Any) -> None:
    page, model = chat("Aye.", "Aye.")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("textbox", name="System prompt").fill("Speak like a sailor.")
    for name, value in (("Temperature", "0.25"), ("Top p", "0.5"), ("Longest answer", "7"), ("Seed", "11")):
        page.get_by_role("spinbutton", name=name).fill(value)
    page.get_by_role("button", name="Close the settings").click()
    ask(page, "Ahoy")
    expect(answers(page)).to_contain_text("Aye.")
    request = model.requests[0]
    assert contents(model) == [("system", "Speak like a sailor."), ("user", "Ahoy")]
    assert (request.sampling.temperature, request.sampling.top_p, request.max_tokens) == (0.25, 0.5, 7)
    assert request.sampling.seed == 11
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("spinbutton", name="Temperature").fill("3")
    expect(page.get_by_role("dialog", name="Settings")).to_contain_text("It has no effect yet.")
    page.keyboard.press("Escape")
    page.reload()
    ask(page, "Again")
    expect(answers(page)).to_have_count(2)
    wait_until(lambda: len(model.requests) == 2, "the second question arrived")
    assert model.requests[1].sampling.temperature == 0.25


def test_the_picker_chooses_among_the_served_models(serve: Any, visit: Any) -> None:
    models = [ScriptedModel(["From the first."], name="first"), ScriptedModel(["From the second."], name="org/second")]
    server = serve(*models)
    window = visit()
    page = window.go(server.url)
    page.get_by_role("combobox", name="Model").select_option("org/second")
    page.reload()
    ask(page, "Who are you?")
    expect(answers(page)).to_contain_text("From the second.")
    expect(page.get_by_role("article", name="org/second")).to_be_visible()
    assert models[0].requests == []
    window.check(server.url)


def test_a_server_with_a_key_asks_for_it_and_the_tab_keeps_it(serve: Any, visit: Any) -> None:
    server = serve(ScriptedModel(["Welcome in."]), api_key="sesame")
    window = visit()
    window.expected = r"Failed to load resource: .* 401"
    page = window.page
    page.goto(server.url)
    dialog = page.get_by_role("dialog", name="The server asks for a key")
    for key in ("wrong", "sesame"):
        expect(dialog.get_by_role("textbox")).to_be_focused()
        dialog.get_by_role("textbox").fill(key)
        page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    ask(page, "Open")
    expect(answers(page)).to_contain_text("Welcome in.")
    page.reload()
    ask(page, "Still open?")
    expect(answers(page)).to_have_count(2)
    assert "sesame" not in page.evaluate("JSON.stringify({...localStorage})")
    window.check(server.url)


def test_a_refusal_is_shown_in_the_servers_words(serve: Any, visit: Any) -> None:
    def refuse(request: object) -> str:
        raise OctavoError("the prompt has 9000 tokens, the context 8192; shorten it", param="messages")

    server = serve(ScriptedModel([refuse, "Now it fits."]))
    window = visit()
    window.expected = r"Failed to load resource: .* 400"
    page = window.go(server.url)
    ask(page, "Too long")
    expect(page.get_by_role("alert")).to_contain_text("9000 tokens, the context 8192; shorten it.")
    page.get_by_role("button", name="Try again").click()
    expect(answers(page)).to_contain_text("Now it fits.")
    expect(page.get_by_text("of 2")).to_have_count(0)
    window.check(server.url)


def test_a_server_that_went_away_is_said_in_words_and_tried_again(serve: Any, visit: Any) -> None:
    server = serve(ScriptedModel(["Unheard."]))
    window = visit()
    window.expected = r"Failed to load resource: net::ERR_CONNECTION_REFUSED"
    page = window.go(server.url)
    server.stop()
    ask(page, "Anyone?")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer. Start it with “octavo serve”")
    serve(ScriptedModel(["Back again."]), port=int(server.url.rsplit(":", 1)[1]))
    page.get_by_role("button", name="Try again").click()
    expect(answers(page)).to_contain_text("Back again.")
    window.check(server.url)


def test_an_answer_cut_off_by_the_server_says_so_and_keeps_its_words(serve: Any, visit: Any) -> None:
    server = serve(ScriptedModel([LONG], delay=0.02))
    window = visit()
    window.expected = r"Failed to load resource|ERR_INCOMPLETE_CHUNKED_ENCODING"
    page = window.go(server.url)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3.")
    server.stop()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(answers(page)).to_contain_text("word3.")


def test_the_real_models_golden_answer_grows_on_the_page(
    serve: Any, visit: Any, smollm2: Path, golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.generate.local import load

    def pausing(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)  # some frames of the page, which may otherwise show all seven tokens at once
        return step(*arguments, **options)

    expected = golden["greedy"]["chat"]
    with load(str(smollm2)) as model:
        step = model.engine.runner.step
        monkeypatch.setattr(model.engine.runner, "step", pausing)
        server = serve(model)
        window = visit()
        page = window.go(server.url)
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("spinbutton", name="Temperature").fill("0")
        page.keyboard.press("Escape")
        page.evaluate("""() => {
          window.seen = new Set();
          const note = () => seen.add(document.querySelector("article.assistant .prose")?.textContent ?? "");
          new MutationObserver(note).observe(document.body, { childList: true, characterData: true, subtree: true });
        }""")
        ask(page, expected["messages"][0]["content"])
        expect(answers(page).locator(".stats")).to_contain_text("of 8,192")
        assert answers(page).locator(".prose").inner_text() == expected["text_until_eos"]
        seen = page.evaluate("Array.from(seen)")
        assert len(seen) > 3 and all(expected["text_until_eos"].startswith(text) for text in seen)
        window.check(server.url)
        server.stop()
