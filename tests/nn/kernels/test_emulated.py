"""The NEON level, compiled for ARM and run under an emulator, against the reference of `test_products.py`.

Needs a cross compiler and qemu's user mode (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user-static).
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from octavo.nn.kernels import binding
from octavo.nn.kernels.tables import codes

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
SOURCES = Path(binding.__file__).parent
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels with a main of their own."""
    if not shutil.which(COMPILER) or not shutil.which(EMULATOR):
        pytest.skip(f"{COMPILER} and {EMULATOR} are not both installed")
    path = tmp_path_factory.mktemp("arm") / "product"
    files = [str(file) for file in (*sorted(SOURCES.glob("*.c")), HERE / "product_main.c")]
    flags = ["-std=gnu11", "-O2", "-ffp-contract=off", "-Wno-psabi", "-static", "-pthread"]
    subprocess.run([COMPILER, *flags, *files, "-o", str(path), "-lm"], check=True, timeout=300)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("level", ["neon", "c"])
@pytest.mark.parametrize("encoding", codes.ENCODINGS)
def test_a_product_on_arm_equals_the_reference(encoding: str, level: str, program: Path) -> None:
    products = runpy.run_path(str(HERE / "test_products.py"))
    generator = np.random.default_rng(0)
    for rows, columns, tokens, exponent in ((37, 512, 13, -4), (16, 256, 1, 5), (5, 768, 4, -10)):
        data = products["matrix"](encoding, rows, columns, 1, exponent)
        x = generator.standard_normal((tokens, columns)).astype(np.float32)
        numbers = (codes.LEVELS[level], codes.ENCODINGS[encoding], rows, columns, data.nbytes, tokens)
        given = np.array(numbers, np.int32).tobytes() + np.ascontiguousarray(data).tobytes() + x.tobytes()
        done = subprocess.run([EMULATOR, "-cpu", "max", str(program)], input=given, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        got = np.frombuffer(done.stdout, np.float32).reshape(tokens, rows)
        meets = products["rounded"](encoding, level, x)
        weights = products["expanded"](encoding, data).astype(np.float64)
        bound = 1e-3 * (np.abs(meets) @ np.abs(weights).T) + 1e-30
        assert np.all(np.abs(got - meets @ weights.T) <= bound)
