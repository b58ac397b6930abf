"""Tiny models of CKIP Transformers' kind: the peer's class, random weights, labels, a vocabulary of characters."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

CHARACTERS = sorted(set("土地公有政策？還是婆。，確定嗎不要再騙了：一二三abcABC12,.:?!"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ENTITIES = ["O", *(f"{part}-{kind}" for kind in ("PERSON", "GPE") for part in "BIES")]
LABELS = {"ws": ["B", "I"], "pos": ["Na", "Nb", "VC", "D"], "ner": ENTITIES}
TEXTS = [
    "土地公有政策?？還是土地婆有政策。.",
    "",
    "… 你確定嗎… 不要再騙了……",
    "👩\u200d👩\u200d👧 abc  ABC\u300012",
    "x",
    "土地公有政策，還是土地婆有：政策。確定嗎不要再騙了，一二三四五六七八九十土地公有政策" * 2,
]
LONGEST = 22
"""Characters of a piece: what model_max_length says, less two."""
SIZES: dict[str, Any] = {
    "vocab_size": len(SPECIAL) + len(CHARACTERS), "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip


def make_ckip(kind: str, task: str, folder: Path, *, seed: int = 3) -> PreTrainedModel:
    """A model of bert or albert for a task, saved with its tokenizer's files."""
    labels = LABELS[task]
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    if kind == "bert":
        peer: PreTrainedModel = transformers.BertForTokenClassification(transformers.BertConfig(**SIZES, **names))
    else:
        config = transformers.AlbertConfig(**SIZES, **names, embedding_size=24)
        peer = transformers.AlbertForTokenClassification(config)
    torch.manual_seed(seed)
    runpy.run_path(str(Path(__file__).parents[2] / "parity/tiny.py"))["jitter"](peer, seed)
    peer.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *CHARACTERS]) + "\n", encoding="utf-8")
    settings = {"do_lower_case": False, "model_max_length": LONGEST + 2, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return peer.eval()


@torch.no_grad()
def peer_labels(peer: PreTrainedModel, characters: str) -> list[int]:
    """The likeliest label of each character of one piece, by the peer's class."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    ids = [vocabulary["[CLS]"], *(vocabulary.get(c, vocabulary["[UNK]"]) for c in characters), vocabulary["[SEP]"]]
    labels: list[int] = peer(torch.tensor([ids])).logits[0, 1:-1].argmax(-1).tolist()
    return labels
