"""The Open-LLMs table loses no cell and is read as its authors meant it; named models have their published sizes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from octavo.errors import OctavoError, UnknownNameError
from octavo.examine.catalogue import open_llms
from octavo.examine.catalogue.named import named_models
from octavo.examine.catalogue.open_llms import open_models, plain, read_count, search, tables
from octavo.examine.sizing.cost import count_parameters
from octavo.examine.sizing.described import describe_named

ROOT = Path(__file__).resolve().parents[3]


def squeezed(line: str) -> str:
    """A line of the page without what Markdown does not count: space around bars, the last bar, empty last cells."""
    return re.sub(r"\s*\|\s*", "|", line.strip()).strip("|")


def test_the_packaged_page_is_the_authors_own(shared: Path) -> None:
    assert open_llms.PAGE.read_bytes() == (shared / "data/misc/open-llms.md").read_bytes()


def test_no_cell_of_any_table_is_lost() -> None:
    lines = [line for line in open_llms.PAGE.read_text().splitlines() if line.startswith("|")]
    written = [squeezed(line) for line in lines if not re.fullmatch(r"[|\s-]+", line)]
    kept = [squeezed("|".join(row)) for table in tables() for row in (table.head, *table.rows)]
    assert kept == written
    assert [len(table.rows) for table in tables()] == [66, 10, 2, 3, 1]
    assert all(len(row) == len(table.head) for table in tables() for row in table.rows)


def test_licences_are_counted_as_the_table_has_them() -> None:
    counts = Counter(licence for model in open_models() for licence in model.licences)
    assert len(open_models()) == 76
    assert counts == {
        "Apache-2.0": 41, "custom": 20, "MIT": 8, "OpenRAIL-M": 4, "CC-BY-SA-4.0": 2, "CC-BY-SA-3.0": 2,
        "BSD-3-Clause": 1,
    }  # fmt: skip
    assert sum(model.licences == ("Apache-2.0",) for model in open_models()) == 39


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T5", {"params_min": 60_000_000, "params_max": 11_000_000_000, "context": 512, "released": "2019-10"}),
        ("OLMo", {"params_min": 10**9, "params_max": 7 * 10**9, "released": "2024-02-01"}),
        ("Gemma", {"params_min": 2 * 10**9, "params_max": 7 * 10**9, "licences": ("custom",), "restricted": True}),
        ("MPT-7B", {"context": 84 * 1024, "licences": ("Apache-2.0", "CC-BY-SA-3.0"), "restricted": False}),
        ("RWKV 5 v2", {"context": None, "params_min": 400_000_000}),
        ("LWM", {"context": 1 << 20}),
        ("Mistral 7B", {"context": 16384}),
        ("FLOR", {"licences": ("custom",), "params_max": 6_300_000_000}),
        ("Falcon 2", {"licences": ("custom",)}),
        ("SOLAR", {"licences": ("Apache-2.0",), "params_min": 10_700_000_000}),
        ("Replit Code", {"context": None, "section": "Open LLMs for code"}),
    ],
)
def test_a_difficult_row_is_read_as_it_was_meant(name: str, expected: dict[str, Any]) -> None:
    (model,) = [model for model in open_models() if model.name == name]
    assert {field: getattr(model, field) for field in expected} == expected


def test_nested_brackets_keep_both_addresses() -> None:
    (model,) = search("CodeLlama models")
    assert plain(model.cells[2]) == "Inference Code for CodeLlama models"
    assert "https://github.com/facebookresearch/codellama" in model.links


def test_search_finds_what_all_conditions_meet() -> None:
    names = [model.name for model in search(licence="apache-2.0", max_params=7 * 10**9, min_context=8192)]
    assert names == [
        "RWKV 4", "MPT-7B", "XGen-7B", "Mistral 7B", "Zephyr", "Mistral 7B v0.2", "RWKV 5 v2", "Mamba-7B",
        "RWKV 6 v2.1", "XGen-7B",
    ]  # fmt: skip
    assert {model.name for model in search("SOLAR 10.7b")} == {"SOLAR"}
    assert search(licence="Apache 2.0") == search(licence="APACHE-2.0") != []
    with pytest.raises(UnknownNameError, match=r"did you mean 'apache-2\.0'"):
        search(licence="apache2")


@given(
    size=st.integers(10**7, 10**12), context=st.integers(1, 10**6), licence=st.sampled_from(open_llms.known_licences())
)
def test_a_narrower_search_finds_no_more(size: int, context: int, licence: str) -> None:
    wide = search(licence=licence)
    narrow = search(licence=licence, max_params=size, min_context=context)
    assert [model for model in wide if model in narrow] == narrow
    assert {model.name for model in search(max_params=size)} | {
        model.name for model in open_models() if model.params_min > size
    } == {model.name for model in open_models()}


@given(st.integers(0, 10**6))
def test_counts_are_read_with_their_letters(number: int) -> None:
    assert read_count(str(number)) == number
    assert read_count(f"{number}K", thousand=1024) == 1024 * number
    assert read_count(f"{number}.5b") == number * 10**9 + 5 * 10**8


@pytest.mark.parametrize("text", ["", "seven", "7bb", "-1", "1e9", "k"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(OctavoError, match="is not a number such as"):
        read_count(text)


PUBLISHED = {
    "gpt2": 124_439_808, "gpt2-xl": 1_557_611_200, "llama-7b": 6_738_415_616, "llama-65b": 65_285_660_672,
    "falcon-7b": 6_921_720_704, "llama-2-70b": 68_976_648_192, "mistral-7b-v0.1": 7_241_732_096,
    "solar-10.7b": 10_731_524_096, "phi-2": 2_779_683_840, "smollm2-135m-instruct": 134_515_008,
    "smollm2-1.7b": 1_711_376_384, "mixtral-8x7b": 46_702_792_704, "llama-3.1-8b": 8_030_261_248,
    "gpt": 116_534_784, "deepseek-v3": 671_026_419_200, "gpt-oss-20b": 20_914_757_184,
    "qwen2.5-0.5b": 494_032_768, "qwen3-8b": 8_190_735_360, "gemma-2-2b": 2_614_341_888,
}  # fmt: skip


@pytest.mark.parametrize("name", named_models())
def test_a_named_model_has_the_size_of_the_peer_s_and_the_published_one(name: str) -> None:
    raw = dict(named_models()[name].config)
    config = AutoConfig.for_model(raw.pop("model_type"), **raw)
    with torch.device("meta"):
        peer = AutoModelForCausalLM.from_config(config)
    total = count_parameters(describe_named(name).config).total
    biases = sum(buffer.numel() for key, buffer in peer.named_buffers() if key.endswith("correction_bias"))
    assert total == sum(parameter.numel() for parameter in peer.parameters()) + biases
    assert total == PUBLISHED.get(name, total)


def test_gpt_3_has_the_size_on_its_label() -> None:
    assert count_parameters(describe_named("gpt3-175b").config).total == pytest.approx(175e9, rel=0.03)


def test_named_models_stand_in_rows_of_the_lecture_that_exist() -> None:
    numbers = {int(row) for row in re.findall(r"^\| (\d+) \|", (ROOT / "docs/lecture.md").read_text(), re.M)}
    assert {model.system for model in named_models().values() if model.system is not None} <= numbers
