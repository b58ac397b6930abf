"""Models of the Hugging Face hub, through `huggingface_hub`, in its own cache and with its own offline mode.

Only configuration, tokenizer and safetensors files are fetched, or the one .gguf that is named: never pickles, never
code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from octavo.errors import FormatError, MissingDependencyError, ModelNotFoundError, RemoteError

_WANTED: Final = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
]
_UNWANTED: Final = ["*/*.safetensors", "*/*.json", "*.bin", "*.py", "*.pt", "*.pth", "*.pkl"]


def fetch_from_hub(
    project: str, revision: str | None, file: str | None, *, offline: bool, show: bool = True
) -> tuple[Path, str | None]:
    """Fetch OWNER/NAME; returns the snapshot's folder, or the .gguf `file`, and the licence that its card states.

    offline: only look into the cache. show: whether the library draws its progress bars.
    Raises MissingDependencyError without the library, ModelNotFoundError for what the hub does not have, FormatError
    when there are only pickled weights, RemoteError when the hub cannot be reached.
    """
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingDependencyError("hf: references need huggingface_hub; run `pip install 'octavo[hf]'`") from error
    what = f"hf:{project}" + (f"@{revision}" if revision else "") + (f"#{file}" if file else "")
    try:
        with _bars(show):
            path = _fetch(project, revision, file, offline)
    except errors.LocalEntryNotFoundError as error:  # before the others: it is their child
        raise RemoteError(
            f"{what} is not in the hub's cache, and the hub cannot be reached or must not be (OCTAVO_OFFLINE, "
            "HF_HUB_OFFLINE); give the path of a folder, or pull it elsewhere and copy the hub's cache (HF_HUB_CACHE)"
        ) from error
    except errors.GatedRepoError as error:
        raise RemoteError(f"{what} asks for consent; accept its terms on its page and set HF_TOKEN") from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelNotFoundError(f"the hub has no {what}, or it is private and HF_TOKEN is not set") from error
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, ValueError) as error:
        raise RemoteError(f"{what} cannot be fetched: {str(error).strip().splitlines()[0]}") from error
    if file is None and not any(path.glob("*.safetensors")):
        raise FormatError(
            f"{what} has no safetensors weights (pickled ones are never read); for a .gguf of it write "
            f"hf:{project}#FILE.gguf"
        )
    return path, _licence(project, offline)


def _fetch(project: str, revision: str | None, file: str | None, offline: bool) -> Path:
    import huggingface_hub

    options: dict[str, Any] = {"repo_id": project, "revision": revision, "local_files_only": offline}
    if file is not None:
        return Path(huggingface_hub.hf_hub_download(filename=file, **options))
    return Path(huggingface_hub.snapshot_download(allow_patterns=_WANTED, ignore_patterns=_UNWANTED, **options))


@contextlib.contextmanager
def _bars(show: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if show or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _licence(project: str, offline: bool) -> str | None:
    """The licence in the model's card; None where it cannot be asked."""
    if offline:
        return None
    import huggingface_hub

    try:
        card = huggingface_hub.model_info(project).card_data
    except Exception:  # a courtesy: whatever the hub's client raises, the model itself is here
        return None
    licence = getattr(card, "license", None)
    return licence if isinstance(licence, str) else None
