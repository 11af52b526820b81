"""Each command: options become a request, a result becomes tables or one document."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pruneaug_cli.app.requests import (
    BenchRequest,
    BenchRunRequest,
    ChooseRequest,
    DoctorRequest,
    ExportRequest,
    FinetuneRequest,
    PlatformsListRequest,
    PlatformsShowRequest,
    ProfileRequest,
    ReportRequest,
    RunRequest,
    SearchRequest,
)
from pruneaug_cli.app.results import (
    BenchModel,
    BenchPrediction,
    BenchResult,
    BreakEven,
    Check,
    Cut,
    DoctorResult,
    PlatformResult,
    PlatformsResult,
    PlatformSummary,
    PreflightResult,
    PreflightTarget,
    RunResult,
)
from pruneaug_cli.errors import BudgetError
from pruneaug_cli.progress import Step

DATA = Path(__file__).parents[1] / "data"
RUN = RunResult(
    Path("runs/digits"), json.loads((DATA / "result.json").read_text("utf-8")), Path("report.html")
)
FAMILY = RunResult(
    Path("runs/digits"), json.loads((DATA / "family.json").read_text("utf-8")),
    front=[{"trial": 7, "metric": 0.98}], dashboard="optuna-dashboard sqlite:///runs/a/study.db",
)  # fmt: skip
SUMMARY = PlatformSummary(
    "laptop", Path("platforms/laptop.json"), "native", 1, "Example CPU", "2026-11-20", 120, 0.021
)
PLATFORM = PlatformResult(
    SUMMARY,
    (
        BreakEven("conv 64 64 3 3 16 16 1 1", "8x1", 0.0031, 0.0030, 0.5, 0.9, 4.2),
        BreakEven("linear 10 64 1", "8x1", 0.00001, None, None, 0.9, 0.8),
    ),
)
PREFLIGHT = PreflightResult(
    task="task.py", platform="laptop", layers=7, skipped={"depthwise": "grouped convolution"},
    baseline_latency_s=0.004, dense_latency_s=0.0039, min_latency_s=0.0006, rest_s=0.0001,
    max_speedup=6.67, space_before=12.3, space_after=9.1, target_latency_s=0.0013,
    satisfiable=True,
    space=(
        Cut("blocks that divide the layer", 4000, 1800, 12.3),
        Cut("faster than dense", 60, 31, 9.1),
    ),
)  # fmt: skip
PREFLIGHT_OF_A_FAMILY = replace(
    PREFLIGHT, target_latency_s=0.0005, satisfiable=False,
    targets=(
        PreflightTarget("2x", 0.002, satisfiable=True),
        PreflightTarget("3x", 0.004 / 3, satisfiable=True),
        PreflightTarget("8x", 0.0005, satisfiable=False),
    ),
)  # fmt: skip
BENCH = BenchResult(
    (
        BenchModel(Path("model.onnx"), 0.0013, 0.015, 1, True, 1_160_000, 420_000),
        BenchModel(Path("model.dense.onnx"), 0.0041, 0.012, 1, library=False),
    ),
    speedup=3.15,
    max_abs_diff=0.031,
    batch=16,
    prediction=BenchPrediction(0.00121, 0.00128),
)
HEALTHY = DoctorResult(
    (
        Check("compiler", "ok", "zig cc 0.15"),
        Check("scikit-learn", "missing", "not installed", "pip install 'pruneaug[demo]'"),
    )
)

CASES: list[Any] = [
    pytest.param(
        "profile --platform laptop --task task.py --budget 2min --block 8x1 --block 4x4 "
        "--sparsity 0.5 --threads 2",
        "profile", "run_profile", PLATFORM,
        ProfileRequest("laptop", task="task.py", threads=2, budget_s=120.0,
                       blocks=("8x1", "4x4"), sparsities=(0.5,)),
        id="profile",
    ),
    pytest.param(
        "profile --platform laptop --shapes shapes.txt", "profile", "run_profile", PLATFORM,
        ProfileRequest("laptop", shapes=Path("shapes.txt")), id="profile-shapes",
    ),
    pytest.param(
        "platforms list", "platforms", "run_platforms_list", PlatformsResult((SUMMARY,)),
        PlatformsListRequest(), id="platforms-list",
    ),
    pytest.param(
        "platforms show laptop", "platforms", "run_platforms_show", PLATFORM,
        PlatformsShowRequest("laptop"), id="platforms-show",
    ),
    pytest.param(
        "search weights.pt --task task.py --platform laptop --recipe r.yaml --max-drop 0.02 "
        "--target-latency 2ms --strategy tpe --trials 7 --timeout 10min --workers 2 --engine ray "
        "--storage sqlite:///s.db --seed 3 --run runs/a --set search.ridge=0.1 "
        "--set seed=4 --trust-checkpoint",
        "search", "run_search", RUN,
        SearchRequest(
            checkpoint=Path("weights.pt"), task="task.py", platform="laptop",
            recipe=Path("r.yaml"), settings=("search.ridge=0.1", "seed=4"), max_drop=0.02,
            target_latency_s=0.002, strategy="tpe", trials=7, timeout_s=600.0, workers=2,
            engine="ray", seed=3, storage="sqlite:///s.db",
            run_dir=Path("runs/a"), trust_checkpoint=True,
        ),
        id="search",
    ),
    pytest.param(
        "search --task builtin:digits-cnn --platform laptop --target-speedup 3 --dry-run",
        "search", "run_search", PREFLIGHT,
        SearchRequest(task="builtin:digits-cnn", platform="laptop", target_speedup=3.0,
                      dry_run=True),
        id="preflight",
    ),
    pytest.param(
        "search --task builtin:digits-cnn --platform laptop --target-speedup 2,3,8 --dry-run",
        "search", "run_search", PREFLIGHT_OF_A_FAMILY,
        SearchRequest(task="builtin:digits-cnn", platform="laptop", target_speedup=(2.0, 3.0, 8.0),
                      dry_run=True),
        id="preflight-family",
    ),
    pytest.param(
        "search --task builtin:digits-cnn --platform laptop --target-speedup 2,3,4 --max-drop 0.02",
        "search", "run_search", FAMILY,
        SearchRequest(task="builtin:digits-cnn", platform="laptop", max_drop=0.02,
                      target_speedup=(2.0, 3.0, 4.0)),
        id="family",
    ),
    pytest.param(
        "search --target-latency 1ms,2ms", "search", "run_search", FAMILY,
        SearchRequest(target_latency_s=(0.001, 0.002)), id="family-latency",
    ),
    pytest.param(
        "choose runs/a 17", "choose", "run_choose", RUN, ChooseRequest(Path("runs/a"), 17),
        id="choose",
    ),
    pytest.param(
        f"bench {DATA} --seconds 500ms", "timing", "run_bench_run", RUN,
        BenchRunRequest(DATA, seconds=0.5), id="bench-run",
    ),
    pytest.param(
        "finetune runs/a --set finetune.epochs=2", "finetune", "run_finetune", RUN,
        FinetuneRequest(Path("runs/a"), settings=("finetune.epochs=2",)), id="finetune",
    ),
    pytest.param(
        "export runs/a --out m.onnx", "export", "run_export", RUN,
        ExportRequest(Path("runs/a"), out=Path("m.onnx")), id="export",
    ),
    pytest.param(
        "bench m.onnx --against d.onnx --threads 2 --seconds 500ms --library ops.so --batch 16",
        "bench", "run_bench", BENCH,
        BenchRequest(Path("m.onnx"), Path("d.onnx"), threads=2, seconds=0.5,
                     library=Path("ops.so"), batch=16),
        id="bench",
    ),
    pytest.param(
        "run recipe.yaml --set seed=1 --run runs/b", "run", "run_run", RUN,
        RunRequest(Path("recipe.yaml"), settings=("seed=1",), run_dir=Path("runs/b")), id="run",
    ),
    pytest.param(
        "report runs/a", "report", "run_report", RUN, ReportRequest(Path("runs/a")), id="report",
    ),
    pytest.param("doctor", "doctor", "run_doctor", HEALTHY, DoctorRequest(), id="doctor"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "module", "name", "result", "request_"), CASES)
def test_options_become_the_request_and_tables_go_to_stdout(
    invoke, replace_use_case, golden, words, module, name, result, request_
):
    asked = []

    def use_case(request, progress):
        asked.append(request)
        progress(Step("layers", 1, 2, "stem"))
        return result

    replace_use_case(module, name, use_case)
    outcome = invoke(*words.split())
    assert asked == [request_]
    assert outcome.code == 0
    assert outcome.err == "layers 1/2: stem\n"
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    family = {id(FAMILY): "Family", id(PREFLIGHT_OF_A_FAMILY): "PreflightFamily"}
    name = family.get(id(result), type(result).__name__)
    golden(f"cli/{name}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize(("words", "module", "name", "result", "request_"), CASES)
def test_json_puts_one_versioned_document_on_stdout_and_all_else_on_stderr(
    invoke, replace_use_case, words, module, name, result, request_
):
    replace_use_case(module, name, lambda request, progress: result)
    outcome = invoke(*words.split(), "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert document == json.loads(json.dumps(result.to_json()))
    assert document["schema_version"] == 1
    assert len(outcome.err.splitlines()) > 2


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_that_misses_its_goal_is_shown_before_the_refusal(
    invoke, replace_use_case, as_json
):
    result = RunResult(Path("r"), {"schema_version": 1, "speedup": 1.5})

    def miss(request, progress):
        raise BudgetError("the goal is missed", hint="ask for less", found=result)

    replace_use_case("run", "run_run", miss)
    outcome = invoke("run", "recipe.yaml", *(["--json"] if as_json else []))
    assert outcome.code == BudgetError.exit_code
    *tables, error, hint = outcome.err.splitlines()
    assert [error, hint] == ["pruneaug: error: the goal is missed", "  hint: ask for less"]
    assert bool(tables) == as_json
    assert json.loads(outcome.out)["speedup"] == 1.5 if as_json else "1.50" in outcome.out


def test_values_that_are_not_numbers_become_null_in_json(invoke, replace_use_case):
    result = RunResult(Path("r"), {"schema_version": 1, "dense": {"metric": float("nan")}})
    replace_use_case("report", "run_report", lambda request, progress: result)
    assert json.loads(invoke("report", "r", "--json").out)["dense"] == {"metric": None}


def test_an_ill_machine_is_an_exit_code(invoke, replace_use_case):
    ill = DoctorResult((Check("compiler", "failed", "cannot start", "see PRUNEAUG_CC"),))
    replace_use_case("doctor", "run_doctor", lambda request, progress: ill)
    outcome = invoke("doctor")
    assert outcome.code == 1
    assert "compiler: see PRUNEAUG_CC" in outcome.out
