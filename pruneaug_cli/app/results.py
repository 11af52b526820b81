"""What each use case answers: frozen values, no torch, no files opened.

Seconds, bytes and fractions throughout; units are converted after a result is rendered.

Every result has ``to_json()``, which returns the document that ``--json`` prints. Documents carry
``schema_version`` (:data:`SCHEMA_VERSION`). History:

    1: first version.

The document of a run (``result.json``; also what ``search``, ``finetune``, ``export``, ``run`` and
``report`` print) grows step by step; a key is absent until its step has run::

    schema_version, task, platform, seed, checkpoint, higher_is_better
    trainable            whether the task has data for fine-tuning
    goal                 {max_drop, target_latency_s, target_speedup}            null: not set
    dense, sparse        {metric, test_metric, latency_s, size_bytes, spread}    each when known
    predicted_latency_s  of the chosen plan
    predicted_speedup    over the dense ONNX file as it was timed when the network was profiled
    speedup              measured: dense / sparse
    plan                 {layer: {block, sparsity} or "dense"}
    layers               [{name, geometry, uses, dense_latency_s, latency_s, harm, runner_up,
                         options, coefficient}] in the model's order; runner_up {block, sparsity,
                         latency_s, harm}: the fastest other block that does no more harm, block
                         null: dense, all null for a dense layer; options {block: {sparsity, harm,
                         latency_s}}, lists of equal length; coefficient {value, low, high} of the
                         layer's harm, as the default strategy learnt it, or null
    harm                 what the layers' harms are: output, the relative error of a layer's output,
                         or loss, the estimated rise of the loss
    expected_drop        what the plan is expected to lose on data like the search's, one-shot,
                         judged by the divergence of its outputs; null: that was not measured
    skipped              [{name, kind, reason}]: layers with weights that stay dense
    search               {strategy, harm, evaluations, max_drop, target_latency_s, cautious, chosen,
                         front, uniform, trials, left_out, finalists, finalists_untrained}: harm as
                         above; cautious whether no plan counted as losing less than is expected;
                         evaluations by the last call, the other trials were known; the drop and
                         target it worked under, or null (a floor relaxed by what training should
                         win, a target less its margin); chosen a trial's number, front numbers,
                         uniform the best uniform plan's number or null, trials [{number, origin,
                         predicted_latency_s, metric, divergence, seconds, samples, of}], divergence
                         of the outputs from the dense model's or null, metric
                         an estimate and samples of those there are where an evaluation ended early,
                         else null; left_out how many plans were tried and have no metric;
                         finalists [{trial, metric_before, metric_after}] in the order they were
                         trained, metric_before one-shot, metric_after null where training diverged;
                         finalists_untrained whether more would have been trained, had there been
                         time
    trials               how many were evaluated
    tightened            steps by which a missed latency target was tightened (``app/margin.py``)
    member               in a member of a family: its name, also that of its folder
    missed               [sentence]: how the measured files miss the goal; empty: they keep it.
                         Printed by ``bench``, ``report`` and ``run``; not in the file
    finetune             {epochs, metric_before, metric_after, settings}: the last a digest
    export               {max_abs_diff_library, max_abs_diff_stock, tolerance, sparsity {layer: s},
                         regions, outside [{op, name, reason}], memory {weights_bytes,
                         buffers_bytes}, target, library}: outside what stayed standard ops, and
                         why; memory of a session's regions, buffers for one sample; library the
                         file for the target, beside the model
    bench                {threads, repeats, max_abs_diff, stock_latency_s, stock_over_dense}
    files                {name: path relative to the run}: dense, sparse, library (what runs the
                         model here), target_library, checkpoint, plan
    space                [{name, options, distinct, log10_plans}]: what each cut leaves
                         (:class:`Cut`); last without the options that others dominate, which
                         has no distinct
    seconds              {step: s}

A family's has what is shared (``task`` to ``higher_is_better``, ``dense``, ``skipped``, ``search``,
``trials``, ``seconds``) and::

    family               [{name, goal, trial, predicted_latency_s, predicted_speedup, metric,
                         test_metric, drop, latency_s, speedup, size_bytes, tightened, met}]: null
                         what is not known yet; met: whether the measured result keeps its goal
    unanswered           [{name, reason, hint}]: goals for which no plan was found
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 1

Document = dict[str, Any]
Status = Literal["ok", "missing", "failed"]


@dataclass(frozen=True, slots=True)
class PlatformSummary:
    """One profile in a line; ``date`` as ISO 8601, ``repeat_error`` as a fraction."""

    name: str
    path: Path
    backend: str
    threads: int
    cpu: str
    date: str
    measurements: int
    repeat_error: float


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where blocks of one shape start to pay on one geometry.

    Attributes:
        geometry: the layer, as one line.
        block: the block shape.
        dense_latency_s: our kernels, nothing removed.
        peer_latency_s: ONNX Runtime's own dense layer; ``None`` when it was not measured.
        break_even: the lowest sparsity that beats the faster of the two; ``None`` when none does.
        best_sparsity: the highest sparsity measured.
        best_speedup: the faster dense time over the time at ``best_sparsity``.
    """

    geometry: str
    block: str
    dense_latency_s: float
    peer_latency_s: float | None
    break_even: float | None
    best_sparsity: float
    best_speedup: float


@dataclass(frozen=True, slots=True)
class PlatformsResult:
    """The profiles that were found."""

    platforms: tuple[PlatformSummary, ...]

    def to_json(self) -> Document:
        """``{schema_version, platforms}``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class PlatformResult:
    """One profile, looked at: what ``profile`` and ``platforms show`` answer."""

    platform: PlatformSummary
    break_even: tuple[BreakEven, ...]
    seconds: float | None = None

    def to_json(self) -> Document:
        """``{schema_version, platform, break_even, seconds}``; ``seconds``: of measuring now."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of the space after a cut (``app/candidates.py``).

    Attributes:
        name: of the cut.
        options: choices of all layers, staying dense among them.
        distinct: the same, layers with equal geometry and equal choices counted once.
        log10_plans: plans, one choice per layer, as a power of ten.
    """

    name: str
    options: int
    distinct: int
    log10_plans: float


@dataclass(frozen=True, slots=True)
class PreflightTarget:
    """A latency target of a family, judged before the search.

    Attributes:
        name: of the goal.
        target_latency_s: what it asks for, converted from a speed-up where need be.
        satisfiable: whether it can be reached, with the margin.
    """

    name: str
    target_latency_s: float
    satisfiable: bool


@dataclass(frozen=True, slots=True)
class PreflightResult:
    """What a search could reach, before anything is spent (``search --dry-run``).

    Attributes:
        layers: how many are prunable.
        skipped: ``{name: reason}`` of the layers that stay dense.
        baseline_latency_s: the dense model in ONNX Runtime: what speed-ups are measured against.
        dense_latency_s: the plan that prunes nothing, in our kernels.
        min_latency_s: the fastest plan there is.
        rest_s: the part of every plan that no choice changes.
        max_speedup: ``baseline_latency_s / min_latency_s``.
        space_before: number of plans before cuts, as a power of ten.
        space_after: the same after cuts.
        space: what each cut leaves (``app/candidates.py``), the first row before any.
        target_latency_s: what the goal asks for, converted from a speed-up where need be; of a
            family the fastest.
        satisfiable: whether the target can be reached, with the margin, all of them in a family;
            ``None`` without.
        targets: those of a family one by one, in the order they were given; else none.
        margin: the part of a target by which a plan must be predicted to be faster, since
            predictions err (the recipe's ``search.margin``).
    """

    task: str
    platform: str
    layers: int
    skipped: Mapping[str, str] = field(hash=False)
    baseline_latency_s: float
    dense_latency_s: float
    min_latency_s: float
    rest_s: float
    max_speedup: float
    space_before: float
    space_after: float
    target_latency_s: float | None
    satisfiable: bool | None
    space: tuple[Cut, ...] = ()
    targets: tuple[PreflightTarget, ...] = ()
    margin: float = 0.0

    def to_json(self) -> Document:
        """All fields, with ``schema_version``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where a run stands.

    Attributes:
        run_dir: its folder.
        document: the content of its ``result.json`` (see the head of this module).
        report: the HTML report, when one was written.
        front: the points of ``front.json``, after a search.
        dashboard: the command that shows the study, after a search.
    """

    run_dir: Path
    document: Document = field(hash=False)
    report: Path | None = None
    front: list[Document] | None = field(default=None, hash=False)
    dashboard: str | None = None

    def to_json(self) -> Document:
        """The document of the run, with ``run`` (its folder) and ``report`` (``null`` without).

        After a search ``front`` and ``dashboard`` too.
        """
        after_a_search = {"front": self.front, "dashboard": self.dashboard}
        return {
            **_plain(self.document),
            "run": str(self.run_dir),
            "report": None if self.report is None else str(self.report),
            **_plain({key: value for key, value in after_a_search.items() if value is not None}),
        }


@dataclass(frozen=True, slots=True)
class BenchModel:
    """How one model did; ``spread`` is the inter-quartile range over the median.

    ``weights_bytes`` and ``buffers_bytes`` are what its regions hold in memory: packed weights, and
    buffers for one sample; None without our library.
    """

    path: Path
    latency_s: float
    spread: float
    threads: int
    library: bool
    weights_bytes: int | None = None
    buffers_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BenchPrediction:
    """What was predicted for the sparse model, and what it takes at the speed of the profile.

    Attributes:
        predicted_latency_s: the sum of its layers and the rest, as the search had it.
        latency_s: measured, for the machine at the speed it had when it was profiled.
    """

    predicted_latency_s: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Models timed side by side: the sparse one first; ``speedup`` is dense over sparse.

    ``batch`` is how many samples a run had; ``prediction`` is None where there is none, or none
    that these times can be compared with.
    """

    models: tuple[BenchModel, ...]
    speedup: float
    max_abs_diff: float
    batch: int
    prediction: BenchPrediction | None = None

    def to_json(self) -> Document:
        """``{schema_version, models, speedup, max_abs_diff, batch, prediction}``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the doctor looked at: what was found, and what to do when it is not well."""

    name: str
    status: Status
    found: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """Everything the doctor looked at."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; a missing extra is no illness."""
        return all(check.status != "failed" for check in self.checks)

    def to_json(self) -> Document:
        """``{schema_version, checks}``."""
        return _document(self)


def _document(result: Any) -> Document:
    return {"schema_version": SCHEMA_VERSION, **_plain(result)}


def _plain(value: object) -> Any:
    """Turn frozen results into what ``json`` can write; what is not a finite number is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
