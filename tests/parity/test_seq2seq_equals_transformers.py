"""Encoder-decoders against the live peer: T5 in both generations, tied or not; Marian; padded sources, cached steps."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from octavo.errors import OctavoError
from octavo.generate.encoder_decoder.torch_seq2seq import Seq2Seq, greedy
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.loading import make_runner
from octavo.models.mapping.generation import read_generation, write_generation
from octavo.models.mapping.searching import SearchAdvice
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.encoder_decoder.growing import GrowingCache

BOUND = 1e-4
VARIANTS = runpy.run_path(str(Path(__file__).with_name("tiny_seq2seq.py")))["VARIANTS"]
Tiny = Callable[[str], tuple[Path, transformers.PreTrainedModel]]
every_variant = pytest.mark.parametrize("name", VARIANTS)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    @cache
    def made(name: str) -> tuple[Path, transformers.PreTrainedModel]:
        torch.manual_seed(3)
        folder = tmp_path_factory.mktemp("seq2seq")
        model = VARIANTS[name]().eval()
        with torch.no_grad():
            for key, tensor in (*model.named_parameters(), *model.named_buffers()):
                if "embed_positions" not in key and tensor.is_floating_point():
                    tensor.add_(torch.randn_like(tensor) * 0.1)
        model.save_pretrained(folder)
        return folder, model

    return made


def load(folder: Path) -> Transformer:
    return Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sources of three lengths, padded on the right, their mask, and targets."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(2, 160, (3, 30), generator=generator)
    mask = torch.arange(30)[None] < torch.tensor([30, 7, 1])[:, None]
    return source * mask, mask.long(), torch.randint(2, 160, (3, 25), generator=generator)


@every_variant
def test_a_padded_batch_equals_the_peer(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    source, mask, target = batch()
    expected = peer(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    assert expected.std() > 0.2, "the tiny model says nothing"
    model = load(folder)
    assert (model(target, memory=model.remember(source, mask)) - expected).abs().max() <= BOUND
    encoded = peer.get_encoder()(input_ids=source, attention_mask=mask).last_hidden_state
    assert ((model.memory(source, mask) - encoded) * mask[..., None]).abs().max() <= BOUND


@every_variant
@pytest.mark.parametrize("sizes", [(1,) * 25, (3, 1, 20, 1)])
def test_steps_with_a_cache_equal_the_whole(name: str, sizes: tuple[int, ...], tiny: Tiny) -> None:
    model = load(tiny(name)[0])
    source, mask, target = batch()
    memory = model.remember(source, mask)
    cache, start, logits = GrowingCache(model.relative_bias), 0, []
    for size in sizes:
        tokens = target[:, start : start + size]
        positions = torch.arange(start, start + size).expand_as(tokens)
        logits.append(model.logits(model.hidden(model.embed(tokens, positions), positions, cache, memory=memory)))
        start += size
    assert (torch.cat(logits, 1) - model(target, memory=memory)).abs().max() <= BOUND


@every_variant
def test_a_saved_folder_gives_the_peer_the_same(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    opened = open_checkpoint(folder)
    model = Transformer.from_checkpoint(opened)
    save_checkpoint(tmp_path, opened.config, opened.family, model.stored_tensors(), None, GenerationDefaults())
    assert open_checkpoint(tmp_path).config == opened.config
    source, mask, target = batch()
    again = type(peer).from_pretrained(tmp_path).eval()
    given = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target}
    assert (again(**given).logits - peer(**given).logits).abs().max() <= 1e-5


def test_a_runner_of_decoders_refuses_it_in_one_sentence(tiny: Tiny) -> None:
    with pytest.raises(OctavoError, match="reads a source"):
        make_runner(open_checkpoint(tiny("t5")[0]), num_blocks=4)


def test_each_row_of_a_padded_batch_equals_itself_alone(tiny: Tiny) -> None:
    model = load(tiny("t5")[0])
    source, mask, target = batch()
    together = model(target, memory=model.remember(source, mask))
    for row, length in enumerate((30, 7, 1)):
        alone = model(target[row : row + 1], memory=model.remember(source[row : row + 1, :length]))
        assert (together[row] - alone[0]).abs().max() <= BOUND


@pytest.mark.parametrize("name", ["t5", "t5 v1.1", "marian"])
def test_greedy_answers_of_a_padded_batch_are_the_peers(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    source, mask, _ = batch()
    ends = [17, 44, 81]
    given = {"max_new_tokens": 30, "do_sample": False, "num_beams": 1, "eos_token_id": ends, "pad_token_id": 0}
    expected = peer.generate(input_ids=source, attention_mask=mask, decoder_start_token_id=0, **given)
    ours = greedy(load(folder), source, mask.bool(), 0, ends, 30)
    for row, answer in zip(expected.tolist(), ours, strict=True):
        end = next((place for place, token in enumerate(row) if token in ends), len(row))
        assert answer == row[1:end]


def with_words(folder: Path) -> tokenizers.Tokenizer:
    """A tokenizer of words w3, w4, ... beside the weights."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{f"w{number}": number for number in range(3, 160)}}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}')
    return backend


ADVICE: dict[str, dict[str, object]] = {
    "nothing": {},
    "ends forced": {"forced_bos_token_id": 9, "forced_eos_token_id": 1},
    "no runs twice": {"no_repeat_ngram_size": 2},
    "no words twice": {"no_repeat_ngram_size": 1},
    "nothing of the source": {"encoder_no_repeat_ngram_size": 1},
    "long": {"min_length": 9},
    "words forbidden": {"bad_words_ids": [[0], [7], [30]], "suppress_tokens": [12, 13]},
    "made whole again": {"bad_words_ids": [[0]], "renormalize_logits": True, "forced_eos_token_id": 1},
    "all of a summary": {"length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3, "min_length": 5,
                         "forced_bos_token_id": 9, "forced_eos_token_id": 1},
}  # fmt: skip


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("advice", ADVICE)
@pytest.mark.parametrize("name", ["bart", "marian", "t5"])
def test_what_the_authors_advise_is_done(name: str, advice: str, num_beams: int, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    shutil.copytree(folder, tmp_path / "model")
    backend = with_words(tmp_path / "model")
    given = {
        "eos_token_id": 1,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "num_beams": num_beams,
        **ADVICE[advice],
    }
    (tmp_path / "model/generation_config.json").write_text(json.dumps(given))
    model = Seq2Seq.load(str(tmp_path / "model"))
    for source in ([5, 9, 30], [7], list(range(60, 80))):
        wanted = transformers.GenerationConfig(**given, max_new_tokens=14)
        ids = torch.tensor([source])
        expected = peer.generate(ids, attention_mask=torch.ones_like(ids), generation_config=wanted)[0, 1:].tolist()
        (answer,) = model.generate([" ".join(f"w{token}" for token in source)], max_tokens=14)
        assert answer == backend.decode([token for token in expected if token > 2])


def test_a_head_that_scores_is_refused_by_name(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny("bart")[0], tmp_path / "model")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["BartForSequenceClassification"]}))
    with pytest.raises(OctavoError, match="BartForSequenceClassification; encoder-decoders are done here where they"):
        open_checkpoint(tmp_path / "model")


def test_advice_in_an_older_config_is_heeded_and_written_again(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny("bart")[0], tmp_path / "model")
    path = tmp_path / "model/config.json"
    old = {"num_beams": 4, "no_repeat_ngram_size": 3, "early_stopping": True, "bad_words_ids": [[0]], "min_length": 5}
    path.write_text(json.dumps({**json.loads(path.read_text()), **old}))
    (tmp_path / "model/generation_config.json").unlink()
    generation = open_checkpoint(tmp_path / "model").generation
    assert generation.search == SearchAdvice(4, 1.0, True, 5, 3, suppress_tokens=(0,))
    again = read_generation(write_generation(generation), {"is_encoder_decoder": True}, "again")
    assert again == generation
    for wrong in ({"num_beams": 0}, {"length_penalty": "x"}, {"early_stopping": "soon"}, {"bad_words_ids": [[1, 2]]}):
        with pytest.raises(OctavoError, match=next(iter(wrong))):
            read_generation(wrong, {"is_encoder_decoder": True}, "wrong")
    with pytest.raises(OctavoError, match="num_beams"):
        read_generation({"num_beams": 4}, {}, "of a decoder")


def test_texts_go_in_and_come_out(tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny("t5")
    with_words(folder)
    model = Seq2Seq.load(str(folder))
    sources = ["w5 w9 w30", "w7"]
    together = model.generate(sources, max_tokens=12)
    assert together == [model.generate([source], max_tokens=12)[0] for source in sources]
    assert any(together)
