"""Claim: an answer that repeats its `prediction` but for one word comes sooner, the same token for token.

What an editor sends is the file as it is, and the answer is that file with a change. A model of 135 million weights
rewrites no file, so its own greedy answer stands for the new file, and with one word of it replaced for the old one.
Plain and predicted in turns; also with a prediction that has nothing to do with the answer, which must cost little.

    python benchmarks/prediction.py [MODEL] [--tokens 256] [--rounds 5] [--runner torch]
"""

from __future__ import annotations

import argparse
import statistics
import time

from octavo.generate.lm import Finished, Request, Sampling, complete
from octavo.generate.local import LocalModel, load

PROMPT = "Write a Python class for a bank account with deposits, withdrawals and a history, with docstrings."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runner", choices=("kernels", "torch"))
    arguments = parser.parse_args()
    with load(arguments.model, runner=arguments.runner, context=2048) as model:
        answer, _, _ = made(model, "", arguments.tokens)
        words = answer.split(" ")
        words[len(words) // 2] = "otherwise"
        predictions = {
            "plain": "",
            "one word changed": " ".join(words),
            "the answer itself": answer,
            "another text": "The river rose in the night, and by the morning the town had lost its bridge. " * 12,
        }
        times: dict[str, list[float]] = {name: [] for name in predictions}
        last: dict[str, Finished] = {}
        for _ in range(arguments.rounds):
            for name, prediction in predictions.items():
                text, seconds, last[name] = made(model, prediction, arguments.tokens)
                assert text == answer, "a prediction changed an answer"
                times[name].append(seconds)
        print(f"{model.name} on {model.engine.runner.name}, {last['plain'].completion_tokens} tokens")
        for name, taken in times.items():
            ratios = [plain / one for plain, one in zip(times["plain"], taken, strict=True)]
            rejected = last[name].drafted_tokens - last[name].accepted_tokens
            print(
                f"  {name}: {last[name].completion_tokens / statistics.median(taken):.0f} tokens/s, "
                f"{statistics.median(ratios):.2f} times plain ({min(ratios):.2f} to {max(ratios):.2f}), "
                f"{last[name].accepted_tokens} accepted, {rejected} rejected"
            )


def made(model: LocalModel, prediction: str, tokens: int) -> tuple[str, float, Finished]:
    messages = [{"role": "user", "content": PROMPT}]
    request = Request(messages, tokens, Sampling(temperature=0), ignore_eos=True, prediction=prediction)
    begun = time.perf_counter()
    answer = complete(model, request)
    return answer.text, time.perf_counter() - begun, answer.finished


if __name__ == "__main__":
    main()
