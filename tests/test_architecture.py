"""The house holds: imports go downward, torch stays where it belongs, and rooms stay small enough to live in.

The checks read syntax trees, so that imports inside functions count too. Each check is shown to catch a planted fault.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src/octavo"

GROUND = ("errors", "settings", "progress", "writing")
"""Modules below all floors, importable everywhere."""
FLOORS = {
    **dict.fromkeys(("nn", "text", "metrics", "sandbox", "figures", "fetching"), 0),
    "models": 1,
    **dict.fromkeys(("generate", "adapt", "examine"), 2),
    "train": 3,
    **dict.fromkeys(("retrieve", "reason", "economy", "guard"), 4),
    **dict.fromkeys(("serve", "evaluate"), 5),
    "cli": 6,
}
DOORS = ("__init__", "__main__")
"""The package's own door: it may show names of every room, lazily."""
TORCH_ROOMS = ("train", "adapt")
TORCH_FILES = re.compile(r"transformer|encoder|torch_\w+")
NN_WITHOUT_TORCH = ("config", "encodings", "frequencies", "shapes", "kernels")
TABLE_FOLDERS = ("families", "objectives", "sample")
VAGUE_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "base")
FORBIDDEN_MODULES = ("pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle")
ENVIRONMENT = ("os.environ", "os.environb", "os.getenv", "os.putenv")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FOLDER_FILES = 400, 40, 15


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, and whether importing the file executes it."""

    name: str
    line: int
    at_import: bool


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    path: Path
    root: Path

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return self.path.relative_to(self.root).with_suffix("").parts

    @cached_property
    def name(self) -> str:
        return ".".join(("octavo", *(part for part in self.parts if part != "__init__")))

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        found = []
        for node, lazy in walk(self.tree, lazy=False):
            found += [Import(name, node.lineno, not lazy) for name in self._names(node)]
        return tuple(found)

    def _names(self, node: ast.AST) -> list[str]:
        """Modules that a node imports: by statement, or as a dotted name handed to an importing function."""
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = self.name.split(".") if self.path.stem == "__init__" else self.name.split(".")[:-1]
                above = package[: len(package) - node.level + 1]
                module = ".".join([*above, *([module] if module else [])])
            return [module, *(f"{module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            return [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value] if re.fullmatch(r"octavo(\.\w+)+", node.value) else []
        return []


def walk(node: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it is outside what an import executes (in a function, or for type checkers)."""
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        inside = inside or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        inside = inside or (isinstance(child, ast.Constant) and isinstance(child.value, str))
        yield child, inside
        yield from walk(child, lazy=inside)


def modules(root: Path) -> list[Module]:
    return [Module(path, root) for path in sorted(root.rglob("*.py"))]


def place(module: Module, line: int) -> str:
    return f"{module.path.relative_to(module.root.parent)}:{line}"


def wrong_imports(root: Path) -> list[str]:
    """Imports that go up, or sideways to another room."""
    found = []
    for module in modules(root):
        room = module.parts[0]
        if room in DOORS:
            continue
        if room not in FLOORS and room not in GROUND:
            found.append(f"{place(module, 1)}: room {room!r} has no floor in the table")
            continue
        for target, line in sorted({(_room(item.name), item.line) for item in module.imports}):
            if target in ("", room) or target in GROUND:
                continue
            if FLOORS.get(target, 99) >= FLOORS.get(room, -1):
                found.append(f"{place(module, line)}: {room} imports {target}, which is not below it")
    return found


def _room(name: str) -> str:
    """The room of a dotted name inside octavo, or nothing for a foreign module and the package itself."""
    parts = name.split(".")
    if parts[0] != "octavo" or len(parts) < 2:
        return ""
    return parts[1] if parts[1] in FLOORS or parts[1] in GROUND else ""


def may_use_torch(module: Module) -> bool:
    room, stem = module.parts[0], module.parts[-1]
    if room == "nn":
        return not any(part in NN_WITHOUT_TORCH for part in module.parts)
    return room in TORCH_ROOMS or TORCH_FILES.fullmatch(stem) is not None


def torch_leaks(root: Path) -> list[str]:
    """Files outside torch's places that import torch, or that at import load a file which does."""
    everything = {module.name: module for module in modules(root)}
    needs_torch = {name for name, module in everything.items() if _imports_torch(module, at_import=True)}
    while True:
        more = {
            name
            for name, module in everything.items()
            if name not in needs_torch
            and any(item.at_import and _loads(item.name, needs_torch, everything) for item in module.imports)
        }
        if not more:
            break
        needs_torch |= more
    found = []
    for name, module in everything.items():
        if may_use_torch(module) and module.parts[-1] != "__init__":
            continue
        if _imports_torch(module, at_import=False):
            found.append(f"{place(module, 1)}: imports torch, which is not allowed here")
        elif name in needs_torch:
            found.append(f"{place(module, 1)}: importing it imports torch through another file")
    return found


def _imports_torch(module: Module, *, at_import: bool) -> bool:
    return any(item.name.split(".")[0] == "torch" and (item.at_import or not at_import) for item in module.imports)


def _loads(name: str, needs_torch: set[str], everything: dict[str, Module]) -> bool:
    """Whether importing this name executes a module that needs torch, parent packages included."""
    parts = name.split(".")
    prefixes = {".".join(parts[: count + 1]) for count in range(len(parts))}
    return any(prefix in needs_torch for prefix in prefixes if prefix in everything)


def forbidden_calls(root: Path) -> list[str]:
    """The environment outside settings.py; code from strings; pickles."""
    found = []
    for module in modules(root):
        for item in module.imports:
            if item.name.split(".")[0] in FORBIDDEN_MODULES:
                found.append(f"{place(module, item.line)}: imports {item.name}")
            if item.name in ENVIRONMENT and module.parts != ("settings",):
                found.append(f"{place(module, item.line)}: reads the environment; only settings.py does")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec", "compile"):
                found.append(f"{place(module, node.lineno)}: calls {ast.unparse(node.func)}")
            environment = isinstance(node, ast.Attribute) and ast.unparse(node) in ENVIRONMENT
            if environment and module.parts != ("settings",):
                found.append(f"{place(module, node.lineno)}: reads the environment; only settings.py does")
    return found


def vague_names(root: Path) -> list[str]:
    parts = [path for path in root.rglob("*") if path.is_dir() or path.suffix == ".py"]
    return [str(path) for path in parts if path.stem.strip("_") in VAGUE_NAMES]


def function_lengths(root: Path) -> list[tuple[int, str]]:
    return [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{place(module, node.lineno)} {node.name}")
        for module in modules(root)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def crowded_folders(root: Path) -> list[str]:
    folders = [root, *(path for path in root.rglob("*") if path.is_dir() and path.name not in TABLE_FOLDERS)]
    counts = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    return [f"{folder}: {count} files" for folder, count in counts.items() if count > MAX_FOLDER_FILES]


def test_imports_go_downward() -> None:
    assert wrong_imports(SOURCE) == []


def test_torch_stays_in_its_places() -> None:
    assert torch_leaks(SOURCE) == []


def test_no_environment_outside_settings_and_no_code_from_strings() -> None:
    assert forbidden_calls(SOURCE) == []


def test_no_file_has_a_vague_name() -> None:
    assert vague_names(SOURCE) == []


def test_files_and_folders_are_small() -> None:
    long_files = [f"{m.path}: {m.text.count(chr(10))}" for m in modules(SOURCE) if m.text.count("\n") > MAX_FILE_LINES]
    assert long_files == []
    assert crowded_folders(SOURCE) == []


def test_functions_are_short() -> None:
    lengths = sorted(function_lengths(SOURCE), reverse=True)
    long_ones = [row for row in lengths if row[0] > MAX_FUNCTION_LINES]
    assert len(long_ones) <= 0.05 * len(lengths), long_ones
    assert statistics.median(row[0] for row in lengths) <= 20


def test_a_family_is_a_row() -> None:
    rows = [module for module in modules(SOURCE) if "families" in module.parts and module.parts[-1] != "__init__"]
    assert statistics.median(module.text.count("\n") for module in rows) <= 60


def test_every_file_says_what_it_is() -> None:
    silent = [m.name for m in modules(SOURCE) if m.text.strip() and not ast.get_docstring(m.tree)]
    assert silent == []


PLANTED = [
    ("models/planted.py", "from octavo.generate.lm import Request\n", wrong_imports, "models imports generate"),
    ("nn/planted.py", "def late():\n    import octavo.cli.run\n", wrong_imports, "nn imports cli"),
    ("generate/planted.py", "from octavo.adapt import lora\n", wrong_imports, "generate imports adapt"),
    ("text/planted.py", "from ..models import sources\n", wrong_imports, "text imports models"),
    ("text/planted.py", "from octavo import nn\n", wrong_imports, "text imports nn"),
    ("settings.py", "import octavo.nn.config\n", wrong_imports, "settings imports nn"),
    ("models/planted.py", "HOMES = {'x': 'octavo.serve.app'}\n", wrong_imports, "models imports serve"),
    (
        "serve/planted.py",
        "from importlib import import_module\nimport_module('octavo.cli')\n",
        wrong_imports,
        "serve imports cli",
    ),
    ("attic/planted.py", "", wrong_imports, "no floor"),
    ("generate/planted.py", "def late():\n    import torch\n", torch_leaks, "imports torch"),
    ("nn/kernels/planted.py", "from torch import nn\n", torch_leaks, "imports torch"),
    ("models/planted.py", "from octavo.models.transformer import Transformer\n", torch_leaks, "through another file"),
    ("cli/planted.py", "import octavo.train.planted_torch\n", torch_leaks, "through another file"),
    ("serve/planted.py", "import os\nKEY = os.environ.get('KEY')\n", forbidden_calls, "environment"),
    ("serve/planted.py", "from os import getenv\n", forbidden_calls, "environment"),
    ("models/planted.py", "import pickle\n", forbidden_calls, "pickle"),
    ("models/planted.py", "eval('1')\n", forbidden_calls, "eval"),
    ("models/utils.py", "", vague_names, "utils"),
]


@pytest.mark.parametrize(("file", "text", "check", "expected"), PLANTED)
def test_a_planted_fault_is_caught(file: str, text: str, check: object, expected: str, tmp_path: Path) -> None:
    root = tmp_path / "octavo"
    for name, body in {
        "models/transformer.py": "import torch\n",
        "train/planted_torch.py": "import torch\n",
        file: text,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(body)
    assert callable(check)
    found = check(root)
    assert len(found) == 1 and expected in found[0], found


def test_a_lazy_import_of_a_torch_file_is_allowed(tmp_path: Path) -> None:
    root = tmp_path / "octavo"
    (root / "models").mkdir(parents=True)
    (root / "models/transformer.py").write_text("import torch\n")
    (root / "models/loading.py").write_text("def choose():\n    from octavo.models.transformer import TorchRunner\n")
    assert torch_leaks(root) == []


def test_a_crowded_folder_and_a_long_function_are_caught(tmp_path: Path) -> None:
    root = tmp_path / "octavo"
    for folder in ("models", "models/families"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(MAX_FOLDER_FILES + 1):
            (root / folder / f"row{number}.py").write_text("")
    (root / "models/row0.py").write_text("def long():\n" + "    x = 1\n" * 60)
    assert [Path(row.split(":")[0]).name for row in crowded_folders(root)] == ["models"]
    assert function_lengths(root)[0][0] == 61
