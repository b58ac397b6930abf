"""The page's documents panel in a real browser: drop, index, ask, follow a citation to its passage, delete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.scripted import ScriptedModel
from octavo.serve.documents.served import ServedFolder

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

DUCKS = (
    "# Ducks 🦆\n\n"
    + "Filler 🦆 line.\n\n" * 80
    + "Mallards eat weed and snails.\nThey nest in the reeds.\n\n"
    + "More.\n\n" * 80
)
SAID = "Mallards eat weed and snails [1]. They nest in the reeds [1]."
DROP = """
([name, text]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], name));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.querySelector("main").dispatchEvent(
      new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}
"""


@pytest.fixture
def open_page(serve: Any, visit: Any, tmp_path: Path) -> Any:
    """Open the page on a server that says this: open_page(*answers, folders=(), **window) -> page."""
    windows = []

    def start(*script: Any, folders: Any = (), api_key: str | None = None, **window: Any) -> Page:
        server = serve(
            ScriptedModel(script or [SAID]), state_path=tmp_path / "s.sqlite3", folders=folders, api_key=api_key
        )
        opened = visit(**window)
        windows.append((opened, server.url))
        opened.expected = "404|401"  # a browser logs what it was refused
        if api_key is None:
            return opened.go(server.url)
        opened.page.goto(server.url)
        return opened.page

    yield start
    for opened, url in windows:
        opened.check(url)


def panel(page: Page) -> Any:
    return page.get_by_role("dialog", name="Documents")


def drop(page: Page, name: str, text: str) -> None:
    page.evaluate(DROP, [name, text])
    expect(panel(page)).to_contain_text("All documents are indexed.")


def ask(page: Page, text: str) -> Any:
    if panel(page).is_visible():
        page.keyboard.press("Escape")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")
    return page.get_by_role("log").locator("article.assistant").last


def test_dropped_files_are_asked_and_a_citation_opens_its_passage(open_page: Any) -> None:
    page = open_page()
    drop(page, "ducks.md", DUCKS)
    expect(panel(page).get_by_role("checkbox", name="My documents")).to_be_checked()
    expect(panel(page)).to_contain_text("1 document")
    answer = ask(page, "What do mallards eat, and where do they nest?")
    expect(page.get_by_role("button", name="Asks My documents")).to_be_visible()
    marks = answer.get_by_role("button", name="Source 1: ducks.md, line 163")
    expect(marks).to_have_count(1)
    expect(answer.locator("button.mark")).to_have_count(2)
    expect(answer.get_by_role("region", name="Sources").get_by_role("listitem")).to_have_count(2)
    expect(answer.locator(".stats")).not_to_contain_text("tokens/s")
    answer.locator("button.mark").nth(1).click()
    passage = page.get_by_role("dialog", name="ducks.md")
    start = DUCKS.index("They nest")
    expect(passage).to_contain_text(f"line 164, characters {start} to {start + len('They nest in the reeds.')}")
    expect(passage.locator("mark")).to_have_text("They nest in the reeds.")
    expect(passage.locator("mark")).to_be_in_viewport()
    assert passage.locator(".text-of").evaluate("element => element.textContent").strip() == DUCKS.strip()
    page.keyboard.press("Escape")
    expect(passage).to_be_hidden()
    expect(answer.locator("button.mark").nth(1)).to_be_focused()
    page.reload()
    page.locator("article.assistant button.mark").first.click()
    expect(page.get_by_role("dialog", name="ducks.md").locator("mark")).to_have_text("Mallards eat weed and snails.")


def test_a_deleted_document_is_gone_and_its_citation_still_says_what_it_said(open_page: Any) -> None:
    page = open_page(SAID, SAID)
    drop(page, "ducks.md", DUCKS)
    expect(ask(page, "What do mallards eat?").locator("button.mark").first).to_be_visible()
    page.get_by_role("button", name="Documents", exact=True).click()
    panel(page).get_by_role("button", name="Delete “ducks.md”").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(panel(page).get_by_role("button", name="ducks.md", exact=True)).to_have_count(0)
    page.keyboard.press("Escape")
    page.locator("button.mark").first.click()
    passage = page.locator("#passage")
    expect(passage.locator("mark")).to_have_text("Mallards eat weed and snails.")
    expect(passage).to_contain_text("This document is not there any more.")
    page.keyboard.press("Escape")
    expect(ask(page, "And now?")).to_contain_text("The documents do not answer this.")


def test_a_served_folder_is_asked_and_not_changed(open_page: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    folder = tmp_path / "birds"
    folder.mkdir()
    (folder / "ducks.md").write_text(DUCKS)
    page = open_page(folders=(ServedFolder(folder, "Birds", quiet=True),))
    page.get_by_role("button", name="Documents", exact=True).click()
    panel(page).get_by_text("1 document").click()
    expect(panel(page).get_by_role("button", name="ducks.md", exact=True)).to_be_visible()
    expect(panel(page).get_by_role("button", name="Delete “ducks.md”")).to_have_count(0)
    panel(page).get_by_role("checkbox", name="Birds").check()
    expect(ask(page, "What do mallards eat?").locator("button.mark").first).to_be_visible()
    page.get_by_role("button", name="Asks Birds").click()
    panel(page).get_by_role("checkbox", name="Birds").uncheck()
    expect(ask(page, "Hello?").locator(".prose")).to_contain_text("[1]")


def test_a_file_that_cannot_be_read_says_why(open_page: Any) -> None:
    page = open_page()
    page.evaluate(DROP, ["broken.pdf", "%PDF-1.7 no"])
    expect(panel(page)).to_contain_text("It is broken")
    expect(panel(page)).to_contain_text("1 could not be read")
    expect(panel(page).get_by_role("button", name="broken.pdf", exact=True)).to_be_disabled()


def test_a_hostile_document_is_text(open_page: Any) -> None:
    name = "<img src=x onerror=hacked=1>.md"
    hostile = "<script>hacked=1</script> <img src=https://evil.example/x onerror=hacked=1> mallards eat weed"
    page = open_page(f"{hostile} [1].")
    drop(page, name, hostile)
    answer = ask(page, "What do mallards eat?")
    answer.locator("button.mark").first.click()
    expect(page.locator("#passage mark")).to_contain_text("<script>hacked=1</script>")
    expect(page.locator("#passage")).to_contain_text(name)
    assert page.evaluate("window.hacked") is None


def test_a_server_with_a_key_is_asked_with_it(open_page: Any) -> None:
    page = open_page(api_key="secret")
    page.get_by_label("It is kept until this tab is closed.").fill("secret")
    page.get_by_role("button", name="Use key").click()
    page.get_by_role("combobox", name="Model").locator("option").first.wait_for(state="attached")
    drop(page, "ducks.md", DUCKS)
    expect(ask(page, "What do mallards eat?").locator("button.mark").first).to_be_visible()


@pytest.mark.parametrize("window", [{"viewport": {"width": 320, "height": 640}}, {"color_scheme": "dark"}, {}])
def test_it_fits_narrow_screens_works_by_keyboard_and_has_no_known_barrier(open_page: Any, window: Any) -> None:
    page = open_page(**window)
    drop(page, "a-file-with-quite-a-long-name-that-does-not-fit-on-a-telephone.md", DUCKS)
    check_barriers(page)
    page.keyboard.press("Escape")
    answer = ask(page, "What do mallards eat?")
    expect(answer.locator("button.mark").first).to_be_visible()
    check_barriers(page)
    answer.locator("button.mark").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#passage mark")).to_be_in_viewport()
    check_barriers(page)
    for element in (
        "document.documentElement",
        "document.querySelector('#passage')",
        "document.querySelector('#documents')",
    ):
        assert page.evaluate(f"{element}.scrollWidth <= {element}.clientWidth"), element


def check_barriers(page: Page) -> None:
    """No violation that axe-core finds, where OCTAVO_TEST_AXE names its script."""
    script = os.environ.get("OCTAVO_TEST_AXE")
    if script:
        page.evaluate(Path(script).read_text())
        found = page.evaluate("axe.run()")
        assert [(row["id"], row["nodes"][0]["html"]) for row in found["violations"]] == []
