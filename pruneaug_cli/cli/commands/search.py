"""``pruneaug search``."""

from pathlib import Path
from typing import Annotated

import typer

from pruneaug_cli.cli.options import (
    AsJson,
    RunFolder,
    Settings,
    Storage,
    TrustCheckpoint,
    Values,
    duration,
    durations,
    given,
    numbers,
)

Checkpoint = Annotated[
    Path | None,
    typer.Argument(metavar="CHECKPOINT", show_default=False,
                   help="Trained weights: .safetensors, or a state_dict saved by torch. May be "
                        "left out when the recipe names it, or for a built-in task."),
]  # fmt: skip
Task = Annotated[
    str | None,
    typer.Option(metavar="TASK", show_default=False,
                 help="path/task.py, package.module, file.py:object or builtin:digits-cnn."),
]  # fmt: skip
Platform = Annotated[
    str | None,
    typer.Option(metavar="NAME", show_default=False, help="Profile to search for: name or path."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", show_default=False, help="Settings; the options here win."),
]
MaxDrop = Annotated[
    Values | None,
    typer.Option(metavar="X", parser=numbers, show_default=False,
                 help="Largest loss of the task's metric.  [default: 0.01]"),
]  # fmt: skip
TargetLatency = Annotated[
    Values | None,
    typer.Option(metavar="DURATION", parser=durations, show_default=False,
                 help="Latency to reach, such as 2ms."),
]  # fmt: skip
TargetSpeedup = Annotated[
    Values | None,
    typer.Option(metavar="X", parser=numbers, show_default=False,
                 help="Speed-up over dense ONNX Runtime to reach, such as 3."),
]  # fmt: skip
Strategy = Annotated[
    str | None,
    typer.Option(metavar="NAME", show_default=False,
                 help="knapsack; to compare: tpe, nsga2, random, greedy, halp, uniform, smallest, "
                 "largest, squarest, tallest, widest, random-block, unstructured.  "
                 "[default: knapsack]"),
]  # fmt: skip
Trials = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", show_default=False, help="Plans to evaluate."),
]
Timeout = Annotated[
    float | None,
    typer.Option(metavar="DURATION", parser=duration, show_default=False,
                 help="Stop after this time, such as 10min."),
]  # fmt: skip
Cautious = Annotated[
    bool | None,
    typer.Option("--cautious/--no-cautious", show_default=False,
                 help="Whether a plan must also be expected to keep the drop on other data than "
                      "it was evaluated on.  [default: no-cautious]"),
]  # fmt: skip
Workers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", show_default=False,
                 help="Plans evaluated at a time, each in a process.  [default: 1]"),
]  # fmt: skip
EngineName = Annotated[
    str | None,
    typer.Option("--engine", metavar="NAME", show_default=False,
                 help="Where workers are: processes (this machine) or ray (a cluster).  "
                      "[default: processes]"),
]  # fmt: skip
Seed = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", show_default=False,
                 help="One seed, profile and worker give one plan.  [default: 0]"),
]  # fmt: skip
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show what can be reached; nothing is searched."),
]


def search(
    checkpoint: Checkpoint = None,
    task: Task = None,
    platform: Platform = None,
    recipe: RecipeFile = None,
    max_drop: MaxDrop = None,
    target_latency: TargetLatency = None,
    target_speedup: TargetSpeedup = None,
    strategy: Strategy = None,
    trials: Trials = None,
    timeout: Timeout = None,
    cautious: Cautious = None,
    workers: Workers = None,
    engine: EngineName = None,
    storage: Storage = None,
    seed: Seed = None,
    run_dir: RunFolder = None,
    dry_run: DryRun = False,
    settings: Settings = None,
    trust_checkpoint: TrustCheckpoint = False,
    as_json: AsJson = False,
) -> None:
    """Choose block shape and sparsity of every layer, or to leave it dense.

    Plans are priced by the platform's profile, and judged by the task's evaluate. The result is
    the fastest plan that loses at most --max-drop, or with a latency target the best plan that
    reaches it. When fine-tuning follows, plans may lose more by the recipe's search.recovery.

    Several goals of one kind (--target-speedup 2,3,4) make a family: a plan for each from one
    study, in a folder of its own. They share the trials equally, the hardest goal first.

    Running the same command again resumes, also while it runs on other machines: with --storage
    they search together. With another goal it evaluates nothing that is known.
    """
    from pruneaug_cli.app.requests import SearchRequest
    from pruneaug_cli.app.search import run_search
    from pruneaug_cli.cli.deliver import deliver
    from pruneaug_cli.report.preflight import preflight_view
    from pruneaug_cli.report.run import run_view

    _refuse_two_targets(target_latency, target_speedup)
    request = SearchRequest(
        checkpoint=checkpoint, task=task, platform=platform, recipe=recipe,
        settings=tuple(settings or ()), max_drop=given(max_drop),
        target_latency_s=given(target_latency), target_speedup=given(target_speedup),
        strategy=strategy, trials=trials, timeout_s=timeout,
        cautious=cautious, workers=workers, engine=engine, seed=seed, storage=storage,
        run_dir=run_dir, dry_run=dry_run, trust_checkpoint=trust_checkpoint,
    )  # fmt: skip
    view = preflight_view if dry_run else run_view
    deliver(run_search, request, view=view, as_json=as_json)


def _refuse_two_targets(latency: Values | None, speedup: Values | None) -> None:
    from pruneaug_cli.errors import UsageError

    if latency is not None and speedup is not None:
        raise UsageError(
            "--target-latency and --target-speedup exclude each other", hint="give one of them"
        )
