"""Runs the server: binds the port, loads the model while the web framework is imported, serves, stops gracefully.

Unusual: the port is bound before anything slow, so that a port in use is told at once, and the model is loaded by a
thread, during which `/health` and all else answer 503.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Thread

from octavo.errors import OctavoError
from octavo.generate.lm import LanguageModel
from octavo.serve.http.settings import ServerSettings, bracketed

Load = Callable[[], Sequence[LanguageModel]]


def run(
    models: Sequence[LanguageModel] | Load,
    settings: ServerSettings,
    *,
    on_ready: Callable[[str, Sequence[str]], None] = lambda address, names: None,
    on_demand: Mapping[str, tuple[Callable[[], LanguageModel], str]] = {},
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    models: the models, or a function that loads them, which runs in a thread; what it loads is closed at the end.
    on_demand: more models by name, each with its reference, loaded when it is first asked for, and those named like
    one of `models` again after it was unloaded.
    on_ready: called once with the address (`http://127.0.0.1:8000`) and the models' names when requests are answered.
    Raises OctavoError when the port cannot be had, and whatever loading raises.
    """
    listener = bind(settings.host, settings.port)
    loading = _begin_loading(models)
    try:
        # The framework is most of a second start's time; the model loads meanwhile.
        from octavo.serve.http.lifecycle import serve

        serve(listener, loading, settings, on_ready, on_demand)
    finally:
        listener.close()
        if callable(models) and loading.done() and loading.exception() is None:
            for model in loading.result():
                model.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. port 0: any free one. Raises OctavoError that says why not, and what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise OctavoError(f"host {host!r} is no address of this machine: {error}", param="host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OctavoError(_bind_problem(error, host, port), param="port") from None
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The URL to open; an address that means all interfaces is shown as this machine's own."""
    port = listener.getsockname()[1]
    shown = "127.0.0.1" if host in ("", "0.0.0.0", "::") else bracketed(host)
    return f"http://{shown}:{port}"


def _bind_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use; choose another, as in --port {port % 65535 + 1}, or 0 for any free one"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this process has; choose one above 1023, as in --port 8000"
    return f"port {port} on {host} cannot be opened: {error.strerror}"


def _begin_loading(models: Sequence[LanguageModel] | Load) -> Future[Sequence[LanguageModel]]:
    future: Future[Sequence[LanguageModel]] = Future()
    if not callable(models):
        future.set_result(models)
        return future

    def load() -> None:
        try:
            future.set_result(models())
        except BaseException as error:  # the main thread must hear of it, whatever it was
            future.set_exception(error)

    Thread(target=load, name="octavo-load", daemon=True).start()
    return future
