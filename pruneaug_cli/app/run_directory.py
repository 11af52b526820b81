"""One folder holds all of a run; this module is the authority for what lies where in it.

::

    recipe.yaml              the settings, fully resolved
    profile.json             the prices used: the platform's profile, with this network's rest
    evidence/                second moments of the layers' inputs, gradients of the loss
    database/                reconstructed weights of every option
    study.db                 the Optuna study
    front.json               the plans that no other beats
    plan.json                one choice per layer, its predicted price
    pruned.safetensors       the weights after the search, before any training
    finetune.pt              where training stands
    checkpoint.safetensors   the weights after training
    model.onnx  model.dense.onnx   the export, and its peer
    result.json  report.html

A family, several goals answered from one study, has a folder for each goal in its own, named by the
goal (``2x``, ``1.5ms``, ``drop-0.01``), with that goal's recipe, plan, weights, files and result: a
run like any other. What they share stays above: recipe, profile, evidence, database, study, front.

Every file is written atomically; a step that finds one missing says which command makes it.

Plan schema history (``schema_version``):
    1: first version.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pruneaug_cli import files
from pruneaug_cli.app.results import SCHEMA_VERSION, Document
from pruneaug_cli.core import Plan
from pruneaug_cli.errors import PlanError, RunError

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan with what it was searched for.

    Attributes:
        plan: one choice per layer.
        predicted_latency_s: price of the whole model under the plan.
        checkpoint: digest of the dense weights.
        profile: digest of the profile that priced it.
    """

    plan: Plan
    predicted_latency_s: float
    checkpoint: str
    profile: str


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run's folder and the paths in it; ``family``: the folder of the family it belongs to."""

    path: Path
    family: Path | None = None

    @classmethod
    def at(cls, path: Path) -> Self:
        """The run in a folder, which knows whether it belongs to a family."""
        run = cls(path)
        above = path.parent if path.name not in ("", "..") else path.resolve().parent
        return cls(path, above) if "member" in run.read_result() else run

    def member(self, name: str) -> Self:
        """The run of one goal of this family."""
        return type(self)(self.path / name, self.path)

    def members(self) -> tuple[Self, ...]:
        """The runs of a family; empty when this is a single run."""
        return tuple(self.member(entry["name"]) for entry in self.read_result().get("family", ()))

    @property
    def shared(self) -> Path:
        """Where the study is, with what it is made from."""
        return self.family or self.path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def profile(self) -> Path:
        """The profile that prices the run."""
        return self.path / "profile.json"

    @property
    def evidence(self) -> Path:
        """Folder of what was observed of the layers."""
        return self.shared / "evidence"

    @property
    def database(self) -> Path:
        """Folder of the layer database."""
        return self.shared / "database"

    @property
    def study(self) -> Path:
        """The Optuna study, when no other storage is given."""
        return self.shared / "study.db"

    @property
    def front(self) -> Path:
        """The Pareto front of the study."""
        return self.shared / "front.json"

    @property
    def plan(self) -> Path:
        """The chosen plan."""
        return self.path / "plan.json"

    @property
    def pruned(self) -> Path:
        """Weights after the search."""
        return self.path / "pruned.safetensors"

    @property
    def training_state(self) -> Path:
        """Where an interrupted training goes on."""
        return self.path / "finetune.pt"

    @property
    def checkpoint(self) -> Path:
        """Weights after training."""
        return self.path / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The block-sparse ONNX file."""
        return self.path / "model.onnx"

    @property
    def dense_model(self) -> Path:
        """The dense ONNX file: the peer."""
        return self.path / "model.dense.onnx"

    @property
    def result(self) -> Path:
        """The result of all steps so far."""
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def search_command(self) -> str:
        """What makes the run; for hints."""
        folder = shlex.quote(str(self.shared))
        return f"pruneaug search CHECKPOINT --task TASK --platform PLATFORM --run {folder}"

    def require(self, path: Path, *, made_by: str | None = None) -> Path:
        """Return ``path`` when it exists.

        Raises:
            RunError: it does not; ``made_by`` is the command in the hint (None: the search).
        """
        made_by = made_by or self.search_command
        if not self.path.is_dir():
            raise RunError(f"{self.path}: no such run", hint=f"make one with: {made_by}")
        if not path.exists():
            raise RunError(f"{self.path}: has no {path.name} yet", hint=f"make it with: {made_by}")
        return path

    def weights(self) -> Path:
        """The newest weights: trained if there are any, else as pruned by the search.

        Raises:
            RunError: the search has not finished.
        """
        if self.checkpoint.exists():
            return self.checkpoint
        return self.require(self.pruned)

    def read_result(self) -> Document:
        """Everything known so far; only the version when nothing is."""
        if not self.result.exists():
            return {"schema_version": SCHEMA_VERSION}
        return files.read_json(
            self.result, kind="result", version=SCHEMA_VERSION, error=RunError,
            hint="run the steps again with this version of pruneaug, in another folder",
        )  # fmt: skip

    def update_result(
        self,
        news: Mapping[str, Any],
        *,
        step: str | None = None,
        seconds: float = 0.0,
        drop: tuple[str, ...] = (),
    ) -> Document:
        """Merge what a step found into the result, and forget what it made stale.

        Args:
            news: top-level keys; objects are merged one level deep.
            step: the key under ``seconds``; None: no step has run.
            seconds: how long the step took.
            drop: dotted keys that no longer hold (``"export"``, ``"sparse.latency_s"``).
        """
        document = self.read_result()
        for key in drop:
            _forget(document, key)
        spent = {} if step is None else {"seconds": {step: seconds}}
        for key, value in {**news, **spent}.items():
            old = document.get(key)
            merge = isinstance(old, dict) and isinstance(value, Mapping) and key in _MERGED
            document[key] = {**old, **value} if merge and isinstance(old, dict) else value
        files.write_json(self.result, document)
        return document

    def write_plan(self, stored: StoredPlan) -> None:
        """Write ``plan.json``."""
        files.write_json(
            self.plan,
            {
                "schema_version": PLAN_VERSION,
                "layers": stored.plan.to_json(),
                "predicted_latency_s": stored.predicted_latency_s,
                "checkpoint": stored.checkpoint,
                "profile": stored.profile,
            },
        )

    def read_plan(self) -> StoredPlan:
        """Read ``plan.json``.

        Raises:
            RunError: there is none yet.
            PlanError: it is malformed or of another version.
        """
        path = self.require(self.plan)
        document = files.read_json(path, kind="plan", version=PLAN_VERSION, error=PlanError)
        try:
            return StoredPlan(
                Plan.from_json(document["layers"]),
                float(document["predicted_latency_s"]),
                str(document["checkpoint"]),
                str(document["profile"]),
            )
        except KeyError as error:
            raise PlanError(f"{path}: missing {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise PlanError(f"{path}: {error}") from error


_MERGED = frozenset({"dense", "sparse", "seconds", "files"})


def _forget(document: Document, key: str) -> None:
    head, _, tail = key.partition(".")
    if not tail:
        document.pop(head, None)
    elif isinstance(document.get(head), dict):
        document[head].pop(tail, None)
