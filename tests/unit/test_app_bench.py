"""Bench: the plan's prediction is held to a timing at the speed of the profile, where that fits."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import pruneaug_cli.app.bench as use_case
from pruneaug_cli.app.bench import run_bench
from pruneaug_cli.app.requests import BenchRequest
from pruneaug_cli.app.results import BenchPrediction
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.runtime.bench import BenchResult, ModelTiming


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Bench a file with this metadata, in a folder with a profile; returns result and timings."""
    (tmp_path / "profile.json").touch()
    (tmp_path / "ops.so").touch()
    timings = []

    def time(sparse, dense, *, seconds, pace=None, **settings):
        timings.append((seconds, pace))
        models = [
            ModelTiming(path, latency_s, 0.01, 1, path == sparse, 50)
            for path, latency_s in ((sparse, 2e-3 if pace is None else 1e-3), (dense, 4e-3))
        ]
        return BenchResult(tuple(models), 2.0, 0.1)

    def bench(metadata, *, folder=tmp_path, other_machine=None, **settings):
        model = SimpleNamespace(metadata={"library": "ops.so", "batch": "4", **metadata})
        for name, value in {
            "read_model": lambda path: model,
            "library_beside": lambda path: tmp_path / "ops.so",
            "read_profile": lambda path: None,
            "why_not_comparable": lambda profile, threads: other_machine,
            "pace_of": lambda *arguments: "pace",
            "region_memory": lambda *paths: SimpleNamespace(weights_bytes=1, buffers_bytes=1),
            "bench_models": time,
        }.items():
            monkeypatch.setattr(use_case, name, value)
        request = BenchRequest(folder / "model.onnx", Path("dense.onnx"), seconds=6.0, **settings)
        return run_bench(request), timings

    return bench


def test_the_prediction_of_a_plan_is_held_to_a_timing_at_the_speed_of_its_profile(bench):
    result, timings = bench({"predicted_latency_s": "0.00095"})
    assert result.prediction == BenchPrediction(0.00095, 1e-3)
    assert result.models[0].latency_s == 2e-3
    assert timings == [(pytest.approx(4.0), None), (pytest.approx(2.0), "pace")]


def test_a_member_of_a_family_finds_the_profile_above(bench, tmp_path):
    (tmp_path / "2x").mkdir()
    result, _ = bench({"predicted_latency_s": "0.001"}, folder=tmp_path / "2x")
    assert result.prediction is not None


@pytest.mark.parametrize(
    "case",
    [
        {"metadata": {}},
        {"metadata": {"predicted_latency_s": "0.001"}, "other_machine": "another processor"},
        {"metadata": {"predicted_latency_s": "0.001"}, "batch": 8},
        {"metadata": {"predicted_latency_s": "0.001"}, "folder": Path("/nowhere/at/all")},
    ],
    ids=["no-prediction", "other-machine", "other-batch", "no-profile"],
)
def test_what_does_not_compare_is_not_compared(bench, case):
    result, timings = bench(**case)
    assert result.prediction is None
    assert timings == [(6.0, None)]


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_a_prediction_that_is_no_time_is_refused(bench, text):
    message = (
        rf"model\.onnx: metadata: 'predicted_latency_s' should be seconds above 0, got '{text}'"
    )
    with pytest.raises(ModelFileError, match=message):
        bench({"predicted_latency_s": text})
