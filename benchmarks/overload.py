"""Claim: under more load than it can serve, the server stays right and leaves nothing behind.

64 clients at once send 2,000 requests to a real server process with a tiny model: 30 % of them leave at a random token
(half of those do not stream), 10 % are malformed. Each finished greedy answer must be its single-user one, nothing may
be a 5xx; afterwards nothing runs, waits or holds cache blocks, and memory, threads and files are as before. Then more
come than the queue holds, and it is printed how soon they are told so; and how soon `/health` answered all the while.

    python benchmarks/overload.py MODEL [--requests 2000] [--clients 64] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

PROMPTS = [
    f"Once upon a time, {who} {did}" for who in ("a cat", "Lily", "Tom", "the sun") for did in ("saw", "had", "was")
]
TOKENS = 32
LONG = {"max_tokens": 480, "ignore_eos": True}
"""Of an answer that is still being made when the next requests come, however fast the machine is."""
SLOTS = 8 + 64
"""Answers that run and wait together, unless the server is told otherwise."""
MALFORMED: list[tuple[bytes, str]] = [
    (b"{", "application/json"),
    (b"[]", "application/json"),
    (b'{"prompt": 3}', "application/json"),
    (b'{"prompt": "x", "temprature": 1}', "application/json"),
    (b'{"prompt": "x", "max_tokens": -1}', "application/json"),
    (b'{"prompt": "x", "model": "nobody"}', "application/json"),
    (b"prompt=x", "application/x-www-form-urlencoded"),
]


@dataclass
class Seen:
    """What the clients saw."""

    wrong: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    left: int = 0
    health: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def status(self, code: int) -> None:
        """Count an answer."""
        self.statuses[code] = self.statuses.get(code, 0) + 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", action="store_true", help="what it calls itself with; MODEL is an address then")
    arguments = parser.parse_args()
    if arguments.watch:
        return watch_health(arguments.model)
    command = [sys.executable, "-m", "octavo", "serve", arguments.model, "--port", "0", "--no-store"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = next(match[1] for line in process.stderr if (match := re.search(r" at (http://\S+);", line)))
        report = asyncio.run(overload(address, process.pid, arguments))
    finally:
        process.terminate()
        process.wait(30)
    report["exit code"] = process.returncode
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:<34} {value}")


async def overload(address: str, pid: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it, against a server that is ready."""
    chance, seen = random.Random(arguments.seed), Seen()
    limits = httpx2.Limits(max_connections=arguments.clients + 8)
    async with httpx2.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
        single = {prompt: await whole(client, prompt, seen) for prompt in PROMPTS}
        before = resources(pid)
        watching = subprocess.Popen([sys.executable, __file__, address, "--watch"], stdout=subprocess.PIPE, text=True)
        early = min(200, arguments.requests // 2)
        await crowd(client, early, single, chance, seen, arguments.clients)
        middle = resources(pid)
        await crowd(client, arguments.requests - early, single, chance, seen, arguments.clients)
        at_end = time.monotonic()
        while any((left := await remaining(client)).values()) and time.monotonic() < at_end + 30:
            await asyncio.sleep(0.02)
        idle_after = time.monotonic() - at_end
        watching.terminate()
        answers = [line.split() for line in watching.communicate()[0].splitlines()]
        seen.health = [float(seconds) for seconds, status in answers if status == "200"]
        seen.wrong += [f"/health answered {status}" for _, status in answers if status != "200"]
    await asyncio.sleep(1)
    after = resources(pid)
    async with httpx2.AsyncClient(base_url=address, timeout=300, limits=httpx2.Limits(max_connections=300)) as client:
        await too_many(client, seen)
    return {
        "requests": arguments.requests,
        "statuses": dict(sorted(seen.statuses.items())),
        "left early": seen.left,
        "wrong answers": seen.wrong[:5],
        "left running, waiting, cached": left,
        "seconds until idle": round(idle_after, 2),
        "MiB at 200, at the end": [round(middle["rss"] / 2**20, 1), round(after["rss"] / 2**20, 1)],
        "files before, after": [before["files"], after["files"]],
        "threads before, after": [before["threads"], after["threads"]],
        "/health ms p50, p99": milliseconds(percentile(seen.health, 50), percentile(seen.health, 99)),
        "queue-full answers": len(seen.refused),
        "queue-full ms p50, max": milliseconds(percentile(seen.refused, 50), max(seen.refused, default=0.0)),
    }


async def crowd(
    client: httpx2.AsyncClient, count: int, single: dict[str, str], chance: random.Random, seen: Seen, clients: int
) -> None:
    """`count` requests by `clients` at once."""
    kinds = [chance.random() for _ in range(count)]
    work = iter([(kind, chance.choice(PROMPTS), chance.random()) for kind in kinds])

    async def one_client() -> None:
        for kind, prompt, moment in work:
            if kind < 0.1:
                await malformed(client, chance, seen)
            elif kind < 0.25:
                await leave_stream(client, prompt, int(moment * TOKENS), seen)
            elif kind < 0.4:
                await leave_whole(client, prompt, moment, seen)
            else:
                text = await (streamed if kind < 0.7 else whole)(client, prompt, seen)
                if text != single[prompt]:
                    seen.wrong.append(f"{prompt!r}: {text!r} is not {single[prompt]!r}")

    await asyncio.gather(*(one_client() for _ in range(clients)))


def body_of(prompt: str, **more: Any) -> dict[str, Any]:
    """A greedy request."""
    return {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, **more}


async def whole(client: httpx2.AsyncClient, prompt: str, seen: Seen) -> str:
    """The answer at once."""
    answer = await client.post("/v1/completions", json=body_of(prompt))
    seen.status(answer.status_code)
    return str(answer.json()["choices"][0]["text"]) if answer.is_success else f"status {answer.status_code}"


async def streamed(client: httpx2.AsyncClient, prompt: str, seen: Seen) -> str:
    """The answer, put together from its stream."""
    text = ""
    async with client.stream("POST", "/v1/completions", json=body_of(prompt, stream=True)) as answer:
        seen.status(answer.status_code)
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
    return text


async def leave_stream(client: httpx2.AsyncClient, prompt: str, tokens: int, seen: Seen) -> None:
    """Close the connection after some tokens."""
    async with client.stream("POST", "/v1/completions", json=body_of(prompt, stream=True)) as answer:
        seen.status(answer.status_code)
        async for _ in answer.aiter_lines():
            tokens -= 1
            if tokens < 0:
                break
    seen.left += 1


async def leave_whole(client: httpx2.AsyncClient, prompt: str, moment: float, seen: Seen) -> None:
    """Close the connection while the answer is being made."""
    try:
        async with asyncio.timeout(0.3 * moment):
            await client.post("/v1/completions", json=body_of(prompt))
    except TimeoutError:
        seen.left += 1


async def malformed(client: httpx2.AsyncClient, chance: random.Random, seen: Seen) -> None:
    """Something that is no request."""
    content, kind = chance.choice(MALFORMED)
    answer = await client.post("/v1/completions", content=content, headers={"Content-Type": kind})
    seen.status(answer.status_code)
    if not 400 <= answer.status_code < 500:
        seen.wrong.append(f"{content!r} was answered {answer.status_code}")


async def too_many(client: httpx2.AsyncClient, seen: Seen) -> None:
    """More at once than run and wait together; those that are turned away are timed."""

    async def one() -> None:
        start = time.perf_counter()
        async with client.stream("POST", "/v1/completions", json=body_of("Once", **LONG)) as answer:
            if answer.status_code == 429:
                seen.refused.append(time.perf_counter() - start)

    tasks = [asyncio.create_task(one()) for _ in range(SLOTS)]
    for _ in range(200):
        now = await remaining(client)
        if now["num_requests_running"] + now["num_requests_waiting"] >= SLOTS:
            break
        await asyncio.sleep(0.01)
    for _ in range(20):
        await one()
    for task in tasks:
        task.cancel()


def watch_health(address: str) -> None:
    """Ask again and again and print how long it took, in a process of its own, as the clients keep this one busy."""
    with httpx2.Client(base_url=address, timeout=60) as client:
        while True:
            start = time.perf_counter()
            status = client.get("/health").status_code
            print(time.perf_counter() - start, status, flush=True)
            time.sleep(0.05)


async def remaining(client: httpx2.AsyncClient) -> dict[str, float]:
    """What the metrics say is still going on."""
    text = (await client.get("/metrics")).text
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    return {name: float(match[1]) for name in names if (match := re.search(rf"vllm:{name}{{[^}}]*}} (\S+)", text))}


def resources(pid: int) -> dict[str, int]:
    """Resident bytes, open files and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M))
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"rss": int(numbers["VmRSS"]) * 1024, "threads": int(numbers["Threads"]), "files": files}


def milliseconds(*seconds: float) -> list[float]:
    """For printing."""
    return [round(1000 * value, 1) for value in seconds]


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


if __name__ == "__main__":
    main()
