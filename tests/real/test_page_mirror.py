"""Conversations of the chat page on the server: two browsers with one key see one list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.scripted import ScriptedModel

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

BODY = {"id": "a1", "title": "t", "created": 1, "updated": 5, "tip": None, "settings": {"system": ""}, "messages": []}


def ask(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def titles(page: Page) -> Any:
    return page.locator("#history button.entry")


def mirror(page: Page) -> Any:
    return page.get_by_role("checkbox", name="Keep on the server, too")


def test_two_browsers_with_one_key_see_one_list(serve: Any, visit: Any, tmp_path: Path) -> None:
    server = serve(ScriptedModel(["An answer."]))
    windows = [visit(viewport={"width": 1280, "height": 900}) for _ in range(2)]
    first, second = (window.go(server.url) for window in windows)
    ask(first, "Kept in the browser")
    expect(titles(first)).to_have_text(["Kept in the browser"])
    second.reload()
    expect(titles(second)).to_have_count(0)
    mirror(first).check()
    expect(first.locator("#place")).to_contain_text("on the server")
    mirror(second).check()
    expect(titles(second)).to_have_text(["Kept in the browser"])
    titles(second).first.click()
    expect(second.get_by_role("log")).to_contain_text("An answer.")
    with second.expect_response(lambda answer: answer.request.method == "PUT"):
        ask(second, "And from here")
    first.evaluate("dispatchEvent(new Event('focus'))")
    titles(first).first.click()
    expect(first.get_by_role("log")).to_contain_text("And from here")
    with first.expect_download() as download:
        first.get_by_role("button", name="Export").click()
    exported = json.loads(Path(download.value.path()).read_text())
    assert [entry["title"] for entry in exported["conversations"]] == ["Kept in the browser"]
    titles(first).first.hover()
    first.get_by_role("button", name="Delete “Kept in the browser”").click()
    with first.expect_response(lambda answer: answer.request.method == "DELETE"):
        first.get_by_role("button", name="Delete", exact=True).click()
    second.reload()
    expect(titles(second)).to_have_count(0)
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(exported), encoding="utf-8")
    with second.expect_response(lambda answer: answer.request.method == "PUT"):
        second.locator("#file").set_input_files(path)
    first.reload()
    expect(titles(first)).to_have_text(["Kept in the browser"])
    mirror(first).uncheck()
    first.reload()
    expect(titles(first)).to_have_text(["Kept in the browser"])
    expect(mirror(first)).not_to_be_checked()
    for window in windows:
        window.check(server.url)
