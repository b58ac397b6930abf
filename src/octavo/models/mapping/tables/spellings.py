"""How hub configs call what `nn/config.py` has: activations, types of blocks, tasks of heads."""

from __future__ import annotations

from octavo.nn.config import Activation, HeadActivation, Task

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "relu2": "relu_squared",
    "xielu": "xielu",
}  # fmt: skip
HUB_ACTIVATIONS: dict[Activation, str] = {
    "silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu", "relu": "relu",
    "relu_squared": "relu2", "xielu": "xielu",
}  # fmt: skip
HUB_HEAD_ACTIVATIONS: dict[HeadActivation, str] = {**dict(HUB_ACTIVATIONS.items()), "tanh": "tanh"}
FULL, SLIDING = "full_attention", "sliding_attention"
"""Types of blocks."""
TASKS: dict[str, Task] = {
    "ForMaskedLM": "masked_lm", "ForPreTraining": "masked_lm", "ForSequenceClassification": "sequence",
    "ForTokenClassification": "tokens", "ForQuestionAnswering": "span", "ForNextSentencePrediction": "next_sentence",
    "ForImageClassification": "sequence", "WithLMHeadModel": "masked_lm", "ForQuestionAnsweringSimple": "span",
}  # fmt: skip
"""Ends of the names of architectures, and their tasks."""
HUB_TASKS: dict[Task | None, str] = {
    "masked_lm": "ForMaskedLM", "sequence": "ForSequenceClassification", "tokens": "ForTokenClassification",
    "span": "ForQuestionAnswering", "next_sentence": "ForNextSentencePrediction", None: "Model",
}  # fmt: skip
_ROPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")
ROPE_KINDS = {**{name: name for name in _ROPES}, "su": "longrope", "deepseek_yarn": "yarn", "mrope": "default"}
"""Scalings of rotary embedding, by all their names."""
