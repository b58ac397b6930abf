"""The one part of the build that is not declared in pyproject.toml: an optional C library without Python.h.

Without a compiler the package installs all the same, and runs on torch. Environment of the build:
OCTAVO_REQUIRE_KERNELS=1 makes a failed compilation fatal (continuous integration, releases).
OCTAVO_SANITIZE=1 builds with AddressSanitizer and UBSan; to run the kernels' tests under them:
    OCTAVO_SANITIZE=1 python setup.py build_ext --inplace --force
    LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \\
        pytest tests/nn/kernels tests/models/test_compiled.py
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("src/octavo/nn/kernels")
FLAGS = [
    "-std=c11",
    "-g0",
    "-O3",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-unknown-pragmas",
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1"]

sanitizers = SANITIZERS if os.environ.get("OCTAVO_SANITIZE") == "1" else []
kernels = Extension(
    "octavo.nn.kernels._kernels",
    sources=[str(path) for path in sorted(FOLDER.glob("*.c"))],
    depends=[str(path) for path in sorted(FOLDER.glob("*.h"))],
    extra_compile_args=FLAGS + sanitizers,
    extra_link_args=["-pthread", "-lm", *sanitizers],
    optional=os.environ.get("OCTAVO_REQUIRE_KERNELS") != "1",
    py_limited_api=True,
)
setup(ext_modules=[kernels], options={"bdist_wheel": {"py_limited_api": "cp311"}})
