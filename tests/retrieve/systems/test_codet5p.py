"""CodeT5+ in each of its modes against the peer's T5 with the heads of the hub's classes, and a run of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.models.checkpoint import open_checkpoint
from octavo.retrieve.systems.code.corpus import read_functions, standard_library
from octavo.retrieve.systems.code.search import CodeIndex, evaluate_folder, load_codet5p
from octavo.retrieve.systems.code.torch_codet5p import CODE, CodeT5p, search
from octavo.retrieve.systems.code.torch_training import split, train_codet5p
from octavo.retrieve.systems.recipes import CodeRecipe
from octavo.train.metrics import Event, Stepped
from octavo.train.recipe import load_any

BOUND = 1e-5
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "[ENC]", "[TDEC]", "[CDEC]"]
WORDS = [*SPECIAL, *(f"w{number}" for number in range(93))]
TEXTS = ["w3 w9 w4", "w50", "w8 w8 w71 w2 w30"]
CODES = ["w1 w2 w3 w4 w5 w6", "w90 w3", "w3 w9 w4", "w60 w61 w62 w63"]


def folder_of(path: Path, peer: Any, model_type: str, heads: dict[str, torch.nn.Linear]) -> Path:
    """As on the hub: the peer's weights and the heads in one file."""
    peer.save_pretrained(path)
    weights = load_file(path / "model.safetensors")
    for name, head in heads.items():
        weights |= {f"{name}.weight": head.weight.detach().clone(), f"{name}.bias": head.bias.detach().clone()}
    save_file(weights, path / "model.safetensors")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": model_type, "embed_dim": 16}))
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    backend.add_special_tokens(SPECIAL)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    backend.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text('{"eos_token": "</s>", "bos_token": "<s>", "pad_token": "<pad>"}')
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[CodeT5p, Any, dict[str, torch.nn.Linear]]:
    torch.manual_seed(8)
    config = transformers.T5Config(
        vocab_size=100, d_model=40, d_kv=8, d_ff=64, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        relative_attention_max_distance=20, decoder_start_token_id=0, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    peer = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    heads = {"proj": torch.nn.Linear(40, 16), "itm_head": torch.nn.Linear(40, 2)}
    folder = folder_of(tmp_path_factory.mktemp("bimodal"), peer, "codet5p_bimodal", heads)
    return CodeT5p.load(folder), peer, heads


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]), mask


@torch.no_grad()
def peer_vectors(peer: Any, heads: dict[str, torch.nn.Linear], rows: list[list[int]]) -> torch.Tensor:
    tokens, mask = padded(rows)
    states = peer.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    return functional.normalize(heads["proj"](states[:, 0]), dim=-1)


def test_vectors_are_the_peer_s(both: tuple[CodeT5p, Any, Any]) -> None:
    ours, peer, heads = both
    rows = [ours.ids(text, 20) for text in [*TEXTS, *CODES]]
    assert rows[0] == [1, 10, 16, 11, 2]
    expected = peer_vectors(peer, heads, rows)
    assert (ours.embed(rows) - expected).abs().max() <= BOUND and expected.std() > 0.1


@torch.no_grad()
def test_the_judgement_is_the_peer_s(both: tuple[CodeT5p, Any, Any]) -> None:
    ours, peer, heads = both
    codes = [ours.ids(code, 20) for code in CODES]
    for text in TEXTS:
        asked = ours.ids(text, 20)
        states = peer.encoder(input_ids=torch.tensor([asked])).last_hidden_state
        tokens, mask = padded([[4, *code[1:]] for code in codes])  # [ENC] begins what is judged
        decoded = peer.decoder(
            input_ids=tokens, attention_mask=mask, encoder_hidden_states=states.expand(len(codes), -1, -1)
        ).last_hidden_state
        expected = heads["itm_head"](decoded[torch.arange(len(codes)), mask.sum(1) - 1])[:, 1]
        assert (ours.match(asked, codes) - expected).abs().max() <= BOUND * 10 and expected.std() > 0.01


def test_what_is_written_is_the_peer_s(both: tuple[CodeT5p, Any, Any]) -> None:
    ours, peer, _ = both
    source = ours.ids(TEXTS[2], 20)
    given = {"decoder_start_token_id": 6, "num_beams": 3, "max_new_tokens": 7, "do_sample": False}
    expected = peer.generate(torch.tensor([source]), **given)[0, 1:].tolist()
    wanted = ours.tokenizer.decode([token for token in expected if token not in (0, 2)])
    assert ours.write(source, start=CODE, beams=3, max_tokens=7) == wanted


def test_search_orders_by_judgement_and_cosine(both: tuple[CodeT5p, Any, Any]) -> None:
    ours, _, _ = both
    codes = [ours.ids(code, 20) for code in CODES]
    vectors = ours.embed(codes)
    plain = search(ours, TEXTS[0], codes, vectors, 4, judge=False)
    assert plain[0][0] == 2 and plain[0][1] == pytest.approx(1, abs=1e-5), "the same tokens have the same vector"
    judged = dict(search(ours, TEXTS[0], codes, vectors, 4))
    logits = ours.match(ours.ids(TEXTS[0], 20), codes)
    for at, cosine in plain:
        assert judged[at] == pytest.approx(cosine + float(logits[at]), abs=1e-5)
    assert list(judged.values()) == sorted(judged.values(), reverse=True)


def test_the_encoder_alone_gives_vectors_and_nothing_else(
    both: tuple[CodeT5p, Any, dict[str, torch.nn.Linear]], tmp_path: Path
) -> None:
    ours, peer, heads = both
    config = transformers.T5Config(**{**peer.config.to_diff_dict(), "is_encoder_decoder": False})
    encoder = transformers.T5EncoderModel(config)
    encoder.load_state_dict(peer.state_dict(), strict=False)
    folder = folder_of(tmp_path, encoder, "codet5p_embedding", {"proj": heads["proj"]})
    alone = CodeT5p.load(folder)
    rows = [ours.ids(text, 20) for text in TEXTS]
    assert (alone.embed(rows) - ours.embed(rows)).abs().max() <= BOUND
    assert open_checkpoint(folder).config.encoder is not None
    with pytest.raises(UnsupportedError, match="judges nothing"):
        alone.match(rows[0], rows)
    with pytest.raises(UnsupportedError, match="writes nothing"):
        alone.write(rows[0])


def test_a_model_without_the_head_is_refused(stories: Path) -> None:
    with pytest.raises(FormatError, match="CodeT5\\+"):
        load_codet5p(stories)


def test_functions_of_the_standard_library_are_what_python_says(tmp_path: Path) -> None:
    import inspect
    import shutil

    (tmp_path / "library").mkdir()
    shutil.copy(standard_library() / "shutil.py", tmp_path / "library")
    one = {one.name: one for one in read_functions(tmp_path / "library")}["copytree"]
    assert one.path == "shutil.py"
    assert one.text == "Recursively copy a directory tree and return the destination directory."
    source, line = inspect.getsourcelines(shutil.copytree)
    assert (one.line, one.code.splitlines()[0]) == (line, source[0].rstrip("\n"))
    assert "Recursively copy" not in one.code and one.code.rstrip().endswith(source[-1].strip())
    (tmp_path / "library/shutil.py").write_text("def f(:")
    with pytest.raises(OctavoError, match="no Python function"):
        read_functions(tmp_path / "library")


SOURCE = '''
def add_{name}(items, {name}):
    """Add a {name} to the items."""
    items.append({name})
    return items


def drop_{name}(items, {name}):
    """Drop each {name} from the items."""
    return [item for item in items if item != {name}]
'''
RECIPE = """
objective = "codet5p"
[data]
held_out = 0.25
[model]
num_layers = 1
hidden_size = 48
intermediate_size = 64
vocab_size = 400
code_tokens = 60
[optimizer]
learning_rate = 3e-3
[schedule]
warmup_steps = 5
[training]
steps = 25
batch_size = 8
log_every = 1
threads = 1
"""


def test_a_run_learns_to_find_code_and_leaves_a_model_of_the_hub_s_kind(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("apple", "house", "river", "stone", "cloud", "bread", "chair", "light"):
        (source / f"{name}.py").write_text(SOURCE.format(name=name))
    (tmp_path / "codet5p.toml").write_text(RECIPE)
    events: list[Event] = []
    wanted = load_any(tmp_path / "codet5p.toml", {"codet5p": CodeRecipe})
    result = train_codet5p(wanted, source, tmp_path / "run", on_event=events.append)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert result.model is not None
    index = CodeIndex.load(result.model, source)
    found = index.search("Add a river to the items.", 3, judge=False)
    assert len(found) == 3 and found[0].score >= found[1].score
    assert isinstance(index.model.write(index.model.ids("Add a river.", 60), max_tokens=4), str)
    scores = evaluate_folder(result.model, source, held_out=0.25, limit=None, judge=True)
    assert (scores.questions, scores.candidates, scores.judged) == (4, 4, True)
    kept, out = split(read_functions(source), 0.25)
    assert not {one.path for one in kept} & {one.path for one in out}
    weights = load_file(result.model / "model.safetensors")
    assert {"proj.weight", "itm_head.bias", "shared.weight"} <= weights.keys()
    assert weights["proj.weight"].shape == (256, 48)
