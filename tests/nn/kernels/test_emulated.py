"""Levels that this processor lacks, emulated.

NEON: compiled for ARM and run under an emulator, against the reference of `test_products.py`. Needs a cross compiler
and qemu's user mode (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user-static).

AVX-512 with bf16, and AMX: the instructions in C (`emulated_x86.h`), in a copy of the package, on which other tests are
run. Needs a processor with AVX-512 and VNNI.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from octavo.nn.kernels import binding
from octavo.nn.kernels.tables import codes

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
SOURCES = Path(binding.__file__).parent
HERE = Path(__file__).parent
FLAGS = ["-ffp-contract=off", "-Wno-psabi", "-pthread"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels with a main of their own."""
    if not shutil.which(COMPILER) or not shutil.which(EMULATOR):
        pytest.skip(f"{COMPILER} and {EMULATOR} are not both installed")
    path = tmp_path_factory.mktemp("arm") / "product"
    files = [str(file) for file in (*sorted(SOURCES.glob("*.c")), HERE / "product_main.c")]
    subprocess.run(
        [COMPILER, *FLAGS, "-std=gnu11", "-O2", "-static", *files, "-o", path, "-lm"], check=True, timeout=300
    )
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, whose kernels emulate bf16 and tiles."""
    if not binding.library_path() or "avx512vnni" not in binding.machine_levels() or not shutil.which("cc"):
        pytest.skip("a compiler and a processor with AVX-512 and VNNI are not both here")
    folder = tmp_path_factory.mktemp("x86")
    shutil.copytree(SOURCES.parents[1], folder / "octavo", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    flags = [
        *FLAGS,
        "-std=c11",
        "-O1",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        f"-DINTERFACE={binding.interface()}u",
    ]
    files = ["-include", HERE / "emulated_x86.h", *sorted(SOURCES.glob("*.c"))]
    library = folder / SOURCES.relative_to(SOURCES.parents[2]) / "_kernels.so"
    subprocess.run(["cc", *flags, *files, "-o", library, "-lm"], check=True, timeout=900)
    return folder


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests",
    [
        "nn/kernels/test_products.py",
        "nn/kernels/test_fuzz.py",
        "models/test_compiled.py",
        "models/test_latent.py",
        "models/encoders/test_compiled_encoder.py",
    ],
)
def test_bf16_and_tiles_pass_the_tests_of_every_level(tests: str, package: Path) -> None:
    """Products, steps of any width and cut, parity with torch: all of them at the levels avx512 and amx."""
    chosen = [
        "-k",
        "((avx512 or amx) and not avx512vnni) or tiles",
        "-p",
        "no:cacheprovider",
        str(HERE.parents[1] / tests),
    ]
    environment = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen], cwd=HERE.parents[2], env=environment, capture_output=True, text=True,
        timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-3000:]
