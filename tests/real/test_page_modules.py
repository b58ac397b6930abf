"""The page's pure modules, run in a real browser: the event parser, the Markdown renderer, the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from octavo.generate.scripted import ScriptedModel

Run = Callable[..., Any]

EVENTS = (
    ": ping\r\n\r\n"
    'data: {"text": "één €"}\n\n'
    "event: note\rdata: two\rdata: lines 🙂\r\r"
    "id: 7\r\ndata:bare\r\n\r\n"
    "data\n\n"
    "data: never ended"
)
EXPECTED_EVENTS = [
    ["message", '{"text": "één €"}', ""],
    ["note", "two\nlines 🙂", ""],
    ["message", "bare", "7"],
    ["message", "", "7"],
]

MARKDOWN = [
    ("a *b* **c** ***d***", "<p>a <em>b</em> <strong>c</strong> <em><strong>d</strong></em></p>"),
    ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
    ("**bold *both* bold**", "<p><strong>bold <em>both</em> bold</strong></p>"),
    ("`a*b*` and ``x`y``", "<p><code>a*b*</code> and <code>x`y</code></p>"),
    ("`` ` `` and ` `", "<p><code>`</code> and <code> </code></p>"),
    ("~~gone~~ \\*kept\\*", "<p><del>gone</del> *kept*</p>"),
    ("one\ntwo", "<p>one<br>two</p>"),
    ("# One\n\n###### Six ##", "<h3>One</h3><h6>Six</h6>"),
    ("text\n- a\n- b", "<p>text</p><ul><li>a</li><li>b</li></ul>"),
    ("1. a\n   - b\n     - c\n2. d", "<ol><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ol>"),
    ("1. a\n  - b", "<ol><li>a<ul><li>b</li></ul></li></ol>"),
    ("3. c\n4. d", '<ol start="3"><li>c</li><li>d</li></ol>'),
    ("- a\n\n  more\n\n- b", "<ul><li>a<p>more</p></li><li>b</li></ul>"),
    ("It was\n1986. A year.", "<p>It was<br>1986. A year.</p>"),
    ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    ("a\n\n---\n\n* * *", "<p>a</p><hr><hr>"),
    ("<b>&lt;</b> &amp; &#x41;", "<p>&lt;b&gt;&lt;&lt;/b&gt; &amp; A</p>"),
    ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ("[[1]] a[0](b)", "<p>[[1]] a[0](b)</p>"),
]

PREFIXED = """# Title with `code`

A paragraph with **bold *and* it**, [a link](https://example.org/a_(b) "t"), https://example.org/x.
Second line.

- one
  - two **three**

    still two
- four
1. five

> quote
> - inside
lazy

```js
const a = "`*_";

```
| a | b |
|---|:-:|
| `x` | ~~y~~ |
after
***
~~~
unclosed *code*
"""

LINKS = """[a](https://a.example/) <mailto:b@b.example> ![pic](https://c.example/p.png) https://d.example/x_(y).
[q](http://e.example/?a=1&amp;b=2)"""

STRUCTURE = """text => {
  const host = document.createElement("div");
  host.append(renderMarkdown(text));
  host.querySelectorAll("button").forEach((button) => button.remove());
  return host.innerHTML;
}"""


@pytest.fixture
def run(serve: Any, visit: Any) -> Any:
    """run(module, names, script, argument): call a JavaScript function that sees these names of a module."""
    server = serve(ScriptedModel(["unused"]))
    window = visit()
    page = window.go(server.url)

    def call(module: str, names: str, script: str, argument: Any = None) -> Any:
        body = f"async argument => {{ const {{{names}}} = await import('/{module}'); return ({script})(argument); }}"
        return page.evaluate(body, argument)

    yield call
    window.check(server.url)


def test_events_are_the_same_wherever_the_bytes_are_split(run: Run) -> None:
    script = """([text]) => {
      const bytes = new TextEncoder().encode(text);
      const parse = (parts) => {
        const parser = new EventParser();
        return parts.flatMap((part) => parser.push(part)).map(({ event, data, id }) => [event, data, id]);
      };
      const results = [parse([bytes]), parse(Array.from(bytes, (byte) => Uint8Array.of(byte)))];
      for (let at = 0; at <= bytes.length; at++) results.push(parse([bytes.subarray(0, at), bytes.subarray(at)]));
      return results;
    }"""
    results = run("sse.js", "EventParser", script, [EVENTS])
    assert len(results) == len(EVENTS.encode()) + 3
    for events in results:
        assert events == EXPECTED_EVENTS


def test_a_byte_order_mark_before_the_first_event_is_dropped(run: Run) -> None:
    script = "bytes => new EventParser().push(Uint8Array.from(bytes)).map(({ data }) => data)"
    assert run("sse.js", "EventParser", script, list("\ufeffdata: x\n\n".encode())) == ["x"]


def test_markdown_becomes_the_structure_that_commonmark_says(run: Run) -> None:
    results = run(
        "markdown.js", "renderMarkdown", f"texts => texts.map({STRUCTURE})", [source for source, _ in MARKDOWN]
    )
    plain = [result.replace(' start="1"', "") for result in results]
    assert plain == [expected for _, expected in MARKDOWN]


def test_fenced_code_has_its_language_and_keeps_its_text(run: Run) -> None:
    for source in ("```py\n<b> *x*\n\n  y\n```\nafter", "~~~ py title\n<b> *x*\n\n  y\n~~~\nafter"):
        found = run("markdown.js", "renderMarkdown", STRUCTURE, source)
        assert "<figcaption><span>py</span></figcaption>" in found
        assert "<code>&lt;b&gt; *x*\n\n  y</code>" in found and found.endswith("<p>after</p>")
    unclosed = run("markdown.js", "renderMarkdown", STRUCTURE, "```\nrest\n\n# of it")
    assert "<code>rest\n\n# of it</code>" in unclosed and "<h3>" not in unclosed


def test_tables_align_and_fill_missing_cells(run: Run) -> None:
    found = run("markdown.js", "renderMarkdown", STRUCTURE, "| a | b |\n|:-:|--:|\n| 1 |\n| x \\| y | 2 | 3 |\n\nend")
    assert '<th class="center">a</th><th class="right">b</th>' in found
    assert '<td class="center">1</td><td class="right"></td>' in found
    assert '<td class="center">x | y</td><td class="right">2</td></tr></tbody>' in found


def test_links_go_to_web_and_mail_only_and_never_tell_where_from(run: Run) -> None:
    script = """text => {
      const host = document.createElement("div");
      host.append(renderMarkdown(text));
      return Array.from(host.querySelectorAll("*"), (e) => [e.localName, e.href, e.rel, e.textContent])
        .filter(([name]) => name !== "p" && name !== "br");
    }"""
    assert run("markdown.js", "renderMarkdown", script, LINKS) == [
        ["a", "https://a.example/", "noopener noreferrer", "a"],
        ["a", "mailto:b@b.example", "noopener noreferrer", "mailto:b@b.example"],
        ["a", "https://c.example/p.png", "noopener noreferrer", "Image: pic"],
        ["a", "https://d.example/x_(y)", "noopener noreferrer", "https://d.example/x_(y)"],
        ["a", "http://e.example/?a=1&b=2", "noopener noreferrer", "q"],
    ]


def test_a_growing_text_ends_as_the_whole_and_keeps_its_settled_nodes(run: Run) -> None:
    script = """text => {
      const growing = document.createElement("div");
      const view = new MarkdownView(growing);
      const problems = [];
      let title = null;
      for (let end = 1; end <= text.length; end++) {
        view.update(text.slice(0, end), end < text.length);
        if (end === 30) title = growing.firstChild;
        const whole = document.createElement("div");
        new MarkdownView(whole).update(text.slice(0, end), end < text.length);
        if (whole.innerHTML !== growing.innerHTML) problems.push([end, whole.innerHTML, growing.innerHTML]);
      }
      if (growing.firstChild !== title) problems.push("the heading was replaced");
      return problems.slice(0, 3);
    }"""
    assert run("markdown.js", "MarkdownView", script, PREFIXED) == []
    assert run("markdown.js", "MarkdownView", script, PREFIXED.replace("\n", "\r\n")) == []


def test_a_text_grows_and_is_shown_again_around_its_citations(run: Run) -> None:
    script = """async ([steps, citation]) => {
      const { linkMarks } = await import("/citations.js");
      const body = document.createElement("div");
      const view = new MarkdownView(body);
      return steps.map(([text, marks, open]) => {
        view.update(text, open);
        linkMarks(body, Array(marks).fill(citation));
        return [body.textContent, body.querySelectorAll("button.mark").length];
      });
    }"""
    citation = {"number": 1, "file": "f", "collection": "c", "name": "a.md", "start": 0, "end": 1}
    citation |= {"page": None, "line": 1}
    one, two = "They eat weed [1].", "They eat weed [1]. They nest [1]."
    steps = [[one[:-1], 1, True], [one, 1, True], [two, 2, True], [two, 2, False], [two, 2, False]]
    expected = [["They eat weed 1", 1], ["They eat weed 1.", 1]] + 3 * [["They eat weed 1. They nest 1.", 2]]
    assert run("markdown.js", "MarkdownView", script, [steps, citation]) == expected


def test_marks_that_are_not_closed_yet_do_not_flash_up(run: Run) -> None:
    script = """texts => texts.map((text) => {
      const host = document.createElement("div");
      new MarkdownView(host).update(text, true);
      return host.innerHTML;
    })"""
    assert run("markdown.js", "MarkdownView", script, ["a **b", "a **", "a [b](http://x", "a `b", "a\n-"]) == [
        "<p>a <strong>b</strong></p>",
        "<p>a </p>",
        "<p>a b</p>",
        "<p>a <code>b</code></p>",
        "<p>a</p>",
    ]


def test_no_text_takes_the_renderer_long(run: Run) -> None:
    script = """text => {
      const start = performance.now();
      const host = document.createElement("div");
      new MarkdownView(host).update(text, true);
      new MarkdownView(host).update(text);
      return performance.now() - start;
    }"""
    units = ["*a ", "**a** ", "*a **b ", "[", "[a](", "![", "`", "`` ", "<", "&", "> ", "- ", "\\", "_a_", "~~", "h"]
    units += ["*", "_", "1. ", "# ", "\t- ", "| ", "|-", "<a:", "https://", "&#", "a\n", "#"]
    texts = [unit * 20_000 for unit in units] + ["*a " * 9000 + "a* " * 9000, "*" * 20_000 + "a" + "*" * 20_000]
    texts += ["[" * 9000 + "](x)" * 9000, "> " * 300 + "a\n" + "- " * 300 + "b", "|a" * 3000 + "\n" + "|-" * 3000]
    texts += ["".join("`" * length + " " for length in range(300)), "- a\n" * 5000, "> a\nb\n" * 5000]

    def spent(text: str) -> float:
        return run("markdown.js", "MarkdownView", script, text)

    # A busy machine makes anything slow; but only what is worse than linear takes tenfold for four times the text.
    slow = {
        text[:20]: took for text in texts if (took := spent(text)) > 5000 and took > 10 * spent(text[: len(text) // 4])
    }
    assert slow == {}


def test_a_stored_conversation_that_is_damaged_is_left_alone(run: Run) -> None:
    script = """() => {
      localStorage.setItem("octavo.conversation.bad", "{not json");
      const store = new Store();
      store.save(newConversation(defaultSettings()));
      const again = new Store();
      return [again.unreadable, again.list().length, localStorage.getItem("octavo.conversation.bad")];
    }"""
    assert run("store.js", "Store, newConversation, defaultSettings", script) == [1, 1, "{not json"]


def test_a_full_storage_is_told_in_a_sentence(run: Run) -> None:
    script = """() => {
      const conversation = newConversation(defaultSettings());
      addMessage(conversation, null, "user", "x".repeat(6_000_000));
      try { new Store().save(conversation); } catch (error) { return error.message; }
    }"""
    message = run("store.js", "Store, newConversation, defaultSettings, addMessage", script)
    assert message == "The browser's storage is full. Export your conversations, then delete some."


def test_of_two_copies_the_later_one_stays_and_a_wrong_file_changes_nothing(run: Run) -> None:
    names = "Store, newConversation, defaultSettings, addMessage"
    make = """() => {
      const store = new Store();
      const conversation = newConversation(defaultSettings());
      addMessage(conversation, null, "user", "hello");
      store.save(conversation);
      return store.exportAll();
    }"""
    text = run("store.js", names, make)
    load = "text => { try { return new Store().importAll(text); } catch (error) { return error.message; } }"
    assert run("store.js", names, load, text) == 0
    later = json.loads(text)
    later["conversations"][0]["updated"] += 1
    assert run("store.js", names, load, json.dumps(later)) == 1
    for path, value in (("role", "system"), ("content", 3), ("parent", "nobody"), ("id", "a/b"), ("created", None)):
        wrong = json.loads(text)
        wrong["conversations"][0]["updated"] += 2
        wrong["conversations"][0]["messages"][0][path] = value
        answer = run("store.js", names, load, json.dumps(wrong))
        assert isinstance(answer, str) and answer.endswith("."), (path, answer)
    assert run("store.js", names, load, "[]") == "This file holds no conversations exported from Octavo."
    assert run("store.js", names, "() => new Store().list()[0].updated") == later["conversations"][0]["updated"]


def test_a_screen_reader_hears_sentences_not_tokens(run: Run) -> None:
    script = """text => {
      const region = document.createElement("div");
      const said = [];
      new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach(
        (node) => said.push(node.textContent)))).observe(region, { childList: true });
      const speaker = new Speaker(region);
      for (const character of text) speaker.add(character);
      speaker.finish();
      return new Promise((resolve) => setTimeout(() => resolve(said), 0));
    }"""
    text = "It **costs** 3.50 euro. Really?\n\n```py\nx = 1. \n```\n- See [this](https://x.example)"
    assert run("speech.js", "Speaker", script, text) == [
        "It costs 3.50 euro.",
        "Really?",
        "Code follows.",
        "- See this",
    ]
