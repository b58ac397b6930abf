"""`octavo run` with an encoder-decoder: what the peer answers, and no option that means nothing there."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import tokenizers
import torch

from octavo.cli import main

VARIANTS = runpy.run_path(str(Path(__file__).parents[1] / "parity/tiny_seq2seq.py"))["VARIANTS"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["run", *arguments])
    return int(exited.value.code or 0)


def test_an_answer_is_the_peer_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    torch.manual_seed(9)
    peer = VARIANTS["t5"]().eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    peer.save_pretrained(tmp_path)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{f"w{number}": number for number in range(3, 160)}}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}')
    for beams in (1, 4):
        given = {"num_beams": beams, "max_new_tokens": 6, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}
        expected = peer.generate(torch.tensor([[5, 9, 30]]), decoder_start_token_id=0, **given)[0, 1:].tolist()
        assert run(str(tmp_path), "w5 w9 w30", "--beams", str(beams), "-n", "6", "--json") == 0
        answer = json.loads(capsys.readouterr().out)["text"]
        assert answer == backend.decode([token for token in expected if token > 1])
    assert run(str(tmp_path), "w5", "-t", "0.5", "--system", "be brief") == 2
    assert "leave --system, --temperature out" in capsys.readouterr().err
