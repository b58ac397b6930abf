"""Reading many files that others wrote: those whose readers can hang, crash or swell are read in a process apart.

The process gets a path a line on stdin and answers a JSON line on stdout. It is killed when a file takes longer than
its limit, and a fresh one goes on; its memory is capped where the system can do so. (Not `multiprocessing`: that would
run a user's script again, unless it is guarded. `-P`: the working folder may be the very one that is read, and a
`json.py` in it must not be run.)
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
from octavo.retrieve.documents.reading import RISKY, check_file, read, reader_of

_CHILD = (
    "import sys; sys.path.append(sys.argv[1]); from octavo.retrieve.documents.worker import serve; serve(sys.argv[2])"
)
_ROOT = str(Path(__file__).resolve().parents[3])  # where the package lies, should it not be installed
LARGE = 1 << 20  # bytes from which a file of any format is read apart
GRACE = 5.0  # seconds past a file's limit, for a reader that watches the clock itself to end in its own words


class Reader:
    """`read(path)` as `octavo.retrieve.documents.read`, within limits on time and memory too."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; what it reads is given up, in whatever thread waits for it. Idempotent."""
        self._stop()

    def read(self, path: Path) -> Document:
        """The document of a file. Raises OctavoError with the reason, also for a reader that died or was too slow."""
        check_file(path, self._limits)
        if reader_of(path) not in RISKY and path.stat().st_size < LARGE:
            return read(path, self._limits)
        return _unpack(json.loads(self._ask(path)))

    def _ask(self, path: Path) -> bytes:
        """The child's answer about a file."""
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
            code = process.wait()
            self._stop()
            memory = f"{self._limits.memory_bytes / 2**30:.1f} GB"
            raise FormatError(f"its reader ended with code {code} (out of {memory} of memory?); split the file")
        return line

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        limits = json.dumps(dataclasses.asdict(self._limits))
        command = [sys.executable, "-P", "-c", _CHILD, _ROOT, limits]
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


def serve(given: str) -> None:
    """The child's loop. given: its limits, as JSON."""
    limits = Limits(**json.loads(given))
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
