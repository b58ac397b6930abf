"""Models as Ollama's API describes them, from what their files say."""

from __future__ import annotations

import datetime
import hashlib
import math
from typing import Any

from octavo.examine.summary import Summary
from octavo.fetching import sources
from octavo.serve.pool import Entry, ModelPool
from octavo.text.tool_calls import form_of, thinks

LONG_AWAY = datetime.datetime(2318, 1, 1, tzinfo=datetime.UTC)


def listed(entry: Entry) -> dict[str, Any]:
    """A model in `/api/tags`."""
    summary = entry.summary
    modified = datetime.datetime.fromtimestamp(0, datetime.UTC) if summary is None else summary.modified
    return {
        "name": entry.name,
        "model": entry.name,
        "modified_at": _written(modified),
        "size": 0 if summary is None else summary.size,
        "digest": _digest(entry, summary),
        "details": details(summary),
    }


def running(entry: Entry, pool: ModelPool) -> dict[str, Any]:
    """A model in `/api/ps`."""
    left = pool.seconds_left(entry)
    expires = LONG_AWAY if math.isinf(left) else _now() + datetime.timedelta(seconds=max(0.0, left))
    context = None if entry.model is None else entry.model.context_length
    shown = {key: value for key, value in listed(entry).items() if key != "modified_at"}
    return shown | {"expires_at": _written(expires), "size_vram": 0, "context_length": context}


def shown(entry: Entry) -> dict[str, Any]:
    """The answer of `/api/show`."""
    summary = entry.summary
    template = _template(entry, summary)
    return {
        "modelfile": "",
        "parameters": _parameters(summary),
        "template": template or "",
        "license": _licence(summary) or "",
        "details": details(summary),
        "model_info": {} if summary is None else _model_info(summary),
        "capabilities": _capabilities(template),
        "modified_at": listed(entry)["modified_at"],
    }


def details(summary: Summary | None) -> dict[str, Any]:
    """Format, family, size and quantisation."""
    if summary is None:
        return {
            "parent_model": "", "format": "", "family": "", "families": None, "parameter_size": "",
            "quantization_level": "",
        }  # fmt: skip
    checkpoint = summary.checkpoint
    return {
        "parent_model": "",
        "format": "gguf" if checkpoint.metadata is not None else "safetensors",
        "family": checkpoint.family,
        "families": [checkpoint.family],
        "parameter_size": _rounded(summary.parameters),
        "quantization_level": summary.encoding.upper(),
    }


def _model_info(summary: Summary) -> dict[str, Any]:
    config, family = summary.checkpoint.config, summary.checkpoint.family
    return {
        "general.architecture": family,
        "general.parameter_count": summary.parameters,
        f"{family}.context_length": config.context_length,
        f"{family}.embedding_length": config.hidden_size,
        f"{family}.block_count": config.num_layers,
        f"{family}.attention.head_count": config.attention.num_heads,
        f"{family}.attention.head_count_kv": config.attention.num_kv_heads,
        f"{family}.vocab_size": config.vocab_size,
    }


def _parameters(summary: Summary | None) -> str:
    """The authors' advice on sampling, a line each."""
    if summary is None:
        return ""
    advice = summary.checkpoint.generation
    named = {
        "temperature": advice.temperature, "top_k": advice.top_k, "top_p": advice.top_p,
        "repeat_penalty": advice.repetition_penalty,
    }  # fmt: skip
    return "\n".join(f"{name:<30} {value}" for name, value in named.items() if value is not None)


def _template(entry: Entry, summary: Summary | None) -> str | None:
    if entry.model is not None:
        return None if entry.model.tokenizer is None else entry.model.tokenizer.chat_template
    return None if summary is None else summary.checkpoint.tokenizer().chat_template


def _capabilities(template: str | None) -> list[str]:
    """Tools are served with any chat template: one that knows none is told of them in words."""
    tools = ["tools"] if template is not None or form_of(template) is not None else []
    return ["completion", *tools, *(["thinking"] if thinks(template) else [])]


def _licence(summary: Summary | None) -> str | None:
    path = None if summary is None else summary.checkpoint.path
    return next((model.licence for model in sources.installed() if model.path == path), None)


def _digest(entry: Entry, summary: Summary | None) -> str:
    """The file's own checksum where it was pulled; else one that changes when the file does."""
    path = None if summary is None else summary.checkpoint.path
    known = next((model.sha256 for model in sources.installed() if model.path == path), None)
    if known is not None:
        return known
    state = "" if summary is None else f"{summary.size} {summary.modified.isoformat()}"
    return hashlib.sha256(f"{entry.name} {state}".encode()).hexdigest()


def _rounded(count: int) -> str:
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _written(moment: datetime.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
