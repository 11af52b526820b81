"""What each use case is asked: frozen values, no torch, no files opened.

``None`` means "not said": the recipe decides, or the default of the use case. Seconds, bytes and
fractions throughout; text is parsed before a request is made. ``app/results.py`` holds the answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OneOrMore = float | tuple[float, ...]
"""A goal, or the goals of a family."""


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """Time the kernels for the layers of ``task``, or for the geometries listed in ``shapes``.

    Attributes:
        platform: the name the profile gets.
        task: address of a task; or ``None`` when ``shapes`` is given.
        shapes: file with one geometry per line (``core/geometry.py``).
        backend: which kernels.
        threads: threads of the ONNX Runtime session.
        out: file to write; ``None``: ``platforms/PLATFORM.json`` in the current folder.
        budget_s: how long to measure.
        blocks: block shapes such as ``8x1``; ``None``: the defaults of profiling.
        sparsities: fractions of blocks removed; ``None``: the defaults of profiling.
        seed: of the random masks.
    """

    platform: str
    task: str | None = None
    shapes: Path | None = None
    backend: str = "native"
    threads: int = 1
    out: Path | None = None
    budget_s: float = 60.0
    blocks: tuple[str, ...] | None = None
    sparsities: tuple[float, ...] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PlatformsListRequest:
    """List the profiles that can be found."""


@dataclass(frozen=True, slots=True)
class PlatformsShowRequest:
    """Show one profile, by name or path."""

    platform: str


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Search a plan; what is ``None`` comes from the recipe (see :meth:`overrides`)."""

    checkpoint: Path | None = None
    task: str | None = None
    platform: str | None = None
    recipe: Path | None = None
    settings: tuple[str, ...] = ()
    max_drop: OneOrMore | None = None
    target_latency_s: OneOrMore | None = None
    target_speedup: OneOrMore | None = None
    strategy: str | None = None
    trials: int | None = None
    timeout_s: float | None = None
    cautious: bool | None = None
    workers: int | None = None
    engine: str | None = None
    seed: int | None = None
    storage: str | None = None
    run_dir: Path | None = None
    dry_run: bool = False
    trust_checkpoint: bool = False

    def overrides(self) -> Mapping[str, object]:
        """Recipe keys this request sets: ``{"goal.max_drop": 0.01}``; durations in seconds."""
        return {key: value for key, value in self._settings().items() if value is not None}

    def _settings(self) -> Mapping[str, object]:
        return {
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "task": self.task,
            "platform": self.platform,
            "seed": self.seed,
            "goal.max_drop": self.max_drop,
            "goal.target_latency": self.target_latency_s,
            "goal.target_speedup": self.target_speedup,
            "search.strategy": self.strategy,
            "search.trials": self.trials,
            "search.timeout": self.timeout_s,
            "search.cautious": self.cautious,
            "search.workers": self.workers,
            "search.engine": self.engine,
        }


@dataclass(frozen=True, slots=True)
class ChooseRequest:
    """Make a trial of the front the plan of a run of its own, in ``RUN/trial-N``."""

    run_dir: Path
    trial: int
    trust_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """Train the plan of a run; ``settings`` are ``finetune.key=value`` overrides."""

    run_dir: Path
    settings: tuple[str, ...] = ()
    trust_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Write and verify the ONNX files of a run; ``out`` defaults to ``RUN/model.onnx``.

    ``target`` is the kind of machine the library is for (``kernels/native/targets.py``).
    """

    run_dir: Path
    out: Path | None = None
    target: str | None = None
    trust_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """Time two ONNX files side by side.

    ``library`` None: the one beside ``sparse``, if any; ``batch`` None: the one ``sparse`` was
    made for.
    """

    sparse: Path
    dense: Path
    threads: int = 1
    seconds: float = 5.0
    library: Path | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class BenchRunRequest:
    """Time the two ONNX files of a run, or of each member of a family, and keep it in the result.

    ``threads``, ``seconds`` None: as the run's recipe says.
    """

    run_dir: Path
    threads: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The whole way as a recipe says: profile, search, fine-tune, export, bench, report."""

    recipe: Path
    settings: tuple[str, ...] = ()
    run_dir: Path | None = None
    storage: str | None = None
    trust_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Read the result of a run and write its HTML report."""

    run_dir: Path


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """Find out what this machine can do."""
