"""The authors' own layouts and torch's pickles, made of tiny peers: the same logits, and no code of a file runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.errors import FormatError, OctavoError, UnknownNameError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer

Tiny = Callable[[str], tuple[Path, Any]]
NAMES = {
    r"model\.embed_tokens\.weight": "tok_embeddings.weight",
    r"model\.norm\.weight": "norm.weight",
    r"lm_head\.weight": "output.weight",
    r"model\.layers\.(\d+)\.input_layernorm\.weight": r"layers.\1.attention_norm.weight",
    r"model\.layers\.(\d+)\.post_attention_layernorm\.weight": r"layers.\1.ffn_norm.weight",
    r"model\.layers\.(\d+)\.self_attn\.([qkvo])_proj\.weight": r"layers.\1.attention.w\2.weight",
    r"model\.layers\.(\d+)\.mlp\.gate_proj\.weight": r"layers.\1.feed_forward.w1.weight",
    r"model\.layers\.(\d+)\.mlp\.down_proj\.weight": r"layers.\1.feed_forward.w2.weight",
    r"model\.layers\.(\d+)\.mlp\.up_proj\.weight": r"layers.\1.feed_forward.w3.weight",
    r"model\.layers\.(\d+)\.block_sparse_moe\.gate\.weight": r"layers.\1.feed_forward.gate.weight",
    r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight": (
        r"layers.\1.feed_forward.experts.\2.\3.weight"
    ),
}
PARAMS = {"dim": 64, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5, "vocab_size": 160}
META = {**PARAMS, "multiple_of": 16, "ffn_dim_multiplier": 1.3, "max_seq_len": 128}
MISTRAL = {**PARAMS, "head_dim": 16, "hidden_dim": 112, "rope_theta": 10000.0, "max_seq_len": 128}


def raw_tensors(folder: Path) -> dict[str, Tensor]:
    """A hub folder's tensors in the authors' names, and rotary rows in pairs: the hub's conversion turned round."""
    made = {}
    for name, values in load_file(folder / "model.safetensors").items():
        pattern = next(pattern for pattern in NAMES if re.fullmatch(pattern, name))
        if re.search(r"self_attn\.[qk]_proj", name):
            heads = 4 if "q_proj" in name else 2
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        made[re.sub(pattern, NAMES[pattern], name)] = values.contiguous()
    return made


def difference(folder: Path, peer: Any) -> float:
    ids = torch.randint(0, 160, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(ids).logits
    ours = Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)(ids)
    return float((ours - expected).abs().max())


def write_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.json").write_text(json.dumps(params))


def split(name: str, values: Tensor, count: int, *, embedding_axis: int) -> list[Tensor]:
    """As model parallelism splits a matrix; vectors are whole in each part."""
    if values.ndim == 1:
        return [values] * count
    axis = embedding_axis if name.startswith("tok_") else int(re.search(r"\.(wo|w2)\.", name) is not None)
    return [part.clone() for part in values.chunk(count, axis)]


@pytest.mark.parametrize(("parts", "embedding_axis"), [(1, 0), (2, 1), (2, 0)])
def test_metas_layout_is_the_model(parts: int, embedding_axis: int, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("llama")
    pieces: list[dict[str, Tensor]] = [{} for _ in range(parts)]
    for name, values in raw_tensors(folder).items():
        for piece, part in zip(pieces, split(name, values, parts, embedding_axis=embedding_axis), strict=True):
            piece[name] = part
    for number, piece in enumerate(pieces):
        torch.save(piece | {"rope.freqs": torch.ones(8)}, tmp_path / f"consolidated.{number:02}.pth")
    write_params(tmp_path, {**META, "vocab_size": -1})
    assert difference(tmp_path, peer) <= 1e-4
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == open_checkpoint(folder).config
    assert checkpoint.generation.eos_token_ids == (2,)
    hub = open_checkpoint(folder).tensors
    assert all(np.array_equal(tensor.data, hub[name].data) for name, tensor in checkpoint.tensors.items())


@pytest.mark.parametrize("name", ["mistral", "mistral-window", "mixtral"])
def test_mistrals_layout_is_the_model(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    save_file(raw_tensors(folder), tmp_path / "consolidated.safetensors")
    experts = {"moe": {"num_experts": 5, "num_experts_per_tok": 2}} if name == "mixtral" else {}
    window = {"sliding_window": 8} if name == "mistral-window" else {}
    theta = json.loads((folder / "config.json").read_text())["rope_parameters"]["rope_theta"]
    write_params(tmp_path, {**MISTRAL, **experts, **window, "rope_theta": theta})
    assert difference(tmp_path, peer) <= 1e-4
    assert open_checkpoint(tmp_path).family == name.split("-")[0]


@pytest.mark.parametrize(
    ("changes", "context", "factor"),
    [
        ({}, 2048, None),
        ({"norm_eps": 1e-5}, 4096, None),
        ({"norm_eps": 1e-5, "rope_theta": 1e6}, 16384, None),
        ({"norm_eps": 1e-5, "rope_theta": 5e5}, 8192, None),
        ({"norm_eps": 1e-5, "rope_theta": 5e5, "use_scaled_rope": True}, 131072, 8.0),
    ],
)
def test_the_versions_of_llama_are_told_apart(
    changes: dict[str, Any], context: int, factor: float | None, tiny: Tiny, tmp_path: Path
) -> None:
    torch.save(raw_tensors(tiny("llama")[0]), tmp_path / "consolidated.00.pth")
    write_params(tmp_path, {**{k: v for k, v in META.items() if k != "max_seq_len"}, "norm_eps": 1e-6, **changes})
    config = open_checkpoint(tmp_path).config
    assert config.context_length == context and config.rope is not None
    assert (config.rope.freq_factors and max(config.rope.freq_factors)) == factor


def test_what_params_say_beyond_the_graph_is_refused_by_name(tiny: Tiny, tmp_path: Path) -> None:
    save_file(raw_tensors(tiny("mistral")[0]), tmp_path / "consolidated.safetensors")
    write_params(tmp_path, {**MISTRAL, "vision_encoder": {"hidden_size": 8}})
    with pytest.raises(UnknownNameError, match="vision_encoder"):
        open_checkpoint(tmp_path)
    write_params(tmp_path, {**MISTRAL, "dim": "64"})
    with pytest.raises(FormatError, match="dim '64'"):
        open_checkpoint(tmp_path)


def test_parts_that_are_not_all_there_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    for number in (0, 2):
        torch.save(raw_tensors(tiny("llama")[0]), tmp_path / f"consolidated.{number:02}.pth")
    write_params(tmp_path, META)
    with pytest.raises(FormatError, match="00, 02"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_hub_folder_of_torchs_pickles_is_read_and_says_so(
    shards: int, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, peer = tiny("llama")
    tensors = load_file(folder / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    if shards == 1:
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        place = {name: f"pytorch_model-{number % 2 + 1:05}-of-00002.bin" for number, name in enumerate(tensors)}
        for file in set(place.values()):
            torch.save({name: tensors[name] for name in place if place[name] == file}, tmp_path / file)
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": place}))
    assert difference(tmp_path, peer) <= 1e-4
    assert "is a pickle: only its tensors are read and no code in it runs" in capsys.readouterr().err


class Attack:
    """What a hostile pickle holds: a call to make when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda mark: {"a": Attack(mark)}, "holds more than tensors"),
        (lambda mark: [torch.ones(2)], "holds a list"),
        (lambda mark: {"a": torch.ones(1).expand(1 << 40)}, "more numbers for 'a' than the file has bytes"),
        (lambda mark: {"a": {"b": torch.ones(1)}}, "'a', which is no dense tensor"),
        (lambda mark: {"a": torch.ones(3).to_sparse()}, "'a', which is no dense tensor"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_not_run(
    content: Callable[[Path], Any], words: str, tiny: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((tiny("llama")[0] / "config.json").read_text())
    torch.save(content(tmp_path / "ran"), tmp_path / "pytorch_model.bin")
    with pytest.raises(FormatError, match=words):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_old_or_cut_short_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny("llama")[0] / "config.json").read_text())
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError, match=r"before 1\.6"):
        open_checkpoint(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    with pytest.raises(FormatError, match="damaged"):
        open_checkpoint(tmp_path)


def test_a_pickle_needs_torch_and_says_so(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny("llama")[0] / "config.json").read_text())
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from pathlib import Path\n"
        "from octavo.models.checkpoint import open_checkpoint\n"
        "from octavo.errors import MissingDependencyError\n"
        "try: open_checkpoint(Path(sys.argv[1]))\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "pip install 'octavo[torch]'" in done.stdout


def test_every_fault_of_a_raw_folder_is_one_of_ours(tmp_path: Path) -> None:
    write_params(tmp_path, META)
    with pytest.raises(OctavoError, match=r"has no model\.safetensors"):
        open_checkpoint(tmp_path)
