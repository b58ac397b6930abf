"""Opens many damaged copies of a small file in a process with little memory, and tells what was no orderly refusal.

Run by test_malformed_files.py: mutating.py KIND FOLDER_OR_FILE NAME COUNT SEED. Imports come first, so that the limit
on memory is on what the files ask for.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

from octavo.errors import OctavoError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.encoders.token_heads import has_token_heads, read_token_heads
from octavo.models.formats.peft import read_adapter
from octavo.models.formats.sentence_transformers import read_layout
from octavo.text.tokenizer import Tokenizer

ROOM = 256 << 20
"""Bytes of address space that a file of a few kilobytes may cost, beside what is imported."""
SECONDS = 10
EXTREMES = (b"\xff" * 8, b"\xff\xff\xff\x7f" + b"\0" * 4, b"\0" * 8, b"\0\0\0\0\0\0\0\x80", b"\xff\xff\xff\xff")
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, float("nan"), "", "x", "\ud800", [], [[]], {}, {"a": 1},
    [1] * 50, [None], "a" * 5000, {"type": "Sequence"}, 0.5,
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut, repeated, or put to numbers at the edge."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place, kind = chance.randrange(len(out) + 1), chance.randrange(6)
        if kind == 0:
            del out[place:]
        elif kind == 1:
            del out[place : place + chance.randrange(1, 64)]
        elif kind == 2:
            out[place:place] = out[place : place + chance.randrange(1, 64)]
        elif kind == 3:
            extreme = chance.choice(EXTREMES)
            out[place : place + len(extreme)] = extreme
        elif place < len(out):
            out[place] = chance.randrange(256) if kind == 4 else out[place] ^ 1 << chance.randrange(8)
        if not out:
            break
    return bytes(out)


def damaged_json(data: bytes, chance: random.Random) -> bytes:
    """A value, at any depth, replaced by one of another type or size, or taken out."""
    value = json.loads(data)
    for _ in range(chance.choice((1, 1, 2))):
        parent: Any = value
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(parent[key], dict | list) and parent[key] and chance.random() < 0.8:
                parent = parent[key]
                continue
            if chance.random() < 0.2:
                del parent[key]
            else:
                parent[key] = deepcopy(chance.choice(VALUES))
            break
    return json.dumps(value).encode()


def open_model(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    for tensor in checkpoint.tensors.values():
        tensor.dequantize()
    if checkpoint.metadata is not None:
        checkpoint.tokenizer().encode("a b")


def open_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer.from_folder(path)
    ids = tokenizer.encode("the cat <s> 價 \n")
    tokenizer.decode(ids)


def open_layout(path: Path) -> None:
    layout = read_layout(path)
    if has_token_heads(layout.body):
        read_token_heads(layout.body, 64)


def open_adapter(path: Path) -> None:
    read_adapter("fuzzed", path / "adapter", open_checkpoint(path))


RUNS = {"model": open_model, "tokenizer": open_tokenizer, "layout": open_layout, "adapter": open_adapter}


def stop(*unused: object) -> None:
    raise TimeoutError


def main(kind: str, source: Path, name: str, count: int, seed: int) -> None:
    chance = random.Random(seed)
    run = RUNS[kind]
    run(source)  # the valid one opens, and what is imported late is
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, stop)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        target = Path(shutil.copytree(source, copy)) / name if source.is_dir() else copy.with_suffix(source.suffix)
        valid = (source / name if source.is_dir() else source).read_bytes()
        changes = [damaged, damaged_json] if name.endswith(".json") else [damaged]
        for number in range(count):
            data = chance.choice(changes)(valid, chance)
            target.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                run(copy if source.is_dir() else target)
            except OctavoError as error:
                if "\n" in str(error) or not str(error):
                    sys.stdout.write(f"{number}: not one line: {error!r}\n")
            except BaseException as error:  # what is looked for
                sys.stdout.write(f"{number}: {type(error).__name__}: {str(error)[:200]!r}\n")
                if isinstance(error, KeyboardInterrupt):
                    raise
            finally:
                signal.alarm(0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
