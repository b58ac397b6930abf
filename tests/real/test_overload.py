"""`benchmarks/overload.py` at its full size: under overload the server stays right and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/overload.py"


@pytest.mark.slow
def test_two_thousand_requests_of_64_clients_many_of_whom_leave(stories):
    command = [sys.executable, str(SCRIPT), str(stories), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=900, text=True).stdout)
    assert report["wrong answers"] == []
    assert not [code for code in map(int, report["statuses"]) if code >= 500 or code == 429]
    assert report["left early"] > 0.2 * report["requests"]
    assert set(report["left running, waiting, cached"].values()) == {0.0}
    early, late = report["MiB at 200, at the end"]
    assert late <= early + 64
    for kind in ("files", "threads"):
        before, after = report[f"{kind} before, after"]
        assert after <= before + 1  # a connection that is kept alive
    assert report["queue-full answers"] > 0 and report["exit code"] == 0
