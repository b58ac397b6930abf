"""Claim: a chat streamed over HTTP costs the server at most a tenth more than the engine alone, at batch 1 and 8.

Both run in this process and are measured by its processor time a token: the engine with its answers read by threads,
the server with its answers read by another process over real connections. Rounds take turns. Also the wall time.

    python benchmarks/server_overhead.py [--model FILE.gguf] [--threads 1] [--tokens 100] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from octavo import settings
from octavo.fetching import sources
from octavo.generate.engine import Engine
from octavo.generate.lm import Request, Sampling, complete
from octavo.generate.local import LocalModel
from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.serve.http import server
from octavo.serve.http.settings import ServerSettings

CONTEXT, BATCHES = 1024, (1, 8)
MESSAGES = [{"role": "user", "content": "Tell me a story about a river and the town beside it."}]
Seconds = tuple[float, float]
"""Of the processor and of the wall clock."""


def main() -> None:
    """Measure and print; called with --client by itself, read streams."""
    arguments = _arguments()
    if arguments.client:
        read_streams(arguments.client, arguments.tokens)
        return
    checkpoint = open_checkpoint(arguments.model or sources.pull("smollm2-135m-instruct"))
    runner = CompiledRunner(checkpoint, num_blocks=9 * CONTEXT // 16, threads=arguments.threads)
    with LocalModel(checkpoint, Engine(runner), CONTEXT) as model:
        result = {batch: compared(model, batch, arguments.tokens, arguments.rounds) for batch in BATCHES}
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{checkpoint.name}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    for batch, figures in result.items():
        print(f"  batch {batch}: {figures}")


def compared(model: LocalModel, batch: int, tokens: int, rounds: int) -> dict[str, str]:
    """The server's time over the engine's, with the spread over rounds, and microseconds a token."""
    ready: Future[int] = Future()
    told = ServerSettings(port=0, store=False, max_running=batch)
    threading.Thread(
        target=server.run,
        args=([model], told),
        kwargs={"on_ready": lambda address, _: ready.set_result(int(address.rpartition(":")[2]))},
        daemon=True,
    ).start()
    command = [sys.executable, __file__, "--client", str(ready.result()), "--tokens", str(tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None and client.stdout is not None

        def over_http() -> None:
            client.stdin.write(f"{batch}\n")  # type: ignore[union-attr]
            client.stdin.flush()  # type: ignore[union-attr]
            assert client.stdout.readline() == "done\n"  # type: ignore[union-attr]

        def alone() -> None:
            request = Request(MESSAGES, tokens, Sampling(temperature=0), ignore_eos=True)
            readers = [threading.Thread(target=complete, args=(model, request)) for _ in range(batch)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()

        taken: dict[str, list[Seconds]] = {"engine": [], "server": []}
        for at in range(rounds + 1):
            for name, work in (("engine", alone), ("server", over_http)):
                seconds = _timed(work)
                if at:  # the first is to warm up
                    taken[name].append(seconds)
        client.stdin.close()
    shown = {}
    for clock, kind in enumerate(("processor", "wall")):
        engine, served = ([seconds[clock] for seconds in taken[name]] for name in ("engine", "server"))
        ratios = [of_server / of_engine for of_server, of_engine in zip(served, engine, strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        a_token = [1e6 * statistics.median(times) / tokens / batch for times in (engine, served)]
        shown[kind] = f"{spread}; {a_token[0]:.0f} and {a_token[1]:.0f} us a token"
    return shown


def _timed(work: Callable[[], None]) -> Seconds:
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def read_streams(port: int, tokens: int) -> None:
    """For each line, a number: so many streams at once, read to their ends by plain sockets."""
    body = json.dumps(
        {"messages": MESSAGES, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    asked = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    for line in sys.stdin:
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(int(line))]
        for connection in connections:
            connection.sendall(asked)
        readers = [threading.Thread(target=_read, args=(connection, tokens)) for connection in connections]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        print("done", flush=True)


def _read(connection: socket.socket, tokens: int) -> None:
    answer = b""
    with connection:
        while b"data: [DONE]" not in answer:
            data = connection.recv(1 << 16)
            assert data, answer
            answer += data
    assert answer.startswith(b"HTTP/1.1 200"), answer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: SmolLM2, pulled where it is missing")
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--tokens", type=int, default=100, help="of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", type=int, metavar="PORT", help="what it calls itself with")
    return parser.parse_args()


if __name__ == "__main__":
    main()
