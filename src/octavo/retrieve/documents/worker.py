"""A process apart that reads the files whose readers can hang, crash or swell: PDF, office and web files.

It gets a path a line on stdin and answers a JSON line on stdout. The parent kills it when a file takes longer than its
limit and goes on with a fresh one; its memory is capped where the system can do so. (Not `multiprocessing`: that would
run a user's script again, unless it is guarded.)
"""

from __future__ import annotations

import dataclasses
import json
import selectors
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from octavo.errors import FormatError, OctavoError
from octavo.retrieve.documents.document import Document, Limits, Span

GRACE = 5.0  # seconds past a file's limit, for a reader that watches the clock itself to end in its own words


class Worker:
    """The parent's end: `read(path)` as `reading.read`, and FormatError for a reader that died or was too slow."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self, path: Path) -> Document:
        """The document of a file."""
        process = self._process if self._process is not None and self._process.poll() is None else self._start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(self._limits.seconds + GRACE):
                self._stop()
                raise FormatError(f"reading took over {self._limits.seconds:.0f} s and was stopped; split the file")
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            self._stop()
            memory = f"{self._limits.memory_bytes / 2**30:.1f} GB"
            raise FormatError(f"its reader died (it may need over {memory} of memory); split the file")
        return _unpack(json.loads(line))

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        command = [
            sys.executable,
            "-m",
            "octavo.retrieve.documents.worker",
            json.dumps(dataclasses.asdict(self._limits)),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait()


def _unpack(answer: dict[str, Any]) -> Document:
    if "error" in answer:
        raise OctavoError(answer["error"])
    spans = tuple(Span(*span) for span in answer.pop("spans"))
    return Document(**{**answer, "spans": spans, "warnings": tuple(answer["warnings"])})


def _serve(limits: Limits) -> None:
    """The child's loop."""
    from octavo.retrieve.documents.reading import read

    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the answers
    _cap_memory(limits.memory_bytes)
    for line in sys.stdin.buffer:
        try:
            document = read(json.loads(line), limits)
            answer = {field.name: getattr(document, field.name) for field in dataclasses.fields(document)}
            answer["spans"] = [dataclasses.astuple(span) for span in document.spans]
        except OctavoError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _cap_memory(limit: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    _serve(Limits(**json.loads(sys.argv[1])))
