"""Whole models from strangers, in ONNX Runtime with our operators: a message, never a crash."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz"
CASES = 400


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in (2, 3))])
def test_damaged_models_are_refused_or_run(seed, library):
    KEPT.mkdir(parents=True, exist_ok=True)
    out = KEPT / f"seed-{seed}.onnx"
    command = [
        sys.executable, "-m", "tests.native.models", str(library), str(seed),
        str(CASES), str(out),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603 - our own text
        command, capture_output=True, text=True, check=False, timeout=600, env=environment,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, f"repeat by opening {out}\n{done.stderr[-2000:]}"
    out.unlink()
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == CASES
    assert counts.keys().isdisjoint({"names no node", "says nothing"}), counts
    assert counts["refused by us"] > CASES / 5
    assert counts["ran"] > CASES / 20
