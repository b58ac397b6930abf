"""The chat page among hostile answers, for screen readers, on narrow and on dark screens."""

from __future__ import annotations

import re
from typing import Any

import pytest

from octavo.generate.scripted import ScriptedModel

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg/onload=window.hacked=1><svg><script>window.hacked=1</script></svg>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<style>@import 'https://evil.example/a.css'; body { display: none }</style>",
    "<link rel=stylesheet href=https://evil.example/b.css><base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "![x](https://evil.example/pixel.png) ![y](//evil.example/z.png) ![](data:image/svg+xml,<svg/onload=hacked=1>)",
    "[a](javascript:window.hacked=1) [b](JaVaScRiPt:window.hacked=1) [c](java\tscript:window.hacked=1)",
    "[d](&#106;avascript:window.hacked=1) [e](\\javascript:window.hacked=1) [f](<javascript:window.hacked=1>)",
    "[g](data:text/html,<script>opener.hacked=1</script>) [h](vbscript:x) [i](blob:x) [j](file:///etc/passwd)",
    '[k](https://ok.example/"onmouseover="window.hacked=1) [l](https://ok.example \'x" onclick="window.hacked=1\')',
    "[m](//evil.example) [n](/v1/models) [o](  javascript:window.hacked=1 ) <javascript:window.hacked=1>",
    "[![p](javascript:window.hacked=1)](javascript:window.hacked=1) [<img src=x onerror=hacked=1>](https://ok.example)",
    "```html onload=window.hacked=1\n<script>window.hacked = 1</script>\n```",
    '```"><script>window.hacked=1</script>\nx\n```',
    "| <img src=x onerror=hacked=1> | b |\n|---|---|\n| <script>hacked=1</script> | [c](javascript:hacked=1) |",
    "<a href='javascript:window.hacked=1'>q</a> <form action=https://evil.example><button>r</button></form>",
    "# <img src=x onerror=window.hacked=1>\n> <script>window.hacked=1</script>\n- <svg onload=window.hacked=1>",
    "<!--><script>window.hacked=1</script--> <math><mtext></form><form><style></math><img src onerror=hacked=1>",
    "\u202e<script>window.hacked=1</script> \x00<script\x0c>window.hacked=1</script>",
    'https://evil.example/<script>window.hacked=1</script> http://evil.example"onclick=window.hacked=1',
    "{{constructor.constructor('window.hacked=1')()}} ${window.hacked=1} __proto__ [s](https://ok.example/__proto__)",
]
ALLOWED = {
    *(
        "p",
        "a",
        "br",
        "em",
        "strong",
        "del",
        "code",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
        "div",
    ),
    *("figure", "figcaption", "span", "pre", "button", "svg", "path", "table", "thead", "tbody", "tr", "th", "td"),
}

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest(".unseen, :disabled, option")) continue;
    let behind = element;
    const ground = () => getComputedStyle(behind).backgroundColor;
    while (pixel(ground())[3] < 255 && behind.parentElement) behind = behind.parentElement;
    const levels = [getComputedStyle(element).color, ground()].map((color) => light(pixel(color)));
    const ratio = (Math.max(...levels) + 0.05) / (Math.min(...levels) + 0.05);
    if (ratio < 4.5) found.push([walker.currentNode.data.trim().slice(0, 40), ratio]);
  }
  return found;
}"""

UNNAMED = """() => Array.from(document.querySelectorAll("button, input, select, textarea, a, [tabindex='0']"))
  .filter((e) => e.checkVisibility({ visibilityProperty: true }))
  .filter((e) => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim()))
  .map((e) => e.outerHTML)"""

RICH = (
    "# Head\n\nText with `code`, [a link](https://ok.example/) and **weight**.\n\n> quoted\n\n"
    "```python\n" + "x = 1  # " + "a very long line " * 20 + "\n```\n\n"
    "| a | b | c | d |\n|---|---|---|---|\n| " + " | ".join(["unbreakable" * 4] * 4) + " |\n\n" + "W" * 300
)


def ask(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")


def finished(page: Page, count: int = 1) -> None:
    expect(page.locator("article.assistant .stats").nth(count - 1)).to_contain_text("context")


@pytest.fixture
def chat(serve: Any, visit: Any) -> Any:
    """Open the page: chat(answer, ..., delay=0, **window) -> page. Errors and foreign requests fail the test."""
    windows = []

    def start(*answers: str, delay: float = 0.0, **window: Any) -> Page:
        server = serve(ScriptedModel(answers, delay=delay))
        opened = visit(**window)
        windows.append((opened, server.url))
        page: Page = opened.go(server.url)
        return page

    yield start
    for opened, url in windows:
        opened.check(url)


def test_hostile_answers_stay_text(chat: Any) -> None:
    page = chat(*HOSTILE, "\n\n".join(HOSTILE))
    for number, text in enumerate(HOSTILE):
        ask(page, text)  # the question is as hostile
        finished(page, number + 1)
    ask(page, "All at once")
    finished(page, len(HOSTILE) + 1)
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    log = page.get_by_role("log")
    assert (
        set(
            log.locator(".prose").evaluate_all(
                "all => all.flatMap(e => [...e.querySelectorAll('*')].map(c => c.localName))"
            )
        )
        <= ALLOWED
    )
    attributes = "all => all.flatMap(e => [...e.querySelectorAll('*')].flatMap(c => c.getAttributeNames()))"
    names = set(log.locator(".prose").evaluate_all(attributes))
    assert not {name for name in names if name.startswith("on") or name in ("style", "src", "srcdoc", "action")}
    links = log.locator("a").evaluate_all("all => all.map(a => [a.protocol, a.rel, a.target])")
    assert links and all(
        link in (["https:", "noopener noreferrer", "_blank"], ["http:", "noopener noreferrer", "_blank"])
        for link in links
    )
    assert page.locator("article.user .words").first.inner_text() == HOSTILE[0]
    page.reload()
    expect(page.locator("article.assistant")).to_have_count(len(HOSTILE) + 1)
    assert page.evaluate("window.hacked") is None


def test_the_policy_forbids_what_the_renderer_would_never_do(serve: Any, visit: Any) -> None:
    server = serve(ScriptedModel(["unused"]))
    window = visit()
    window.expected = "Content Security Policy"
    page = window.go(server.url)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hacked = 1'}))")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://evil.example/a.png'}))")
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.body.style.color") == ""


def test_every_part_has_its_role_and_name(chat: Any) -> None:
    page = chat("First sentence. Second sentence.", RICH)
    expect(page.get_by_role("log", name="Conversation")).to_be_visible()
    expect(page.get_by_role("main")).to_be_visible()
    expect(page.get_by_role("navigation", name="Conversations")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    for name in ("Send", "New chat", "Settings", "Dark theme", "Export", "Import"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    ask(page, "Speak")
    finished(page)
    expect(page.get_by_role("article", name="You")).to_be_visible()
    expect(page.get_by_role("article", name="scripted")).to_have_attribute("aria-busy", "false")
    expect(page.locator("[aria-live=polite] p")).to_have_text(["First sentence.", "Second sentence."])
    ask(page, "More")
    finished(page, 2)
    expect(page.get_by_role("button", name="Copy code")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    assert page.evaluate(UNNAMED) == []
    page.get_by_role("button", name="Settings").click()
    assert page.evaluate(UNNAMED) == []


def test_code_is_copied_as_it_is(chat: Any) -> None:
    page = chat("```py\nif a < b:\n    print('*x*')\n```", permissions=["clipboard-read", "clipboard-write"])
    ask(page, "Code")
    finished(page)
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "if a < b:\n    print('*x*')"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(chat: Any, scheme: str) -> None:
    page = chat(RICH, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    ask(page, "Show")
    finished(page)
    page.get_by_role("button", name="Regenerate").click()
    finished(page)
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("spinbutton", name="Seed").fill("-1")
    assert page.evaluate(CONTRAST) == []


def test_the_theme_follows_the_system_until_it_is_chosen(chat: Any) -> None:
    page = chat("unused", color_scheme="dark")
    toggle = page.get_by_role("button", name="Dark theme")
    background = "getComputedStyle(document.body).backgroundColor"
    expect(toggle).to_have_attribute("aria-pressed", "true")
    dark = page.evaluate(background)
    page.emulate_media(color_scheme="light")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    light = page.evaluate(background)
    assert light != dark
    toggle.click()
    assert page.evaluate(background) == dark
    page.reload()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(background) == dark


@pytest.mark.parametrize("width", [320, 640])
def test_narrow_screens_and_zoom_need_no_sideways_scrolling(chat: Any, width: int) -> None:
    page = chat(RICH, viewport={"width": width, "height": 400})
    ask(page, "A question of " + "W" * 200)
    finished(page)
    wide = (
        "document.scrollingElement.scrollWidth > innerWidth || document.querySelector('#log').scrollWidth > innerWidth"
    )
    assert page.evaluate(wide) is False
    menu = page.get_by_role("button", name="Conversations")
    expect(page.get_by_role("button", name="New chat")).to_be_hidden()
    menu.click()
    expect(page.get_by_role("button", name="New chat")).to_be_focused()
    assert page.evaluate(wide) is False
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="New chat")).to_be_hidden()
    expect(menu).to_be_focused()
    page.get_by_role("button", name="Settings").click()
    assert page.evaluate("document.querySelector('#settings').scrollWidth > innerWidth") is False


def test_nothing_moves_for_those_who_asked_for_less_motion(chat: Any) -> None:
    page = chat("word " * 60, delay=0.02, reduced_motion="reduce")
    ask(page, "Go on")
    expect(page.locator("article.assistant .prose")).to_contain_text("word")
    assert page.evaluate("document.getAnimations({ subtree: true }).length") == 0
    page.keyboard.press("Escape")
    expect(page.locator("article.assistant")).to_contain_text("Stopped.")


def test_the_log_follows_the_answer_until_the_reader_scrolls_up(chat: Any) -> None:
    page = chat("line\n\n" * 150, delay=0.005, viewport={"width": 900, "height": 500})
    log = page.get_by_role("log")
    ask(page, "Many lines")
    latest = page.get_by_role("button", name="Jump to the latest")
    at_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight < 60"
    expect(page.locator("article.assistant p").nth(40)).to_be_attached()
    assert log.evaluate(at_end)
    log.evaluate("e => e.scrollTop = 0")
    expect(latest).to_be_visible()
    finished(page)
    assert log.evaluate("e => e.scrollTop") == 0
    latest.click()
    assert log.evaluate(at_end)


def test_an_answer_goes_on_while_another_conversation_is_shown(chat: Any) -> None:
    page = chat(" ".join(f"word{n}" for n in range(80)), "Short.", delay=0.02)
    ask(page, "Long one")
    expect(page.locator("article.assistant")).to_contain_text("word2")
    page.get_by_role("button", name="New chat").click()
    ask(page, "Short one")
    expect(page.locator("article.assistant")).to_contain_text("Short.")
    page.get_by_role("button", name=re.compile("^Long one")).click()
    expect(page.locator("article.assistant")).to_contain_text("word79")
    expect(page.locator("article.assistant")).not_to_contain_text("Short.")
