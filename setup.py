"""What of the build is not declared in pyproject.toml: an optional C library without Python.h, and the manual.

Without a compiler the package installs all the same, and runs on torch. Environment of the build:
OCTAVO_REQUIRE_KERNELS=1 makes a failed compilation fatal (continuous integration, releases).
OCTAVO_SANITIZE=address builds with AddressSanitizer and UBSan, =thread with ThreadSanitizer; `make sanitize` runs the
kernels' tests under them.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

FOLDER = Path("src/octavo/nn/kernels")
FLAGS = [
    "-std=c11",
    "-g0",
    "-O3",  # at -O2 prefill with AVX-512 is a third slower
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-unknown-pragmas",
]
SANITIZERS = {
    "address": [
        "-fsanitize=address,undefined",
        "-fno-sanitize=null,object-size",  # the address sanitizer sees both, and they double the time to compile
        "-fno-sanitize-recover=undefined",
    ],
    "thread": ["-fsanitize=thread"],
}

OF_FILES = {"level_c.c": ["-O1"]}
"""Further flags: of emulated vectors the optimiser makes a minute's work, for the level that need not be fast."""


class BuildInParallel(build_ext):
    """setuptools compiles one file after another; these take seconds each, so all processors do."""

    def build_extension(self, ext: Extension) -> None:
        """Build it with a compiler that takes all files at once."""
        compiler: Any = self.compiler

        def compile_all(
            sources: list[str],
            output_dir: str | None = None,
            macros: Any = None,
            include_dirs: Any = None,
            debug: bool = False,
            extra_preargs: Any = None,
            extra_postargs: Any = None,
            depends: Any = None,
        ) -> list[str]:
            _, objects, flags, options, build = compiler._setup_compile(
                output_dir, macros, include_dirs, sources, depends, extra_postargs
            )
            given = compiler._get_cc_args(options, debug, extra_preargs)

            def one(name: str) -> None:
                source, suffix = build[name]
                compiler._compile(name, source, suffix, given, flags + OF_FILES.get(Path(source).name, []), options)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(one, [name for name in objects if name in build]))
            return list(objects)

        compiler.compile = compile_all
        super().build_extension(ext)


class BuildWithManual(build_py):
    """The package's own documents, which the server shows, are those of docs/, without the log and the pictures."""

    def run(self) -> None:
        """Build, then copy them."""
        super().run()
        for page in sorted(Path("docs").rglob("*.md")):
            if not self.editable_mode and page.name != "log.md":
                place = Path(self.build_lib, "octavo/manual", page.relative_to("docs"))
                place.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(page), str(place))


interface = sorted((FOLDER / "tables").glob("*.py"))
wanted = os.environ.get("OCTAVO_SANITIZE")
sanitizers = [*SANITIZERS[wanted], "-fno-omit-frame-pointer", "-g", "-O1"] if wanted else []
kernels = Extension(
    "octavo.nn.kernels._kernels",
    sources=[str(path) for path in sorted(FOLDER.glob("*.c"))],
    depends=[str(path) for path in [*sorted(FOLDER.glob("*.h")), *interface]],
    # What the library was built for, which it says when it is loaded (binding.py).
    define_macros=[("INTERFACE", f"{zlib.crc32(b''.join(path.read_bytes() for path in interface))}u")],
    extra_compile_args=FLAGS + sanitizers,
    extra_link_args=["-pthread", "-lm", *sanitizers],
    optional=os.environ.get("OCTAVO_REQUIRE_KERNELS") != "1",
    py_limited_api=True,
)
setup(
    ext_modules=[kernels],
    cmdclass={"build_ext": BuildInParallel, "build_py": BuildWithManual},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
