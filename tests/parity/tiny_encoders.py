"""Tiny encoders of the peer, a head each: large matrices, jittered norms and biases, as in `tiny.py`."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

SIZES = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 160,
    "max_position_embeddings": 64,
}  # fmt: skip
ROBERTA = {**SIZES, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
MODERN = {
    **SIZES, "local_attention": 8, "num_hidden_layers": 5, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


class Variant(NamedTuple):
    """model_type, the peer's class, and what its config says."""

    model_type: str
    architecture: str
    config: dict[str, Any]


VARIANTS: dict[str, Variant] = {
    "bert": Variant("bert", "BertModel", SIZES),
    "bert-masked-lm": Variant("bert", "BertForMaskedLM", SIZES),
    "bert-masked-lm-untied": Variant("bert", "BertForMaskedLM", {**SIZES, "tie_word_embeddings": False}),
    "bert-sequence": Variant("bert", "BertForSequenceClassification", {**SIZES, "num_labels": 3, "hidden_act": "relu"}),
    "bert-tokens": Variant("bert", "BertForTokenClassification", {**SIZES, "num_labels": 5}),
    "bert-span": Variant("bert", "BertForQuestionAnswering", {**SIZES, "layer_norm_eps": 1e-3}),
    "bert-next-sentence": Variant("bert", "BertForNextSentencePrediction", SIZES),
    "bert-three-types": Variant("bert", "BertModel", {**SIZES, "type_vocab_size": 3}),
    "roberta": Variant("roberta", "RobertaModel", ROBERTA),
    "roberta-masked-lm": Variant("roberta", "RobertaForMaskedLM", ROBERTA),
    "roberta-sequence": Variant("roberta", "RobertaForSequenceClassification", {**ROBERTA, "num_labels": 1}),
    "roberta-span": Variant("roberta", "RobertaForQuestionAnswering", ROBERTA),
    "xlm-roberta-sequence": Variant("xlm-roberta", "XLMRobertaForSequenceClassification", {**ROBERTA, "num_labels": 1}),
    "xlm-roberta-tokens": Variant("xlm-roberta", "XLMRobertaForTokenClassification", {**ROBERTA, "num_labels": 7}),
    "camembert-tokens": Variant("camembert", "CamembertForTokenClassification", {**ROBERTA, "num_labels": 3}),
    "albert": Variant("albert", "AlbertModel", {**SIZES, "embedding_size": 24}),
    "albert-masked-lm": Variant("albert", "AlbertForMaskedLM", {**SIZES, "embedding_size": 24}),
    "albert-sequence": Variant("albert", "AlbertForSequenceClassification", {**SIZES, "embedding_size": 24}),
    "albert-tokens": Variant("albert", "AlbertForTokenClassification", {**SIZES, "embedding_size": 24}),
    "modernbert": Variant("modernbert", "ModernBertModel", MODERN),
    "modernbert-masked-lm": Variant("modernbert", "ModernBertForMaskedLM", MODERN),
    "modernbert-biases": Variant("modernbert", "ModernBertForMaskedLM", {
        **MODERN, "norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True,
        "decoder_bias": False, "tie_word_embeddings": False, "hidden_activation": "silu",
    }),
    "modernbert-mean": Variant("modernbert", "ModernBertForSequenceClassification", {
        **MODERN, "classifier_pooling": "mean", "classifier_activation": "relu"
    }),
    "modernbert-sequence": Variant("modernbert", "ModernBertForSequenceClassification", {**MODERN, "num_labels": 4}),
    "modernbert-tokens": Variant("modernbert", "ModernBertForTokenClassification", {**MODERN, "num_labels": 3}),
    "modernbert-span": Variant("modernbert", "ModernBertForQuestionAnswering", MODERN),
}  # fmt: skip
DISTIL = {
    "dim": 64, "hidden_dim": 112, "n_layers": 3, "n_heads": 4, "vocab_size": 160, "max_position_embeddings": 64,
    "pad_token_id": 0,
}  # fmt: skip
DEBERTA = {
    **SIZES, "relative_attention": True, "share_att_key": True, "position_biased_input": False, "position_buckets": 8,
    "norm_rel_ebd": "layer_norm", "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "max_position_embeddings": 48,
}  # fmt: skip
MPNET = {**SIZES, "pad_token_id": 1, "layer_norm_eps": 1e-5}
VARIANTS |= {
    "distilbert": Variant("distilbert", "DistilBertModel", DISTIL),
    "distilbert-masked-lm": Variant("distilbert", "DistilBertForMaskedLM", DISTIL),
    "distilbert-sequence": Variant("distilbert", "DistilBertForSequenceClassification", {**DISTIL, "num_labels": 3}),
    "distilbert-span": Variant("distilbert", "DistilBertForQuestionAnswering", DISTIL),
    "electra": Variant("electra", "ElectraModel", {**SIZES, "embedding_size": 24}),
    "electra-masked-lm": Variant("electra", "ElectraForMaskedLM", {**SIZES, "embedding_size": 24}),
    "electra-sequence": Variant("electra", "ElectraForSequenceClassification", {**SIZES, "embedding_size": 64}),
    "deberta-v3": Variant("deberta-v2", "DebertaV2Model", DEBERTA),
    "deberta-v3-sequence": Variant("deberta-v2", "DebertaV2ForSequenceClassification", {**DEBERTA, "num_labels": 3}),
    "deberta-v3-tokens": Variant("deberta-v2", "DebertaV2ForTokenClassification", {**DEBERTA, "hidden_act": "relu"}),
    "deberta-v3-span": Variant(
        "deberta-v2", "DebertaV2ForQuestionAnswering", {**DEBERTA, "max_relative_positions": 30}
    ),
    "mpnet": Variant("mpnet", "MPNetModel", MPNET),
    "mpnet-masked-lm": Variant("mpnet", "MPNetForMaskedLM", MPNET),
    "mpnet-sequence": Variant("mpnet", "MPNetForSequenceClassification", {**MPNET, "num_labels": 3}),
    "nomic_bert": Variant("nomic_bert", "NomicBertModel", SIZES),
    "nomic_bert-masked-lm": Variant("nomic_bert", "NomicBertForMaskedLM", SIZES),
    "nomic_bert-sequence": Variant("nomic_bert", "NomicBertForSequenceClassification", {**SIZES, "num_labels": 3}),
    "mpnet-other-padding": Variant("mpnet", "MPNetModel", {**MPNET, "pad_token_id": 0}),
}
ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
EURO = {
    **SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    **ROTARY,
}  # fmt: skip
VARIANTS |= {
    "data2vec-masked-lm": Variant("data2vec-text", "Data2VecTextForMaskedLM", ROBERTA),
    "data2vec-sequence": Variant("data2vec-text", "Data2VecTextForSequenceClassification", ROBERTA),
    "roberta-prelayernorm-masked-lm": Variant("roberta-prelayernorm", "RobertaPreLayerNormForMaskedLM", ROBERTA),
    "roberta-prelayernorm-tokens": Variant(
        "roberta-prelayernorm", "RobertaPreLayerNormForTokenClassification", {**ROBERTA, "num_labels": 3}
    ),
    "xlm-roberta-xl": Variant("xlm-roberta-xl", "XLMRobertaXLModel", ROBERTA),
    "xlm-roberta-xl-sequence": Variant("xlm-roberta-xl", "XLMRobertaXLForSequenceClassification", ROBERTA),
    "megatron-bert-masked-lm": Variant("megatron-bert", "MegatronBertForMaskedLM", SIZES),
    "megatron-bert-sequence": Variant("megatron-bert", "MegatronBertForSequenceClassification", SIZES),
    "ernie-masked-lm": Variant("ernie", "ErnieForMaskedLM", SIZES),
    "roformer": Variant("roformer", "RoFormerModel", {**SIZES, "embedding_size": 24}),
    "roformer-masked-lm": Variant("roformer", "RoFormerForMaskedLM", SIZES),
    "roformer-sequence": Variant("roformer", "RoFormerForSequenceClassification", {**SIZES, "hidden_act": "relu"}),
    "gte": Variant("gte", "GteModel", {**SIZES, **ROTARY, "type_vocab_size": 0, "pad_token_id": 0}),
    "gte-masked-lm": Variant("gte", "GteForMaskedLM", {**SIZES, **ROTARY, "type_vocab_size": 2, "pad_token_id": 0}),
    "gte-sequence": Variant("gte", "GteForSequenceClassification", {**SIZES, "pad_token_id": 0, "num_labels": 1}),
    "jina-v3-masked-lm": Variant("jina_embeddings_v3", "JinaEmbeddingsV3ForMaskedLM", {**ROBERTA, **ROTARY}),
    "jina-v3-sequence": Variant("jina_embeddings_v3", "JinaEmbeddingsV3ForSequenceClassification", ROBERTA),
    "eurobert-masked-lm": Variant("eurobert", "EuroBertForMaskedLM", {**EURO, "attention_bias": True}),
    "eurobert-biases": Variant("eurobert", "EuroBertForMaskedLM", {
        **EURO, "mlp_bias": True, "tie_word_embeddings": True
    }),
    "eurobert-late": Variant("eurobert", "EuroBertForSequenceClassification", {**EURO, "num_labels": 3}),
    "eurobert-mean": Variant("eurobert", "EuroBertForSequenceClassification", {**EURO, "classifier_pooling": "mean"}),
    "eurobert-tokens": Variant("eurobert", "EuroBertForTokenClassification", EURO),
}  # fmt: skip
XLM = {"emb_dim": 64, "n_layers": 3, "n_heads": 4, "vocab_size": 160, "max_position_embeddings": 64, "pad_token_id": 2}
T5 = {
    "vocab_size": 160, "d_model": 48, "d_kv": 10, "d_ff": 72, "num_layers": 3, "num_heads": 4, "pad_token_id": 0,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
}  # fmt: skip
BIRD = {**SIZES, "attention_type": "original_full", "pad_token_id": 0}
VARIANTS |= {
    "deberta-v3-masked-lm": Variant("deberta-v2", "DebertaV2ForMaskedLM", DEBERTA),
    "deberta-v3-masked-lm-new": Variant("deberta-v2", "DebertaV2ForMaskedLM", {**DEBERTA, "legacy": False}),
    "rembert": Variant("rembert", "RemBertModel", {**SIZES, "input_embedding_size": 24}),
    "rembert-sequence": Variant("rembert", "RemBertForSequenceClassification", {**SIZES, "input_embedding_size": 24}),
    "rembert-tokens": Variant("rembert", "RemBertForTokenClassification", {**SIZES, "input_embedding_size": 24}),
    "big_bird-masked-lm": Variant("big_bird", "BigBirdForMaskedLM", {**BIRD, "rescale_embeddings": True}),
    "big_bird-sequence": Variant("big_bird", "BigBirdForSequenceClassification", {**BIRD, "use_bias": False}),
    "big_bird-tokens": Variant("big_bird", "BigBirdForTokenClassification", BIRD),
    "xlm": Variant("xlm", "XLMModel", {**XLM, "gelu_activation": False, "n_langs": 2}),
    "xlm-masked-lm": Variant("xlm", "XLMWithLMHeadModel", XLM),
    "xlm-sequence": Variant("xlm", "XLMForSequenceClassification", {**XLM, "num_labels": 3}),
    "xlm-span": Variant("xlm", "XLMForQuestionAnsweringSimple", XLM),
    "flaubert-masked-lm": Variant("flaubert", "FlaubertWithLMHeadModel", XLM),
    "flaubert-tokens": Variant("flaubert", "FlaubertForTokenClassification", {**XLM, "num_labels": 3}),
    "t5-encoder": Variant("t5", "T5EncoderModel", T5),
    "mt5-encoder": Variant("mt5", "MT5EncoderModel", {**T5, "feed_forward_proj": "gated-gelu"}),
}
WITH_TYPES = ("bert", "albert", "electra", "nomic_bert", "megatron-bert", "ernie", "roformer", "rembert")
"""Families that the tests give token types to."""


def make_tiny(name: str, folder: Path, *, seed: int = 0) -> PreTrainedModel:
    """The peer's model of a variant, saved to `folder` and loaded from there again, so that names are tested too."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(variant.model_type, **variant.config)
    config._attn_implementation = "eager"
    model = getattr(transformers, variant.architecture)(config)
    runpy.run_path(str(Path(__file__).with_name("tiny.py")))["jitter"](model, seed)
    model.save_pretrained(folder)
    return load_peer(name, folder)


def load_peer(name: str, folder: Path, *, unused: tuple[str, ...] = ()) -> PreTrainedModel:
    """The peer's model of a folder of this variant. unused: parts of names that may lack: they change nothing."""
    kind = getattr(transformers, VARIANTS[name].architecture)
    model, notes = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    missing = [key for key in notes["missing_keys"] if not any(part in key for part in unused)]
    assert not missing and not notes["unexpected_keys"] and not notes["mismatched_keys"], notes
    result: PreTrainedModel = model.eval()
    return result


@torch.no_grad()
def peer_scores(model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
    """What `Transformer.forward` returns, by the peer: logits, start and end side by side, or the hidden states."""
    given = {"token_type_ids": types} if model.config.model_type in WITH_TYPES else {}
    output = model(tokens, attention_mask=mask, **given)
    if hasattr(output, "start_logits"):
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    scores: torch.Tensor = output.logits if hasattr(output, "logits") else output.last_hidden_state
    return scores
