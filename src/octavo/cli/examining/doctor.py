"""`octavo doctor`: what computes here and why, and what there is to compute with."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import Any

import typer

from octavo.cli.arguments import AsJson

LIBRARIES = ("numpy", "tokenizers", "fastapi", "uvicorn", "pydantic", "torch", "huggingface_hub", "transformers")


def doctor(as_json: AsJson = False) -> None:
    """Say what runs models here, which instruction set it uses, and why.

    Exits 2 when nothing can run a model, and says what to install.

    Examples:

      octavo doctor

      octavo doctor --json

      OCTAVO_KERNELS=avx2 octavo doctor
    """
    from octavo.errors import MissingDependencyError

    found = examine()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print(found)
    if found["runner"] is None:
        raise MissingDependencyError(
            "nothing here can run a model; install a C compiler and reinstall octavo, or pip install 'octavo[torch]'"
        )


def examine() -> dict[str, Any]:
    """What is found, for people and scripts alike. Byte counts are whole numbers; what is not there is None."""
    from octavo import settings
    from octavo.fetching import sources
    from octavo.models.memory import free_memory
    from octavo.nn.kernels.binding import available

    kernels = available()
    torch = _version("torch")
    use_kernels = kernels.built and kernels.level is not None
    runner = "kernels" if use_kernels else "torch" if torch else None
    return {
        "octavo": _version("octavo"),
        "runner": runner,
        "instruction_set": kernels.level if use_kernels else None,
        "why": kernels.reason,
        "kernels": {
            "built": kernels.built,
            "path": None if kernels.path is None else str(kernels.path),
            "levels": list(kernels.levels),
        },
        "threads": settings.threads(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "models_folder": str(settings.models_dir()),
        "models": [model.name for model in sources.installed()],
        "free_memory": free_memory(),
        "free_disk": _free_disk(settings.models_dir()),
        "offline": settings.offline(),
    }


def _print(found: dict[str, Any]) -> None:
    chosen = found["runner"] or "none"
    libraries = ", ".join(f"{name} {number or 'not installed'}" for name, number in found["libraries"].items())
    lines = {
        "octavo": found["octavo"],
        "runner": f"{chosen} {found['instruction_set'] or ''}".strip() + f" ({found['why']})",
        "kernels": found["kernels"]["path"] or "not built",
        "threads": found["threads"],
        "python": f"{found['python']} on {found['system']}",
        "libraries": libraries,
        "models folder": found["models_folder"],
        "models": ", ".join(found["models"]) or "none installed; `octavo pull` fetches the default one",
        "free memory": _gigabytes(found["free_memory"]),
        "free disk": _gigabytes(found["free_disk"]),
        "network": "not used (OCTAVO_OFFLINE)" if found["offline"] else "used when a model is pulled",
    }
    for name, value in lines.items():
        typer.echo(f"{name:<14} {value}")


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # takes 10 ms, which other commands need not spend

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _free_disk(folder: Path) -> int:
    """Bytes free where a folder is or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"
