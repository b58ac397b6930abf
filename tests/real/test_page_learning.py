"""What the page shows of a model at work: thoughts, calls, probabilities, forms; and what readers think of answers."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from octavo.generate.scripted import ScriptedModel

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture
def opened(serve: Any, visit: Any) -> Any:
    """Open the page on a model that says this: opened(*answers) -> (page, model, url)."""
    windows = []

    def start(*script: Any) -> tuple[Page, ScriptedModel, str]:
        model = ScriptedModel(script)
        server = serve(model)
        window = visit()
        windows.append((window, server.url))
        return window.go(server.url), model, server.url

    yield start
    for window, url in windows:
        window.check(url)


def ask(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")


def answers(page: Page) -> Any:
    return page.get_by_role("log").locator("article.assistant")


def adjust(page: Page, **fields: str) -> None:
    page.get_by_role("button", name="Settings").click()
    for name, value in fields.items():
        page.get_by_role("textbox", name=name).fill(value)
    page.get_by_role("button", name="Close the settings").click()


def test_a_call_is_shown_and_the_model_goes_on_from_the_result(opened: Any) -> None:
    page, model, _ = opened(CALL, "It is cold in Oslo.")
    adjust(page, Tools='[{"name": "weather", "parameters": {"type": "object"}}]')
    ask(page, "What is the weather?")
    expect(answers(page).locator(".call")).to_contain_text("Calls weather")
    expect(answers(page).locator(".call pre")).to_contain_text('"city": "Oslo"')
    page.reload()
    page.get_by_role("textbox", name="Result of weather").fill("3 degrees")
    page.get_by_role("button", name="Give result").click()
    expect(answers(page).nth(1)).to_contain_text("It is cold in Oslo.")
    expect(page.get_by_role("article", name="Result")).to_contain_text("3 degrees")
    expect(page.get_by_role("button", name="Give result")).to_have_count(0)
    said = str(model.requests[1].prompt)
    assert "Oslo" in said and "<tool_response>\\n3 degrees" in said
    page.reload()
    expect(answers(page)).to_have_count(2)


def test_a_form_holds_answers_and_a_wrong_one_has_no_effect(opened: Any) -> None:
    page, model, _ = opened('{"city": "Oslo"}', "free")
    adjust(page, **{"Form of the answers": '{"type": "object"}'})
    ask(page, "Name a city")
    expect(answers(page)).to_contain_text("Oslo")
    assert model.requests[0].constraint.schema == {"type": "object"}
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("textbox", name="Form of the answers").fill("{not json")
    expect(page.get_by_role("dialog", name="Settings")).to_contain_text("It has no effect yet.")


def test_probabilities_are_seen_by_pointing_and_by_keys(opened: Any) -> None:
    page, model, _ = opened("red and blue")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("checkbox", name="Show how likely each word was").check()
    page.get_by_role("button", name="Close the settings").click()
    ask(page, "Colours?")
    expect(answers(page)).to_contain_text("red and blue")
    assert model.requests[0].logprobs == 5
    toggle = answers(page).get_by_role("button", name="How likely each word was")
    toggle.click()
    expect(answers(page).locator(".token")).to_have_count(3)
    answers(page).locator(".token").nth(1).hover()
    expect(answers(page).locator(".told li.chosen code")).to_have_text("␣and")
    expect(answers(page).locator(".told")).to_contain_text("%")
    answers(page).locator(".line").focus()
    page.keyboard.press("ArrowRight")
    expect(answers(page).locator(".told li.chosen code")).to_have_text("red")
    toggle.click()
    expect(answers(page).locator(".prose")).to_be_visible()
    expect(answers(page).locator(".tokens")).to_have_count(0)


def test_thumbs_are_kept_by_the_server_and_taken_back(opened: Any) -> None:
    page, _, url = opened("red", "table")
    ask(page, "Name a colour")
    answers(page).get_by_role("button", name="Good answer").click()
    expect(answers(page).get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    answers(page).get_by_role("button", name="Regenerate").click()
    expect(answers(page)).to_contain_text("table")
    answers(page).get_by_role("button", name="Bad answer").click()
    expect(answers(page).get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("async () => (await (await fetch('v1/feedback')).json()).data.length === 2")
    (row,) = (json.loads(line) for line in httpx2.get(f"{url}/v1/feedback/export").text.splitlines())
    assert row["prompt"] == [{"role": "user", "content": "Name a colour"}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("red", "table")
    page.reload()
    pressed = answers(page).get_by_role("button", name="Bad answer")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    pressed.click()
    expect(pressed).to_have_attribute("aria-pressed", "false")
    page.wait_for_function("async () => (await (await fetch('v1/feedback')).json()).data.length === 1")


def test_thoughts_are_folded_before_the_answer(opened: Any) -> None:
    page, _, _ = opened("so so</think>Four.")
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            content_type="text/event-stream",
            body="".join(
                f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': reason}]})}\n\n"
                for delta, reason in (
                    ({"reasoning_content": "Two and two"}, None), ({"content": "Four."}, None), ({}, "stop"),
                )
            ) + "data: [DONE]\n\n",
        ),
    )  # fmt: skip
    ask(page, "2 + 2?")
    expect(answers(page).locator(".prose")).to_have_text("Four.")
    expect(answers(page).get_by_text("Two and two")).to_be_hidden()
    answers(page).get_by_text("Thoughts").click()
    expect(answers(page).get_by_text("Two and two")).to_be_visible()
