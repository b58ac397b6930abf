"""Opening a model: what its config says is read, known to be harmless, or refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import FormatError, ModelNotFoundError, OctavoError, UnknownNameError, UnsupportedError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.families import FAMILIES
from octavo.models.mapping.generation import read_generation, write_generation
from octavo.models.saving import save_checkpoint
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.nn.frequencies import linear_factors
from octavo.nn.shapes import parameter_shapes

CONFIG = TransformerConfig(
    vocab_size=12,
    hidden_size=8,
    num_layers=2,
    context_length=16,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(2, 1, 4),
    mlp=MlpConfig(6, "silu", gated=True),
    rope=RopeConfig(1e4, 4),
    tie_embeddings=False,
)


def weights(config: TransformerConfig, seed: int = 0) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(config).items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_checkpoint(path, CONFIG, "llama", weights(CONFIG), None, GenerationDefaults((2,)))
    return path


def change(folder: Path, file: str = "config.json", **changes: Any) -> None:
    raw = json.loads((folder / file).read_text()) | changes
    kept = {key: value for key, value in raw.items() if value is not ...}
    (folder / file).write_text(json.dumps(kept))


def test_opening_describes_the_model_and_reads_tensors_when_asked(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.name, checkpoint.family, checkpoint.config) == ("model", "llama", CONFIG)
    assert checkpoint.generation.eos_token_ids == (2,)
    assert list(checkpoint.tensors) == list(parameter_shapes(CONFIG))
    for name, array in weights(CONFIG).items():
        assert np.array_equal(checkpoint.tensors[name].dequantize(), array)
    checkpoint.release()
    assert np.array_equal(checkpoint.tensors["norm.weight"].dequantize(), weights(CONFIG)["norm.weight"])


@pytest.mark.parametrize(
    "field", ["hidden_size", "num_hidden_layers", "vocab_size", "rms_norm_eps", "intermediate_size"]
)
def test_a_missing_field_is_named(field: str, folder: Path) -> None:
    change(folder, **{field: ...})
    with pytest.raises(FormatError, match=f"lacks the field '{field}'"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": -8}, "hidden_size -8; it must be a whole number from 1"),
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"hidden_size": 8.0}, r"hidden_size 8\.0"),
        ({"num_hidden_layers": True}, "num_hidden_layers True"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000"),
        ({"vocab_size": "12"}, "vocab_size '12'"),
        ({"attention_bias": 1}, "attention_bias 1; it must be true or false"),
        ({"rms_norm_eps": -1e-5}, "rms_norm_eps -1e-05; it must be a number above 0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps nan"),
        ({"rope_theta": float("inf")}, "rope_theta inf"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "3 attention heads, not a multiple of its 2"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}, "3, which does not divide the width"),
        ({"hidden_act": "silux"}, "hidden_act 'silux', which is not one of .*did you mean 'silu'"),
        ({"hidden_act": 3}, "hidden_act 3; it must be a text"),
        ({"rope_scaling": {"rope_type": "dynamo", "factor": 4.0}}, "rope_scaling.rope_type 'dynamo'"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "mscal": 1}}, r"key 'rope_scaling\.mscal'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0, "beta": 1}}, r"key 'rope_scaling\.beta'"),
        ({"rope_scaling": {"rope_type": "linear"}}, r"lacks the field 'rope_scaling\.factor'"),
        ({"rope_scaling": 3}, "rope_scaling 3; it must be an object"),
        ({"partial_rotary_factor": 0.8}, "rotary embedding of 3 of a head's 4 features"),
        ({"rope_interleaved": True}, "rope_interleaved True, which is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"sliding_windo": 4}, "key 'sliding_windo'"),
        ({"intermediate_size": 7}, r"has shape \[6, 8\], but the config asks for \[7, 8\]"),
        ({"num_hidden_layers": 1}, r"has the tensor 'model\.layers\.1\."),
        ({"num_hidden_layers": 3}, r"lacks the tensor 'model\.layers\.2\."),
        ({"attention_bias": True}, r"lacks the tensor 'model\.layers\.0\.self_attn\.q_proj\.bias'"),
        ({"model_type": "lama"}, "model_type 'lama', a family that is not here .* did you mean 'llama'"),
        ({"model_type": "mamba2"}, "needs what is not here: state-space blocks"),
        ({"model_type": None}, "model_type None"),
        ({"model_type": ["llama"]}, "model_type"),
        ({"eos_token_id": "x"}, None),
    ],
)  # fmt: skip
def test_a_config_that_is_wrong_or_not_understood_is_refused_in_one_line(
    changes: dict[str, Any], words: str | None, folder: Path
) -> None:
    change(folder, **changes)
    if words is None:  # generation_config.json has its own
        assert open_checkpoint(folder).generation.eos_token_ids == (2,)
        return
    with pytest.raises(OctavoError, match=words) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_key_can_be_ignored_by_name(folder: Path) -> None:
    change(folder, rope_interleaved=True, strange=1)
    with pytest.raises(UnsupportedError, match="--ignore-config-key rope_interleaved"):
        open_checkpoint(folder)
    with pytest.raises(UnknownNameError, match="--ignore-config-key strange"):
        open_checkpoint(folder, ignore_keys=["rope_interleaved"])
    assert open_checkpoint(folder, ignore_keys=["rope_interleaved", "strange"]).config == CONFIG


def test_a_window_as_large_as_the_context_is_none_and_null_is_not_the_default(folder: Path) -> None:
    change(folder, model_type="mistral", sliding_window=8)
    assert open_checkpoint(folder).config == replace(CONFIG, windows=(8,) * CONFIG.num_layers)
    assert open_checkpoint(folder, ignore_keys=["sliding_window"]).config == CONFIG  # the default, 4096
    for size in (16, None):
        change(folder, sliding_window=size)
        assert open_checkpoint(folder).config == CONFIG


def test_blocks_of_a_type_that_is_not_known_are_refused(folder: Path) -> None:
    types = ["full_attention", "chunked_attention"][: CONFIG.num_layers]
    change(folder, model_type="qwen3", use_sliding_window=True, sliding_window=8, layer_types=types)
    with pytest.raises(FormatError, match=r"layer_types .* a list of 2 of 'full_attention', 'sliding_attention'"):
        open_checkpoint(folder)


def test_two_names_of_a_field_must_agree(tmp_path: Path) -> None:
    from octavo.models.mapping.config_reader import ConfigReader

    raw = {"n_embd": 8, "hidden_size": 9, "n_head": 2, "n_layer": 1, "n_positions": 4, "vocab_size": 5}
    with pytest.raises(FormatError, match="n_embd 8 but hidden_size 9"):
        FAMILIES["gpt2"].read_config(ConfigReader(raw, "config.json"))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda path: None, ModelNotFoundError, "there is no model at"),
        (lambda path: path.mkdir(), ModelNotFoundError, r"has no config\.json"),
        (lambda path: path.write_bytes(b"hello, world"), FormatError, "not a GGUF file"),
    ],
)
def test_what_is_no_model_is_refused(make: Any, error: type[OctavoError], words: str, tmp_path: Path) -> None:
    make(tmp_path / "thing")
    with pytest.raises(error, match=words):
        open_checkpoint(tmp_path / "thing")


def test_a_pickle_beside_no_config_is_refused_by_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.bin")
    with pytest.raises(FormatError, match=r"other\.bin is a pickle checkpoint"):
        open_checkpoint(folder)
    with pytest.raises(FormatError, match=r"other\.bin is a pickle checkpoint"):
        open_checkpoint(folder / "other.bin")


def test_weights_without_their_folder_say_which_folder(folder: Path) -> None:
    with pytest.raises(FormatError, match=f"give its folder, {folder}"):
        open_checkpoint(folder / "model.safetensors")


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"model_type": "llama"', "\ufeff{}"])
def test_a_config_that_is_no_json_object_is_refused(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(FormatError, match=r"config\.json"):
        open_checkpoint(folder)


def test_generation_defaults_are_read_and_what_would_decode_differently_is_refused(folder: Path) -> None:
    advice: dict[str, Any] = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 40,
        "repetition_penalty": 1.1,
    }
    change(folder, "generation_config.json", eos_token_id=[5, 2, 5], num_beams=1, max_length=20, **advice)
    assert open_checkpoint(folder).generation == GenerationDefaults((5, 2), 0.6, 40, 0.9, 1.1)
    change(folder, "generation_config.json", do_sample=False)
    assert open_checkpoint(folder).generation == GenerationDefaults((5, 2))
    for key, value in {"num_beams": 4, "no_repeat_ngram_size": 3, "temperatur": 1.0, "top_p": "x"}.items():
        change(folder, "generation_config.json", **{key: value})
        with pytest.raises(OctavoError, match=key):
            open_checkpoint(folder)
        change(folder, "generation_config.json", **{"num_beams": 1, "top_p": 0.9, key: ...})


def test_advice_beside_a_gguf_file_is_taken_and_its_end_tokens_stay(smollm2: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(smollm2)
    assert open_checkpoint(tmp_path / "model.gguf").generation == GenerationDefaults((2,))
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.2, "top_p": 0.9}')
    assert open_checkpoint(tmp_path / "model.gguf").generation == GenerationDefaults((2,), temperature=0.2, top_p=0.9)


@pytest.mark.parametrize(
    "defaults", [GenerationDefaults(), GenerationDefaults((1,)), GenerationDefaults((1, 2), 0.0, 0, 0.5, 1.2)]
)
def test_generation_defaults_survive_writing(defaults: GenerationDefaults) -> None:
    assert read_generation(write_generation(defaults), {}, "generation_config.json") == defaults


SHAPES = {
    "llama": CONFIG,
    "mistral": CONFIG,
    "gpt2": TransformerConfig(
        12, 8, 2, 16, NormConfig("layer", 1e-5), AttentionConfig(2, 2, 4, True, True),
        MlpConfig(6, "gelu_tanh", False, True), None, True,
    ),
    "falcon": TransformerConfig(
        12, 16, 2, 16, NormConfig("layer", 1e-5), AttentionConfig(4, 2, 4), MlpConfig(6, "gelu", False),
        RopeConfig(1e4, 4), True, placement="parallel_two",
    ),
    "cohere": TransformerConfig(
        12, 16, 2, 16, NormConfig("layer_without_bias", 1e-5), AttentionConfig(4, 2, 4, True, True, qk_norm="per_head"),
        MlpConfig(6, "silu", True), RopeConfig(1e4, 4), True, placement="parallel", logit_scale=0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", SHAPES)
def test_a_model_is_saved_as_it_loads_in_shards_and_in_one(family: str, tmp_path: Path) -> None:
    config = SHAPES[family]
    for shard_bytes in (1, 700, 10**9):
        path = tmp_path / str(shard_bytes)
        save_checkpoint(path, config, family, weights(config), None, GenerationDefaults(), max_shard_bytes=shard_bytes)
        assert (path / "model.safetensors").exists() == (shard_bytes == 10**9)
        opened = open_checkpoint(path)
        assert (opened.family, opened.config) == (family, config)
        for name, array in weights(config).items():
            assert np.array_equal(opened.tensors[name].dequantize(), array), name


@pytest.mark.parametrize(
    "rope", [RopeConfig(5e5, 2), RopeConfig(1e4, 4, linear_factors(4, 4)), RopeConfig(1e4, 4, (1.0, 2.5))]
)
def test_every_rotary_config_survives_saving(rope: RopeConfig, tmp_path: Path) -> None:
    config = replace(CONFIG, rope=rope)
    save_checkpoint(tmp_path / "model", config, "llama", weights(config), None, GenerationDefaults())
    assert open_checkpoint(tmp_path / "model").config == config


def test_opening_and_reading_a_model_imports_neither_torch_nor_the_tokenizer_library(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from octavo.models.checkpoint import open_checkpoint; "
        "import octavo.models.saving, octavo.models.loading; "
        "[t.dequantize() for t in open_checkpoint(Path(sys.argv[1])).tensors.values()]; "
        "print([name for name in ('torch', 'tokenizers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.sampled_from([10**12, 10**400, -(10**400), 1e308, 5e-324, 1e-40]),
    st.floats(), st.text(max_size=5), st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["linear", "llama3", "longrope", "default", "silu"]),
)  # fmt: skip
ROPE_KEYS = (
    "rope_type", "type", "factor", "rope_theta", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor",
    "attention_factor", "original_max_position_embeddings", "partial_rotary_factor",
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), family=st.sampled_from(sorted(FAMILIES)))
def test_any_config_is_read_or_refused_with_our_errors_only(data: st.DataObject, family: str, folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text()) | {"model_type": family}
    for key in data.draw(st.lists(st.sampled_from(sorted(raw)), max_size=3)):
        raw[key] = data.draw(ODD)
    if data.draw(st.booleans()):
        raw["rope_scaling"] = data.draw(st.dictionaries(st.sampled_from(ROPE_KEYS), ODD, max_size=5))
    path = folder.parent / "fuzzed"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(raw))
    if not (path / "model.safetensors").exists():
        (path / "model.safetensors").symlink_to(folder / "model.safetensors")
    try:
        checkpoint = open_checkpoint(path)
        assert all(tensor.dequantize().size for tensor in checkpoint.tensors.values())
    except OctavoError as error:
        assert str(path) in str(error) and "\n" not in str(error)
