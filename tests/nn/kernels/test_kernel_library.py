"""The kernels' library as a guest in a process: what it says of itself, what it leaves alone, that it survives."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from octavo import settings
from octavo.errors import MissingDependencyError, OctavoError
from octavo.nn.kernels import binding
from octavo.nn.kernels.handle import KernelModel, Rotary
from octavo.nn.kernels.indices import Indices
from octavo.nn.kernels.layers import Layer

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "context_length": 32, "num_heads": 2, "num_kv_heads": 1,
    "head_dim": 16, "intermediate_size": 48, "gated": 1, "activation": 0, "norm_kind": 0, "norm_eps": 1e-5,
    "attention_scale": 0.25, "num_blocks": 2, "threads": 2, "cache": 1,
}  # fmt: skip
SHAPES = {
    "q": (32, 32), "k": (16, 32), "v": (16, 32), "o": (32, 32), "gate": (48, 32), "up": (48, 32), "down": (32, 48),
    "embed": (40, 32),
}  # fmt: skip
NORMS = ("attention_norm", "mlp_norm", "norm")


ROTARY = Rotary(np.full(8, 0.1))


def model(**changes: int) -> KernelModel:
    made = KernelModel(LEVELS[-1], [Layer(rotary=0)], [ROTARY], **{**SIZES, **changes})
    generator = np.random.default_rng(0)
    for slot, shape in SHAPES.items():
        weights = generator.standard_normal(shape).astype(np.float32)
        made.set_matrix(0, slot, "f32", *shape, weights.view(np.uint8))
    for slot in NORMS:
        made.set_norm(0, slot, np.ones(32, np.float32), bias=False)
    return made


def logits(made: KernelModel) -> list[float]:
    tokens = np.arange(6, dtype=np.int32)
    zeros, table = np.zeros(6, np.int32), np.zeros((1, 1), np.int32)
    out, _ = made.step(Indices(tokens, zeros, tokens, table, tokens), hidden=False)
    return [float(x) for x in out.ravel()]


def test_available_says_where_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_KERNELS", raising=False)
    status = binding.available()
    assert status.built and status.level == LEVELS[-1] and status.levels == LEVELS
    assert status.path is not None and status.path.is_file()
    monkeypatch.setenv("OCTAVO_KERNELS", "c")
    assert binding.available().level == "c"
    monkeypatch.setenv("OCTAVO_KERNELS", "torch")
    assert binding.available().level is None


def test_available_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "library_path", lambda: None)
    binding.library.cache_clear()
    status = binding.available()
    assert not status.built and "compiler" in status.reason


def test_a_library_built_for_other_structures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "interface", lambda: 1)
    binding.library.cache_clear()
    with pytest.raises(MissingDependencyError, match="of another version; reinstall"):
        binding.library()
    monkeypatch.undo()
    assert binding.library() is not None


def test_a_level_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "machine_levels", lambda: ("c", "avx2"))
    with pytest.raises(OctavoError, match="this one has c, avx2"):
        binding.choose_level("avx512")
    assert binding.choose_level(None) == "avx2"


def test_two_models_live_side_by_side() -> None:
    first, second = model(), model(threads=3)
    expected = logits(first)
    assert logits(second) == expected
    first.close()
    first.close()
    assert logits(second) == expected
    second.close()


def test_wrong_sizes_are_errors() -> None:
    made = model()
    weights = np.zeros((32, 128), np.uint8)
    for arguments in (
        (1, "q", "f32", 32, 32, weights),
        (0, "q", "f32", 32, 31, weights),
        (0, "k", "f32", 32, 32, weights),
        (0, "q", "q4_0", 32, 32, weights),
        (0, "q", "f32", 32, 32, weights.T),
        (0, "q", "f32", 32, 32, weights.view(np.int8)),
    ):
        with pytest.raises(ValueError):
            made.set_matrix(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        made.set_bias(0, "q", np.zeros(31, np.float32))
    with pytest.raises(ValueError):
        made.set_norm(0, "norm", np.zeros(32), bias=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        KernelModel(LEVELS[-1], [Layer()], [Rotary(np.zeros(9))], **SIZES)
    with pytest.raises(ValueError):
        KernelModel(LEVELS[-1], [Layer(rotary=1)], [ROTARY], **SIZES)
    made.close()


def test_a_step_outside_the_memory_is_an_error() -> None:
    made = model(num_blocks=1)
    one, zero = np.ones(1, np.int32), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="position 16"):  # a table may name a block twice; it is still one
        made.step(Indices(one, zero, 16 * one, np.zeros((1, 2), np.int32), zero), hidden=False)
    with pytest.raises(ValueError, match="ascend"):
        made.step(Indices(one, zero, zero, np.zeros((1, 1), np.int32), np.zeros(2, np.int32)), hidden=False)
    made.close()


def test_more_memory_than_there_can_be_is_an_error() -> None:
    with pytest.raises(OctavoError, match="refused memory"):
        KernelModel(LEVELS[-1], [Layer()] * 2**20, [], **{**SIZES, "num_blocks": 2**31 - 1})


def run(program: str) -> str:
    head = "import numpy as np\nfrom octavo.nn.kernels import binding\nlib = binding.library()\n"
    command = [sys.executable, "-W", "ignore", "-c", head + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_loading_it_keeps_denormals() -> None:
    assert run("print(np.float32(1e-40) * np.float32(1) > 0)") == "True"


MODEL = f"""
import os, signal, threading, time
from octavo.nn.kernels.handle import KernelModel, Rotary
from octavo.nn.kernels.layers import Layer
from octavo.nn.kernels.indices import Indices
made = KernelModel(binding.machine_levels()[-1], [Layer(0)], [Rotary(np.full(8, 0.1))], **{SIZES!r})
for slot, shape in {SHAPES!r}.items():
    made.set_matrix(0, slot, "f32", *shape, np.ones(shape, np.float32).view(np.uint8))
for slot in {NORMS!r}:
    made.set_norm(0, slot, np.ones(32, np.float32), bias=False)
def total():
    one = np.zeros(1, np.int32)
    out, _ = made.step(Indices(one, one, one, np.zeros((1, 1), np.int32), one), hidden=False)
    return float(out.sum())
before = total()
"""
"""A model of two threads in a process of its own, and its one step."""


def test_a_forked_child_steps_with_threads_of_its_own() -> None:
    program = """
    child = os.fork()
    if child == 0:
        same = total() == before
        made.close()
        os._exit(0 if same else 3)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, total() == before)
    made.close()
    """
    assert run(MODEL + textwrap.dedent(program)) == "0 True"


def test_a_child_forked_in_the_middle_of_steps_has_a_whole_pool() -> None:
    program = """
    done = threading.Event()
    def work():
        while not done.is_set():
            assert total() == before
    other = threading.Thread(target=work)
    other.start()
    codes = set()
    for _ in range(8):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            same = all(total() == before for _ in range(3))
            made.close()
            os._exit(0 if same else 3)
        codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    done.set()
    other.join()
    print(codes, total() == before)
    """
    assert run(MODEL + textwrap.dedent(program)) == "{0} True"


def test_signals_in_the_middle_of_steps_cancel_them_and_nothing_else() -> None:
    program = """
    stepping = False
    def cancel(number, frame):
        global stepping
        if stepping:
            stepping = False
            raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, cancel)
    cancelled = 0
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        try:
            stepping = True
            assert total() == before
            stepping = False
        except KeyboardInterrupt:
            cancelled += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(cancelled > 0, total() == before)
    made.close()
    """
    assert run(MODEL + textwrap.dedent(program)) == "True True"


def test_threads_without_work_use_no_processor() -> None:
    program = """
    time.sleep(0.05)
    used = time.process_time()
    time.sleep(0.5)
    print(time.process_time() - used < 0.1)
    """
    assert run(MODEL + textwrap.dedent(program)) == "True"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say where a thread may run")
def test_threads_stay_on_cores_of_their_own_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
    places = [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
    everywhere = os.sched_getaffinity(0)
    print(sum(len(place) == 1 for place in places), [place for place in places if place != everywhere])
    made.close()
    """
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) == 1:
        pytest.skip("this process may use one processor only")
    assert run(MODEL + textwrap.dedent(program)) == "0 []"
    monkeypatch.setenv("OCTAVO_PIN_THREADS", "1")
    cores = settings.processors()
    assert run(MODEL + textwrap.dedent(program)) == f"1 [{{{cores[1 % len(cores)]}}}]", "the caller's is free again"


def test_importing_it_loads_neither_torch_nor_the_library() -> None:
    command = (
        "import sys, octavo.nn.kernels.binding as b; print('torch' in sys.modules, b.library.cache_info().currsize)"
    )
    out = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "False 0"
