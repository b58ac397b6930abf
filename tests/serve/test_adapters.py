"""Adapters over HTTP: each is a model of its own name, beside its base, in one batch and one memory."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import save_file

from octavo.errors import OctavoError
from octavo.generate.lm import Request, Sampling, Started, complete
from octavo.generate.local import load
from octavo.models.checkpoint import open_checkpoint
from octavo.nn.shapes import parameter_shapes

PROMPT = "Tom and Lily saw a big red ball. " * 4
NAMES = {"q": "self_attn.q_proj", "down": "mlp.down_proj"}


@pytest.fixture
def adapters(stories, tmp_path):
    """Two folders as PEFT writes them."""
    shapes = parameter_shapes(open_checkpoint(stories).config)
    for seed, name in enumerate(("first", "second")):
        random, tensors = np.random.default_rng(seed), {}
        for part, module in NAMES.items():
            out, width = next(shape for key, shape in shapes.items() if key.endswith(f".{part}.weight"))
            prefix = f"base_model.model.model.layers.1.{module}.lora_"
            tensors[f"{prefix}A.weight"] = random.normal(0, width**-0.5, (4, width)).astype(np.float32)
            tensors[f"{prefix}B.weight"] = random.normal(0, 0.3, (out, 4)).astype(np.float32)
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
        fields = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(fields))
    return {name: tmp_path / name for name in ("first", "second")}


def request():
    return Request(PROMPT, max_tokens=8, sampling=Sampling(temperature=0))


def test_each_name_is_answered_by_its_own_adapter_also_together(stories, adapters, start_server):
    with load(str(stories), adapters=adapters) as model:
        names = [model.name, *adapters]
        views = [model, *(model.adapted(name) for name in adapters)]
        alone = {view.name: complete(view, request()).text for view in views}
        assert len(set(alone.values())) == 3
        running = start_server([model])
        for name in adapters:
            running.server.serving.models.adapter(name, model.name)
        with running.http() as http:
            listed = {entry["id"]: entry for entry in http.get("/v1/models").json()["data"]}
            assert [listed[name].get("parent") for name in names] == [None, model.name, model.name]
            assert all(listed[name]["loaded"] for name in names)

            def ask(name):
                body = {"model": name, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
                return http.post("/v1/completions", json=body, timeout=300).json()

            with ThreadPoolExecutor(3) as pool:
                answers = list(pool.map(ask, names))
            assert [answer["model"] for answer in answers] == names
            assert [answer["choices"][0]["text"] for answer in answers] == [alone[name] for name in names]
            assert ask("third")["error"]["code"] == "model_not_found"
        running.stop()
        model.engine.check()


def test_what_one_adapter_computed_of_a_prompt_is_not_taken_by_another(stories, adapters):
    def cached(view):
        return next(event.cached_tokens for event in view.stream(request()) if isinstance(event, Started))

    with load(str(stories), adapters=adapters) as model:
        views = [model, *(model.adapted(name) for name in adapters)]
        assert [cached(view) for view in views] == [0, 0, 0]
        assert all(cached(view) > 0 for view in views)
        ids = model.encode(PROMPT)
        assert len({view.score(ids).logprobs for view in views}) == 3
        views[1].close()
        assert complete(model, request()).text
        with pytest.raises(OctavoError, match=r"no adapter 'firs'.*'first'"):
            model.adapted("firs")
