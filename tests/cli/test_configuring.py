"""Settings: a flag goes before its variable, that before config.toml, that before the default; mistakes are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from octavo import settings
from octavo.errors import OctavoError


def config_show(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCTAVO_")}
    command = [sys.executable, "-m", "octavo", *arguments]
    found = {**kept, "OCTAVO_HOME": str(home), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=found, timeout=60)


def written(home: Path, text: str) -> Path:
    (home / "config.toml").write_text(text, encoding="utf-8")
    return home


def rows(result: subprocess.CompletedProcess[str]) -> dict[str, tuple[object, str]]:
    assert result.returncode == 0, result.stderr
    return {row["setting"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)}


def test_each_setting_says_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    written(tmp_path, 'threads = 3\npack-cache = false\n[serve]\nport = 8123\nallowed-host = ["a.lan", "b.lan"]\n')
    file = str(tmp_path / "config.toml")
    found = rows(config_show(tmp_path, "config", "show", "--json", OCTAVO_THREADS="5", OCTAVO_CHAT_TEMPERATURE="0.5"))
    assert found["threads"] == (5, "OCTAVO_THREADS")
    assert found["pack-cache"] == (False, file)
    assert found["offline"] == (False, "default")
    assert found["serve.port"] == (8123, file)
    assert found["serve.allowed-host"] == (["a.lan", "b.lan"], file)
    assert found["chat.temperature"] == (0.5, "OCTAVO_CHAT_TEMPERATURE")
    assert "serve.max-queue" not in found
    whole = rows(config_show(tmp_path, "config", "show", "serve", "--json", OCTAVO_SERVE_PORT="8124"))
    assert whole["serve.port"] == (8124, "OCTAVO_SERVE_PORT") and whole["serve.max-queue"] == (64, "default")
    table = config_show(tmp_path, "config", "show", "--origin")
    assert any(line.split() == ["serve.port", "8123", file] for line in table.stdout.splitlines())
    assert file in table.stderr


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    result = config_show(tmp_path, "config", "show", "--origin", OCTAVO_API_KEY="sesame")
    assert "sesame" not in result.stdout + result.stderr and "OCTAVO_API_KEY" in result.stdout


def test_a_flag_goes_before_the_variable_before_the_file(tmp_path: Path, stories: Path) -> None:
    written(tmp_path, "[run]\nmax-tokens = 2\ntemperature = 0\njson = true\n")

    def tokens(*arguments: str, **environment: str) -> int:
        result = config_show(tmp_path, "run", str(stories), "Once upon a time", *arguments, **environment)
        assert result.returncode == 0, result.stderr
        return int(json.loads(result.stdout.splitlines()[-1])["completion_tokens"])

    assert tokens() == 2
    assert tokens(OCTAVO_RUN_MAX_TOKENS="3") == 3
    assert tokens("-n", "4", OCTAVO_RUN_MAX_TOKENS="3") == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thread = 2", "there is no setting 'thread', did you mean 'threads'?"),
        ("threads = 0", "threads = 0 is not a whole number from 1 to 256"),
        ("threads = true", "threads = True is not a whole number"),
        ("kernels = 'sse'", "is not one of c, neon"),
        ("offline = 'perhaps'", "is neither 1 nor 0"),
        ("[srve]\nport = 1", "there is no command 'srve', did you mean 'serve'?"),
        ("[serve]\nmax_queue = 1", "there is no option 'max_queue' in [serve], did you mean 'max-queue'?"),
        ("[serve]\nport = '8000'", "port = '8000' in [serve] is of another kind"),
        ("[serve]\nport = true", "is of another kind"),
        ("[serve]\nallowed-host = 'a'", "is of another kind"),
        ("[run]\nrunner = 'gpu'", "'gpu' is not one of 'kernels', 'torch'"),
        ("[serve\n", "is not TOML"),
        ("[threads]\na = 1", "threads = {'a': 1} is not a whole number"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_key(tmp_path: Path, text: str, expected: str) -> None:
    result = config_show(written(tmp_path, text), "config", "show")
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert expected in result.stderr and "config.toml" in result.stderr


def test_a_wrong_variable_of_an_option_is_named_and_an_unknown_one_is_pointed_out(tmp_path: Path) -> None:
    result = config_show(tmp_path, "config", "show", OCTAVO_SERVE_PORT="many")
    assert result.returncode == 2 and "OCTAVO_SERVE_PORT='many'" in result.stderr
    result = config_show(tmp_path, "config", "show", OCTAVO_THREAD="2")
    assert result.returncode == 0 and "OCTAVO_THREAD is no setting, did you mean 'OCTAVO_THREADS'?" in result.stderr


def test_a_changed_file_is_read_anew_and_a_variable_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    monkeypatch.delenv("OCTAVO_THREADS", raising=False)
    os.utime(written(tmp_path, "threads = 3") / "config.toml", ns=(1, 1))
    assert settings.threads() == 3
    os.utime(written(tmp_path, "threads = 300") / "config.toml", ns=(2, 2))
    with pytest.raises(OctavoError, match=r"threads = 300 is not a whole number"):
        settings.threads()
    monkeypatch.setenv("OCTAVO_THREADS", "4")
    assert settings.threads() == 4
