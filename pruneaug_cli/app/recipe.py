"""Recipes: the settings of a run in one YAML file, checked before anything is spent.

A recipe is data: unknown keys, values out of range and durations without a unit are refused with
their place. ``recipes/schema.json`` is :func:`json_schema`, for editors. What a run really used is
written to ``runs/NAME/recipe.yaml`` by :func:`dump_recipe`, with every default spelled out; reading
it back gives the same recipe.

Paths in a recipe are relative to the current folder. Schema history (``schema_version``):

    1: first version.
"""

from collections.abc import Callable
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pruneaug_cli.app.durations import format_duration, parse_duration
from pruneaug_cli.app.layer_rules import Blocks, LayerRules, Sparsity, as_tuple
from pruneaug_cli.errors import UsageError
from pruneaug_cli.kernels.native.targets import NATIVE, TARGETS


def _parse_seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(f"expected a duration with its unit such as 2ms or 60s, got {value!r}")
    return parse_duration(value)


Seconds = Annotated[
    float,
    BeforeValidator(_parse_seconds),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ ?(us|ms|s|min|h)$"}),
]
Sparsities = Annotated[
    tuple[Annotated[Sparsity, Field(gt=0.0)], ...],
    BeforeValidator(as_tuple),
    Field(min_length=1),
]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of a recipe: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _OneOrMore:
    """One value, or a list of different ones: a tuple either way, written as it was given."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A value of the list, or the list."""
        several = handler(schema)
        several["minItems"] = several.pop("minLength", 1)  # pydantic takes it for a text's
        return {"anyOf": [several["items"], several]}


def _listed(value: object) -> object:
    return value if value is None or isinstance(value, tuple) else as_tuple(_in_list(value))


def _in_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _are_different(values: tuple[float, ...]) -> tuple[float, ...]:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ValueError(f"{twice[0]:g} is given twice")
    return values


def _as_given(values: tuple[float, ...] | None, write: SerializerFunctionWrapHandler) -> object:
    written = write(values)
    return written[0] if values is not None and len(values) == 1 else written


_FAMILY = (
    BeforeValidator(_listed),
    AfterValidator(_are_different),
    Field(min_length=1),
    _OneOrMore(),
)
Speedup = Annotated[float, Field(gt=1.0, allow_inf_nan=False)]


class Goal(Section):
    """What the result must satisfy; at most one kind of latency target.

    Several values of one kind ask for a family: a plan for each, from one study.
    """

    max_drops: Annotated[tuple[NonNegative, ...], *_FAMILY] | None = Field(
        default=(0.01,),
        alias="max_drop",
        json_schema_extra={"default": 0.01},
        description="largest loss of the task's metric, or several; null: no floor",
    )
    target_latencies_s: Annotated[tuple[Seconds, ...], *_FAMILY] | None = Field(
        default=None,
        alias="target_latency",
        description="of the whole model, such as 2ms, or several",
    )
    target_speedups: Annotated[tuple[Speedup, ...], *_FAMILY] | None = Field(
        default=None,
        alias="target_speedup",
        description="dense ONNX Runtime latency over ours, such as 3, or several",
    )

    _write = field_serializer("max_drops", "target_latencies_s", "target_speedups", mode="wrap")(
        _as_given
    )

    @model_validator(mode="after")
    def _has_one_question_or_one_list(self) -> Self:
        if self.target_latencies_s is not None and self.target_speedups is not None:
            raise ValueError("target_latency and target_speedup exclude each other")
        if len(self._lists()) > 1:
            kinds = " and ".join(kind for kind, _ in self._lists())
            raise ValueError(f"expected several values of one kind, got several of {kinds}")
        return self

    @property
    def max_drop(self) -> float | None:
        """Largest loss of the metric, of a goal that is no family."""
        return _only(self.max_drops)

    @property
    def target_latency_s(self) -> float | None:
        """Latency of the whole model, of a goal that is no family."""
        return _only(self.target_latencies_s)

    @property
    def target_speedup(self) -> float | None:
        """Dense ONNX Runtime latency over ours, of a goal that is no family."""
        return _only(self.target_speedups)

    def members(self) -> dict[str, "Goal"]:
        """Each goal of a family under its name (``2x``, ``1.5ms``, ``drop-0.01``), in order.

        Empty when there is one goal.
        """
        for kind, values in self._lists():
            name, field = _NAMES[kind]
            return {name(value): self.model_copy(update={field: (value,)}) for value in values}
        return {}

    def _lists(self) -> list[tuple[str, tuple[float, ...]]]:
        given = {
            "max_drop": self.max_drops,
            "target_latency": self.target_latencies_s,
            "target_speedup": self.target_speedups,
        }
        return [(kind, values) for kind, values in given.items() if values and len(values) > 1]


def _only(values: tuple[float, ...] | None) -> float | None:
    if values is None:
        return None
    (value,) = values
    return value


def _exactly(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


_NAMES: dict[str, tuple[Callable[[float], str], str]] = {
    "max_drop": (lambda value: f"drop-{_exactly(value)}", "max_drops"),
    "target_latency": (format_duration, "target_latencies_s"),
    "target_speedup": (lambda value: f"{_exactly(value)}x", "target_speedups"),
}


class ProfileSettings(Section):
    """How to measure the platform, when it has to be measured."""

    backend: str = Field(default="native", description="which kernels")
    threads: Count = Field(default=1, description="threads of ONNX Runtime")
    budget_s: Seconds = Field(default=60.0, alias="budget", description="time to spend")
    blocks: Blocks | None = Field(
        default=None, description="null: what profiling measures by default"
    )
    sparsities: Sparsities | None = Field(default=None, description="null: the default grid")


class SearchSettings(Section):
    """How the plan is chosen."""

    strategy: str = Field(
        default="knapsack",
        description="knapsack, tpe, nsga2, random, greedy, halp, uniform, smallest, largest, "
        "squarest, tallest, widest, random-block or unstructured",
    )
    trials: Count = Field(default=40, description="plans to evaluate")
    timeout_s: Seconds | None = Field(
        default=None,
        alias="timeout",
        description="no trial and no finalist's training begins after it; null: no limit",
    )
    workers: Count = Field(default=1, description="plans evaluated at a time, each in a process")
    engine: str = Field(
        default="processes", description="processes of this machine, or ray: tasks of a cluster"
    )
    recovery: NonNegative = Field(
        default=0.05, description="how much of the metric fine-tuning is trusted to win back"
    )
    finalist_epochs: Whole = Field(
        default=1,
        description="of a short training of the best few plans, which decides; 0: none",
    )
    margin: BelowOne = Field(
        default=0.05, description="by which part predictions must undercut a latency target"
    )
    cautious: bool = Field(
        default=False,
        description="a plan counts as losing no less than others of its divergence lose, so that "
        "luck with the samples of evaluate decides less",
    )
    blocks: Blocks | None = Field(default=None, description="null: all blocks of the profile")
    sparsities: Sparsities | None = Field(
        default=None, description="null: the default grid, as far as the profile reaches"
    )
    early_stop: bool = Field(
        default=True,
        description="end evaluations of plans that lose too much, where the task says how",
    )
    criterion: str = Field(
        default="obs", description="obs, gradual, hessian-diagonal, magnitude or taylor"
    )
    ridge: Positive = Field(default=0.01, description="added to the diagonal, relative to its mean")
    harm: Literal["output", "loss"] | None = Field(
        default=None,
        description="how harm is measured: output, the error of a layer's output, or loss, the "
        "expected rise of the loss; null: loss where the task has train_batches",
    )
    evidence_batches: Count | None = Field(
        default=None, description="null: all calibration batches"
    )


class FinetuneSection(Section):
    """Recovery training of the chosen plan.

    The fields of ``training.FinetuneSettings`` with the same defaults (a test compares them), but
    for the seed, which is the recipe's: ``FinetuneSettings(**section.model_dump(), seed=…)``.
    """

    epochs: Whole = Field(default=8, description="of masked retraining; 0: no training")
    penalty_epochs: Whole = Field(default=0, description="under the group penalty, before")
    strength: NonNegative = Field(default=1e-3, description="of the group penalty")
    reweights: Count = Field(default=4, description="how often its coefficients are computed")
    epsilon: Positive = Field(default=1e-3, description="keeps coefficients of zeros finite")
    optimizer: str = Field(default="sgd", description="unless the task brings its own")
    lr: Positive = Field(default=0.05, description="highest learning rate")
    momentum: BelowOne = Field(default=0.9, description="of SGD; first beta of AdamW")
    nesterov: bool = Field(default=True, description="form of SGD's momentum")
    weight_decay: NonNegative = Field(default=1e-4, description="not of biases and norms")
    warmup: BelowOne = Field(default=0.05, description="fraction of a phase with rising rate")
    clip_norm: Positive | None = Field(default=5.0, description="of the gradient; null: none")
    distillation: Fraction = Field(default=0.9, description="share of the dense model's outputs")
    temperature: Positive = Field(default=4.0, description="of the distillation")
    label_smoothing: BelowOne = Field(default=0.0, description="share of the uniform target")
    evaluate_every: Count = Field(default=1, description="epochs between evaluations")
    budget_s: Seconds | None = Field(
        default=None, alias="budget", description="time to spend; null: all epochs, repeatable"
    )
    channels_last: bool = Field(default=True, description="faster for convolutions on a CPU")


class ExportSettings(Section):
    """Which machine the exported file is for."""

    target: str = Field(
        default=NATIVE,
        description="native: this machine; x86-64, x86-64-v3, x86-64-v4, aarch64-linux-gnu",
    )

    @field_validator("target")
    @classmethod
    def _is_known(cls, target: str) -> str:
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; known: {', '.join(TARGETS)}")
        return target


class BenchSettings(Section):
    """How the final comparison is timed."""

    threads: Count | None = Field(default=None, description="null: those of the platform")
    budget_s: Seconds = Field(default=5.0, alias="budget", description="time to spend")


class Recipe(Section):
    """Everything a run needs to know. ``task`` and ``platform`` may come from the command line."""

    schema_version: Literal[1] = 1
    task: str | None = Field(
        default=None, description="path/task.py, package.module or builtin:NAME"
    )
    checkpoint: str | None = Field(
        default=None, description="trained weights; null: those of a built-in"
    )
    platform: str | None = Field(default=None, description="name or path of a profile")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    goal: Goal = Goal()
    profile: ProfileSettings = ProfileSettings()
    search: SearchSettings = SearchSettings()
    finetune: FinetuneSection = FinetuneSection()
    export: ExportSettings = ExportSettings()
    bench: BenchSettings = BenchSettings()
    layers: LayerRules = LayerRules()

    def members(self) -> "dict[str, Recipe]":
        """A recipe for each goal of a family, under its name; empty when there is one goal."""
        goals = self.goal.members()
        return {name: self.model_copy(update={"goal": goal}) for name, goal in goals.items()}

    def require(self, key: Literal["task", "platform"]) -> str:
        """Return ``task`` or ``platform``.

        Raises:
            UsageError: neither the recipe nor an option says it.
        """
        value = self.task if key == "task" else self.platform
        if value is None:
            raise UsageError(
                f"no {key} is given",
                hint=f"add --{key} {key.upper()}, or '{key}: …' to the recipe",
            )
        return value


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML with every default spelled out; the same text for the same recipe."""
    document = recipe.model_dump(mode="json", by_alias=True)
    document["layers"] = recipe.layers.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a recipe file."""
    schema = Recipe.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
