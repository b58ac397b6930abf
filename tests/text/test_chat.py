"""Chat templates: the same strings as `transformers`, inside a sandbox that nothing leaves and nothing overruns."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.text.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = """{% if messages[0]['role'] == 'system' %}
  {% set loop_messages = messages[1:] %}
  {% set system_message = messages[0]['content'] %}
{% else %}
  {% set loop_messages = messages %}
  {% set system_message = false %}
{% endif %}
{% for message in loop_messages %}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {%- endif %}
  {%- if loop.index0 == 0 and system_message != false %}
    {%- set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
  {%- else %}
    {%- set content = message['content'] %}
  {%- endif %}
  {%- if message['role'] == 'user' %}
    {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
  {%- elif message['role'] == 'assistant' %}
    {{- ' ' + content.strip() + ' ' + eos_token }}
  {%- endif %}
{%- endfor %}"""
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- endif %}
{%- endif %}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
CONTROLS = """{%- set ns = namespace(found=false, n=0) -%}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% set ns.n = ns.n + 1 %}{% set ns.text = (ns.text | default('')) ~ message.content ~ '|' %}
    {% if ns.n > 1 %}{% break %}{% endif %}
    {{ loop.index }}/{{ loop.length }} {{ loop.previtem is defined }} {{ '%s-%d' % (message.role, ns.n) }}
    {% generation %}{{ message.content }}{% endgeneration %}
{% endfor %}
{{ ns.text }} {{ messages | map(attribute='role') | unique | join(', ') }} {{ 'a' * 3 }} {{ messages | tojson }}
{%- macro show(x, depth=0) %}{{ '  ' * depth }}{{ x }}
{%- if depth < 3 %}{{ show(x, depth + 1) }}{% endif %}{% endmacro %}
{{ show('é<>&\\'"') }}{{ messages[-1].content.split(' ')[0] | upper }}
{{ "{:>5}".format('x') }} {{ '%s!' | format('y') }}
{% filter upper %}abc{% endfilter %}{% set block %}inside {{ messages | length }}{% endset %}{{ block }}
{{ messages[::-1] | list | length }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}"""
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [
        {"role": "system", "content": "Be terse. <b>'é'</b> 中文"},
        {"role": "user", "content": " List:\n\n1. a "},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "More?"},
    ],
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Ünïcode <b>",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]


def with_template(stories: Path, template: Any) -> Tokenizer:
    original = Tokenizer.from_folder(stories)
    templates = template if isinstance(template, dict) else {"default": template}
    return Tokenizer(original.backend, named=original.named, templates=templates)


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=["short", "long"])
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["plain", "tools"])
@pytest.mark.parametrize(
    "template", [CHATML, LLAMA2, LLAMA3, ZEPHYR, CONTROLS], ids=["chatml", "llama2", "llama3", "zephyr", "controls"]
)
def test_templates_render_as_in_transformers(
    stories: Path, template: str, tools: Any, conversation: list[dict[str, Any]]
) -> None:
    from transformers import AutoTokenizer

    ours, oracle = with_template(stories, template), AutoTokenizer.from_pretrained(stories)
    oracle.chat_template = template
    for add in (True, False):
        expected = oracle.apply_chat_template(conversation, tools=tools, add_generation_prompt=add, tokenize=False)
        assert ours.render(conversation, tools=tools, add_generation_prompt=add) == expected
        ids = oracle.apply_chat_template(conversation, tools=tools, add_generation_prompt=add, return_dict=False)
        assert ours.encode_chat(conversation, tools=tools, add_generation_prompt=add) == ids


@pytest.mark.parametrize("said", ["The capital is", "  The capital is ", "x"])
@pytest.mark.parametrize("template", [CHATML, LLAMA2, LLAMA3, ZEPHYR], ids=["chatml", "llama2", "llama3", "zephyr"])
def test_a_last_message_is_gone_on_with_as_in_transformers(stories: Path, template: str, said: str) -> None:
    from transformers import AutoTokenizer

    oracle = AutoTokenizer.from_pretrained(stories)
    oracle.chat_template = template
    conversation = [{"role": "user", "content": "France?"}, {"role": "assistant", "content": said}]
    expected = oracle.apply_chat_template(conversation, continue_final_message=True, tokenize=False)
    assert with_template(stories, template).render(conversation, continue_final_message=True) == expected
    with pytest.raises(OctavoError, match="no words"):
        with_template(stories, template).render([{"role": "user", "content": " "}], continue_final_message=True)


def test_tool_calls_render_as_in_transformers(stories: Path) -> None:
    from transformers import AutoTokenizer

    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 3}}}
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    ours, oracle = with_template(stories, LLAMA3), AutoTokenizer.from_pretrained(stories)
    oracle.chat_template = LLAMA3
    assert ours.render(messages) == oracle.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert '"city": "Zürich"' in ours.render(messages)


def test_the_shipped_template_renders_the_golden_prompts(smollm2_tokenizer: Tokenizer, golden: dict[str, Any]) -> None:
    assert smollm2_tokenizer.chat_template == golden["chat_template"]
    for name in ("chat", "chat_multi"):
        entry = golden["greedy"][name]
        assert smollm2_tokenizer.render(entry["messages"]) == entry["text"]
        assert smollm2_tokenizer.encode_chat(entry["messages"]) == entry["prompt_ids"]
        assert smollm2_tokenizer.encode(entry["text"]) == entry["prompt_ids"]


def test_a_template_that_prints_bos_gets_no_second_one(stories: Path) -> None:
    tokenizer = with_template(stories, "{{ bos_token }}{{ messages[0].content }}")
    message = [{"role": "user", "content": "Once"}]
    plain = tokenizer.encode("Once", bos=False)
    assert tokenizer.encode(tokenizer.render(message)) == tokenizer.encode_chat(message) == [1, *plain]


def test_several_named_templates_are_chosen_by_name_or_by_tools(stories: Path, tmp_path: Path) -> None:
    listed = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    (tmp_path / "tokenizer.json").write_bytes((stories / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    tokenizer.save(tmp_path / "saved")
    for opened in (tokenizer, Tokenizer.from_folder(tmp_path / "saved")):
        assert opened.render([]) == "D"
        assert opened.render([], tools=TOOLS) == "T"
        assert opened.render([], template_name="tool_use") == "T"
        with pytest.raises(OctavoError, match=r"default, tool_use, did you mean 'tool_use'"):
            opened.render([], template_name="tool_us")


def test_the_jinja_file_wins_over_the_configuration(stories: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((stories / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "config"}')
    assert Tokenizer.from_folder(tmp_path).render([]) == "config"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert Tokenizer.from_folder(tmp_path).render([]) == "file"


def test_a_model_without_a_template_says_what_to_do(stories_tokenizer: Tokenizer) -> None:
    assert stories_tokenizer.chat_template is None
    with pytest.raises(OctavoError, match=r"no chat template.*plain prompt"):
        stories_tokenizer.render([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ ''.__class__ }}", "not allowed.*__class__"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "not allowed.*__class__"),
        ("{{ cycler.__init__.__globals__ }}", "not allowed"),
        ("{{ ''['__class__'] }}", "not allowed"),
        ("{{ ''|attr('__class__') }}", "not allowed"),
        ("{{ '{0.__class__}'.format('') }}", "not allowed"),
        ("{% include '/etc/passwd' %}", "not allowed.*/etc/passwd"),
        ("{% import '/etc/passwd' as x %}", "not allowed"),
        ("{% extends '/etc/passwd' %}", "not allowed"),
        ("{{ open('/etc/passwd').read() }}", "'open' is undefined"),
        ("{{ self.__init__.__globals__ }}", "not allowed"),
        ("{{ messages.append(1) }}", "not allowed"),
        ("{{ messages[0].update(a=1) }}", "not allowed"),
        ("{% for i in range(10**9) %}x{% endfor %}", "range"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% set a = 1 %}{% endfor %}{% endfor %}", "over 2 s"),
        ("{% macro f(n) %}{% for i in range(9) %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}", "nests|over 2 s"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "over 1 MiB"),
        ("{{ 'a' * 10**9 }}", "repeats"),
        ("{{ [1] * 10**9 }}", "repeats"),
        ("{{ (10 ** 10) ** 1000000 }}", "bits|number"),
        ("{{ 'a' | center(10**9) }}", "center"),
        ("{{ 'a'.ljust(10**9) }}", "ljust"),
        ("{{ 'a\nb' | indent(1000000) | indent(1000000) }}", "indent|1 MiB|items"),
        ("{{ '%1000000000d' % 3 }}", "too wide"),
        ("{{ '%*d' % (1000000000, 3) }}", "too wide"),
        ("{{ '{:>1000000000}'.format(3) }}", "too wide"),
        ("{{ '{:>{w}}'.format(3, w='1000000000') }}", "too wide"),
        ("{{ '%1000000000s' | format('x') }}", "too wide"),
        ("{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}", "could grow"),
        ("{{ (['a' * 1000000] * 1000) | join }}", "could grow"),
        ("{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "items"),
        ("{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "items"),
        ("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "items"),
        ("{{ raise_exception('roles must alternate') }}", "refuses.*roles must alternate"),
        ("a\n{% if %}", "not valid at line 2"),
        ("{{ nothing.here }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages | tojson(nosuch=1) }}", "nosuch"),
    ],
)
def test_a_hostile_or_broken_template_gives_one_clear_error(stories: Path, template: str, says: str) -> None:
    tokenizer = with_template(stories, template)
    start = time.monotonic()
    with pytest.raises(OctavoError, match=f"(?s)chat template.*({says})") as caught:
        tokenizer.render([{"role": "user", "content": "x"}])
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)


def test_a_long_conversation_renders_within_the_limits(smollm2_tokenizer: Tokenizer) -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": "word " * 50} for i in range(2000)]
    assert len(smollm2_tokenizer.render(messages)) > 500_000
