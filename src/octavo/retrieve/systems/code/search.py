"""CodeT5+ over a folder of Python: its functions, their vectors, what is found. No torch until a model is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.errors import MissingDependencyError, OctavoError
from octavo.retrieve.systems.code.corpus import Function, read_functions, standard_library

if TYPE_CHECKING:
    from octavo.retrieve.systems.code.torch_codet5p import CodeT5p
    from octavo.retrieve.systems.code.torch_training import CodeScores


@dataclass(frozen=True)
class Found(Function):
    """A function and its score: the matching head's logit and the cosine, or the cosine alone."""

    score: float


def load_codet5p(path: Path) -> CodeT5p:
    """A model of either kind. Raises MissingDependencyError without torch, FormatError for another model."""
    try:
        from octavo.retrieve.systems.code.torch_codet5p import CodeT5p
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingDependencyError("this system needs torch: pip install 'octavo[torch]'") from error
    return CodeT5p.load(path)


@dataclass(frozen=True)
class CodeIndex:
    """codes: token ids of each function's code. vectors: (functions, dimensions), a tensor."""

    model: CodeT5p
    functions: tuple[Function, ...]
    codes: tuple[list[int], ...]
    vectors: Any

    @staticmethod
    def load(path: Path, folder: Path | None) -> CodeIndex:
        """Of a model and a folder of source; None: the standard library."""
        model = load_codet5p(path)
        from octavo.progress import track
        from octavo.retrieve.systems.code.torch_codet5p import CODE_TOKENS

        functions = read_functions(folder or standard_library())
        codes = [model.ids(one.code, CODE_TOKENS) for one in functions]
        with track(len(codes), "Embedding functions", unit="functions") as work:
            vectors = model.embed(codes, advance=work.advance)
        return CodeIndex(model, tuple(functions), tuple(codes), vectors)

    def search(self, text: str, limit: int, *, judge: bool | None = None) -> list[Found]:
        """The functions that fit a text best. judge None: where the model has a head for it."""
        from octavo.retrieve.systems.code.torch_codet5p import search

        judge = self.model.matching is not None if judge is None else judge
        hits = search(self.model, text, self.codes, self.vectors, limit, judge=judge)
        return [Found(**vars(self.functions[at]), score=score) for at, score in hits]


def evaluate_folder(path: Path, folder: Path | None, *, held_out: float, limit: int | None, judge: bool) -> CodeScores:
    """How often the functions that training left out are found by their texts. Raises OctavoError without any."""
    model = load_codet5p(path)
    from octavo.retrieve.systems.code.torch_training import evaluate, split

    _, kept = split(read_functions(folder or standard_library()), held_out)
    if not kept:
        raise OctavoError("no function was held out; give --held-out a larger share")
    return evaluate(model, kept[:limit], judge=judge)
