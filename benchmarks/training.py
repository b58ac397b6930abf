"""Claim: Octavo's Trainer trains a small LLaMA shape at no less than `transformers`' tokens a second, on the same CPU.

SmolLM2's shape under bfloat16 autocast: at 1.2 times as many, in 0.6 of the memory; with --lora, low-rank adapters of
all matrices beside PEFT's on the same peer, at 1.3 times as many.

Same shape, batch, learning rate, decay, clipping and AdamW settings; both from text windows to the optimizer's step.
The peer is LlamaForCausalLM with torch.optim.AdamW as a script of its documentation would have it. The two take turns,
a block of steps each, in one process; the figure is the median ratio of neighbouring blocks, with its quartiles.

Peak resident memory is that of each side in a process of its own, after two steps. OCTAVO_KERNELS=torch trains without
our own kernels, which tells what they save.

    python benchmarks/training.py [--shape small|medium] [--blocks 12] [--steps 20] [--json]
    python benchmarks/training.py --shape smollm2 --blocks 3 --steps 1 [--lora]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import torch
import transformers

from octavo import settings
from octavo.adapt.lora import Lora, inject
from octavo.models.transformer import Transformer
from octavo.train.data import Tokens, Windows
from octavo.train.objectives.causal_lm import CausalLM
from octavo.train.recipe import ModelSettings, OptimizerSettings, ScheduleSettings, TrainingSettings
from octavo.train.trainer import Trainer

SHAPES = {  # settings, vocabulary, batch
    "small": (ModelSettings(num_layers=4, hidden_size=128, num_heads=4, context_length=64), 65, 12),
    "medium": (ModelSettings(num_layers=6, hidden_size=384, num_heads=6, context_length=256), 4096, 4),
    "smollm2": (
        ModelSettings(
            num_layers=30, hidden_size=576, num_heads=9, num_kv_heads=3, intermediate_size=1536, context_length=512
        ),
        49152,
        4,
    ),
}
AUTOCAST = ("smollm2",)
"""Shapes trained with products in bfloat16."""
SIDES = ("octavo", "transformers")
OPTIMIZER = OptimizerSettings(betas=(0.9, 0.99))
LORA = Lora(rank=8, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    torch.set_num_threads(settings.threads())
    shape, _, batch = SHAPES[arguments.shape]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.worker:
            side(arguments.worker, arguments.shape, Path(folder), lora=arguments.lora)(2)
            print(peak())
            return
        memory = {name: measured_peak(name, arguments.shape, lora=arguments.lora) for name in SIDES}
        sides = {name: side(name, arguments.shape, Path(folder), lora=arguments.lora) for name in SIDES}
        blocks = [
            {name: timed(advance, arguments.steps) for name, advance in sides.items()}
            for _ in range(arguments.blocks + 1)
        ]
    report(blocks[1:], memory, arguments, batch * shape.context_length)  # the first warms up


def side(name: str, shape: str, folder: Path, *, lora: bool) -> Callable[[int], object]:
    """What takes so many steps of one side."""
    model, vocabulary, batch = SHAPES[shape]
    tokens = np.random.default_rng(0).integers(0, vocabulary, 300_000).astype(np.int32)
    if name == "octavo":
        return octavo_steps(model, vocabulary, batch, tokens, folder, autocast=shape in AUTOCAST, lora=lora)
    return transformers_steps(model, vocabulary, batch, tokens, autocast=shape in AUTOCAST, lora=lora)


def peak() -> float:
    """The most memory that this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def measured_peak(name: str, shape: str, *, lora: bool) -> float:
    """The same of a process that takes two steps of one side."""
    command = [sys.executable, __file__, "--worker", name, "--shape", shape, *(["--lora"] if lora else [])]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def timed(advance: Callable[[int], object], steps: int) -> tuple[float, float]:
    """Wall and processor seconds a step."""
    wall, processor = time.perf_counter(), time.process_time()
    advance(steps)
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


def report(
    blocks: list[dict[str, tuple[float, float]]], memory: dict[str, float], arguments: argparse.Namespace, tokens: int
) -> None:
    """Print medians, and ratios with their quartiles: by the clock, and by processor time (for a busy machine)."""
    speeds = {name: tokens / statistics.median(block[name][0] for block in blocks) for name in blocks[0]}
    figures: dict[str, float] = {**speeds, **{f"{name}_peak_mb": size for name, size in memory.items()}}
    for place, kind in enumerate(("ratio", "ratio_of_processor_time")):
        ratios = [block["transformers"][place] / block["octavo"][place] for block in blocks]
        quartiles = statistics.quantiles(ratios, n=4)
        figures |= {kind: quartiles[1], f"{kind}_low": quartiles[0], f"{kind}_high": quartiles[2]}
    if arguments.json:
        print(
            json.dumps({"shape": arguments.shape, "lora": arguments.lora, "threads": torch.get_num_threads()} | figures)
        )
        return
    threads = torch.get_num_threads()
    what = "training" if not arguments.lora else "training adapters, transformers by PEFT"
    print(f"{what}, {arguments.shape}, {threads} threads, {len(blocks)} blocks of {arguments.steps} steps")
    for name, speed in speeds.items():
        print(f"  {name:>12}: {speed:>9,.0f} tokens/s, {memory[name]:,.0f} MB at its peak")
    print(f"  ratio of memory: {memory['octavo'] / memory['transformers']:.2f}")
    for kind in ("ratio", "ratio_of_processor_time"):
        spread = f"(quartiles {figures[kind + '_low']:.2f} to {figures[kind + '_high']:.2f})"
        print(f"  {kind.replace('_', ' ')}: {figures[kind]:.2f} {spread}")


def octavo_steps(
    shape: ModelSettings, vocabulary: int, batch: int, tokens: Tokens, folder: Path, *, autocast: bool, lora: bool
) -> Callable[[int], object]:
    """Our Trainer, through its public way: `fit` until so many steps later."""
    network = Transformer(shape.transformer(vocabulary))
    if lora:
        inject(network, "llama", LORA, narrow=autocast)
    trainer = Trainer(
        network,
        CausalLM(),
        Windows([tokens], shape.context_length, seed=0),
        folder=folder,
        optimizer=OPTIMIZER,
        schedule=ScheduleSettings(kind="constant", warmup_steps=0),
        training=TrainingSettings(
            steps=10**9,
            batch_size=batch,
            device="cpu",
            checkpoint_every=10**9,
            precision="bf16" if autocast else "fp32",
        ),
    )

    def advance(steps: int) -> None:
        for _ in range(steps):
            trainer._advance()

    return advance


def transformers_steps(
    shape: ModelSettings, vocabulary: int, batch: int, tokens: Tokens, *, autocast: bool, lora: bool
) -> Callable[[int], object]:
    """The plain loop around LlamaForCausalLM, or around PEFT's model of it."""
    config = shape.transformer(vocabulary)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.attention.num_heads,
            num_key_value_heads=config.attention.num_kv_heads,
            max_position_embeddings=config.context_length,
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).train()
    if lora:
        model = peft.get_peft_model(
            model, peft.LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=list(LORA.targets))
        )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": OPTIMIZER.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.learning_rate, betas=OPTIMIZER.betas, eps=OPTIMIZER.eps)
    ids = torch.from_numpy(tokens.astype(np.int64))
    generator = torch.Generator().manual_seed(0)

    def advance(steps: int) -> None:
        for _ in range(steps):
            starts = torch.randint(len(ids) - shape.context_length - 1, (batch,), generator=generator)
            rows = torch.stack([ids[start : start + shape.context_length + 1] for start in starts.tolist()])
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = model(input_ids=rows[:, :-1], use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, OPTIMIZER.clip_norm)
            optimizer.step()
            loss.item()

    return advance


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lora", action="store_true", help="train low-rank adapters, the peer with PEFT")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
