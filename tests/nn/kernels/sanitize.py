"""The kernels' tests under the compiler's sanitizers, on every level of this machine: `make sanitize`.

The package is built a second time, into build/, so that the one in use stays as it is. address: AddressSanitizer and
UBSan over all tests that reach C. thread: ThreadSanitizer over those in which several threads share a model.

    python tests/nn/kernels/sanitize.py [address] [thread]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TESTS = {
    "address": [
        "tests/nn/kernels/test_entry_points.py",
        "tests/nn/kernels/test_fuzz.py",
        "tests/nn/fused",
        "tests/nn/kernels/test_products.py",
        "tests/nn/kernels/test_kernel_library.py",
        "tests/nn/kernels/test_scanning.py",
        "tests/nn/kernels/test_threads.py",
        "tests/models/test_compiled.py",
        "tests/models/test_trees.py",
        "tests/models/test_adapters.py",
        "tests/models/test_latent.py",
        "tests/models/encoders/test_compiled_encoder.py",
        "tests/models/packing",
    ],
    "thread": [
        "tests/nn/kernels/test_kernel_library.py",
        "tests/nn/kernels/test_threads.py",
        "tests/nn/kernels/test_scanning.py",
        "tests/models/test_compiled.py::test_the_law_holds_with_every_switch",
        "tests/models/encoders/test_compiled_encoder.py",
        "tests/nn/fused",
        "-knot fork",  # it follows no threads into a child
    ],
}
RUNTIMES = {"address": "libasan.so", "thread": "libtsan.so"}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # what the interpreter keeps is not ours
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:report_signal_unsafe=0:exitcode=66",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OCTAVO_REQUIRE_KERNELS": "1",
}


def main() -> int:
    """Build and test for each sanitizer asked for; the exit status is that of the first that finds something."""
    for kind in sys.argv[1:] or list(TESTS):
        if kind not in TESTS:
            sys.exit(f"octavo: error: {kind!r} is no sanitizer; {' and '.join(TESTS)} are known")
        status = run(kind, build(kind))
        if status:
            return status
    return 0


def build(kind: str) -> Path:
    """The folder of a package whose kernels are instrumented."""
    base = ROOT / "build" / f"sanitize-{kind}"
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(base), "--build-lib", str(base / "lib")]
    subprocess.run(command, cwd=ROOT, env=os.environ | OPTIONS | {"OCTAVO_SANITIZE": kind}, check=True)
    return base / "lib"


def run(kind: str, package: Path) -> int:
    """pytest's exit status, with the sanitizer's runtime loaded before the interpreter."""
    runtimes = ":".join(map(library, (RUNTIMES[kind], "libstdc++.so.6")))  # the second: torch throws through the first
    fixed = shutil.which("setarch") if kind == "thread" else None  # its shadow wants addresses where they used to be
    command = [fixed, "-R"] if fixed else []
    command += [sys.executable, "-m", "pytest", "-x", "-p", "no:randomly", *TESTS[kind]]
    environment = os.environ | OPTIONS | {"LD_PRELOAD": runtimes, "PYTHONPATH": str(package)}
    sys.stderr.write(f"== {kind}\n")
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def library(name: str) -> str:
    """Where the compiler has a library."""
    command = [os.environ.get("CC", "cc"), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
