"""Every snippet of README.md and docs/ runs, in the order of its page, with a real server where the page starts one.

Blocks marked bash and python are run; blocks marked sh show what a test cannot run (make, long training), and what they
name must exist. Each page gets an empty folder, the installed default model, and a free port in place of 8000.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
TIME_LIMIT = 240


@dataclass(frozen=True)
class Block:
    """language: bash, python, sh, toml … · server: it starts a server (bash), or needs one (python)."""

    language: str
    server: bool
    text: str


def blocks(page: str) -> list[Block]:
    found = re.findall(r"^```(\w+)( server)?\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    return [Block(language, bool(server), text) for language, server, text in found]


RUNNABLE = [page for page in PAGES if any(block.language in ("bash", "python") for block in blocks(page))]


class Page:
    """A page's snippets under way: one folder, one port, and the Python written so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        octavo = folder / "bin/octavo"
        octavo.parent.mkdir()
        octavo.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m octavo "$@"\n')
        octavo.chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{octavo.parent}{os.pathsep}{os.environ['PATH']}"}
        self._python = ""

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        command = ["bash", "-euo", "pipefail", "-c", text]
        if block.language == "python":
            # What went before is run again, silently, so that a page's snippets share their names.
            quiet = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n{indented(self._python)}"
            command = [sys.executable, "-c", (quiet if self._python else "") + "\n" + text]
            self._python += text
        return subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=TIME_LIMIT
        )

    @contextmanager
    def server(self) -> Iterator[None]:
        command = [sys.executable, "-m", "octavo", "serve", "--port", str(self.port)]
        with subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, text=True) as process:
            try:
                self._wait(process)
                yield
            finally:
                process.terminate()
                process.communicate(timeout=30)

    def _wait(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"the server did not start: {process.stderr.read() if process.stderr and process.poll() else ''}")


def indented(text: str) -> str:
    return "".join(f"    {line}" for line in text.splitlines(keepends=True)) or "    pass\n"


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


@pytest.mark.parametrize("name", RUNNABLE)
def test_snippets_run(name: str, page: Page, smollm2: Path) -> None:
    shown = blocks(name)
    first = next((index for index, block in enumerate(shown) if block.server), len(shown))
    for block in shown[:first]:
        check(page, block)
    if first < len(shown):
        with page.server():
            for block in shown[first:]:
                if not (block.server and block.language == "bash"):
                    check(page, block)


def check(page: Page, block: Block) -> None:
    if block.language not in ("bash", "python"):
        return
    result = page.run(block)
    assert result.returncode == 0, f"{block.text}\n{result.stdout}{result.stderr}"
    if "print" in block.text or block.language == "bash":
        assert result.stdout.strip(), f"{block.text}\nprinted nothing"


def test_a_snippet_that_fails_is_caught(page: Page) -> None:
    with pytest.raises(AssertionError, match="nothing-like-it"):
        check(page, Block("bash", False, "octavo nothing-like-it\n"))
    with pytest.raises(AssertionError, match="NameError"):
        check(page, Block("python", False, "print(undefined)\n"))


def test_readme_opens_with_the_two_commands() -> None:
    first, *_ = blocks("README.md")
    assert (ROOT / "README.md").read_text().startswith("```sh\n")
    commands = [line.partition("#")[0].strip() for line in first.text.splitlines()]
    assert commands == ["make run", "make test"]


@pytest.mark.parametrize("page_name", PAGES)
def test_what_a_page_names_exists(page_name: str) -> None:
    text = (ROOT / page_name).read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M):
        assert target in targets, f"make {target}"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page_name).parent / link).exists(), link
    for recipe in re.findall(r"octavo train (recipes/\S+)", text):
        assert (ROOT / recipe).is_file(), recipe


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_run(script: str, page: Page, smollm2: Path) -> None:
    source = (ROOT / "examples" / script).read_text()
    block = Block("python", "127.0.0.1:8000" in source, source)
    if block.server:
        with page.server():
            check(page, block)
    else:
        check(page, block)
