"""Which layers of a model can be pruned, in which geometry they run, and how often.

The model runs once on example inputs, in evaluation mode, with hooks that remove themselves; no
graph is traced, so any Python in ``forward`` is welcome. A layer that cannot be pruned is reported
with the reason; it stays dense.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn

from pruneaug_cli.core import ConvGeometry, Geometry, LinearGeometry
from pruneaug_cli.errors import TaskError
from pruneaug_cli.layers.eligibility import sharing_weights, weighted_modules, why_ineligible
from pruneaug_cli.layers.matrices import MatrixModule, conv_padding
from pruneaug_cli.layers.observe import observe_inputs
from pruneaug_cli.registry import nearest

_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PrunableLayer:
    """A weight matrix that blocks can be removed from.

    Attributes:
        name: the module's name in the model.
        geometry: what decides its cost.
        uses: how often it runs in one run of the model.
    """

    name: str
    geometry: Geometry
    uses: int

    def __post_init__(self) -> None:
        if self.uses < 1:
            raise ValueError(f"{self.name}: a layer is used at least once, got {self.uses}")


@dataclass(frozen=True, slots=True)
class SkippedLayer:
    """A module with weights that stays dense; ``kind`` is its class, ``reason`` says why."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelTrace:
    """The layers of a model: prunable ones in order of execution, others in order of definition."""

    layers: tuple[PrunableLayer, ...]
    skipped: tuple[SkippedLayer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the prunable layers."""
        return tuple(layer.name for layer in self.layers)


def trace_model(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
) -> ModelTrace:
    """Run ``model(*args, **kwargs)`` once and list its layers.

    Args:
        model: left as it was, its training mode included.
        args: example inputs by position.
        kwargs: example inputs by name.
        include: globs; only layers whose name matches one can be pruned.
        exclude: globs; layers whose name matches one stay dense.

    Raises:
        TaskError: the model does not run on the inputs, or a glob matches no layer.
    """
    modules = dict(weighted_modules(model))
    reasons = _reasons(modules, include, exclude)
    candidates = {
        name: cast("MatrixModule", module)
        for name, module in modules.items()
        if name not in reasons
    }
    calls = _input_shapes(model, args, kwargs, candidates)
    layers = []
    for name, shapes in calls.items():
        geometry = _one_geometry(candidates[name], shapes)
        if isinstance(geometry, str):
            reasons[name] = geometry
        else:
            layers.append(PrunableLayer(name, geometry, uses=len(shapes)))
    for name in candidates.keys() - calls.keys():
        reasons[name] = "never called on the example inputs"
    skipped = (
        SkippedLayer(name, type(module).__name__, reasons[name])
        for name, module in modules.items()
        if name in reasons
    )
    return ModelTrace(tuple(layers), tuple(skipped))


def _reasons(
    modules: Mapping[str, nn.Module], include: Sequence[str], exclude: Sequence[str]
) -> dict[str, str]:
    """Why layers stay dense, for those where it shows before the model runs."""
    _require_matches(modules, "included", include)
    _require_matches(modules, "excluded", exclude)
    shared = sharing_weights(modules)
    reasons = {}
    for name, module in modules.items():
        if reason := why_ineligible(module):
            reasons[name] = reason
        elif name in shared:
            reasons[name] = "its weight is shared with another module"
        elif not _matches(name, include) or _matches(name, exclude):
            reasons[name] = "excluded by the task"
    return reasons


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _require_matches(modules: Mapping[str, nn.Module], what: str, globs: Sequence[str]) -> None:
    """Refuse a glob that matches nothing: a misspelt name, not a wish for nothing."""
    for glob in globs:
        if glob != "*" and not any(fnmatchcase(name, glob) for name in modules):
            raise TaskError(
                f"layers(): {glob!r}, to be {what}, matches no layer with weights",
                hint=nearest(glob, list(modules)),
            )


def _input_shapes(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    names: Iterable[str],
) -> dict[str, list[_Shape]]:
    """Run the model once: the input's shape of every call of each layer, in order of execution."""
    shapes: dict[str, list[_Shape]] = {}

    def observe(name: str, x: Tensor) -> None:
        shapes.setdefault(name, []).append(tuple(x.shape))

    with observe_inputs(model, names, observe), _evaluating(model), torch.no_grad():
        try:
            model(*args, **kwargs)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            raise TaskError(
                f"the model does not run on the example inputs: {cause}",
                hint="example_inputs() must return what model(...) takes: a tensor, tuple or dict",
            ) from error
    return shapes


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _one_geometry(module: MatrixModule, shapes: Sequence[_Shape]) -> Geometry | str:
    """The geometry that all calls of a layer have in common, or the reason it has none."""
    if isinstance(module, nn.Conv2d) and any(len(shape) != 4 for shape in shapes):
        return "called without a batch dimension"
    found = {_geometry(module, shape) for shape in shapes}
    if len(found) > 1:
        return f"called with different shapes: {', '.join(sorted(map(str, found)))}"
    return found.pop()


def _geometry(module: MatrixModule, shape: _Shape) -> Geometry:
    if isinstance(module, nn.Linear):
        rows = torch.Size(shape[:-1]).numel()
        return LinearGeometry(module.out_features, module.in_features, rows)
    batch, _, height, width = shape
    return ConvGeometry(
        module.out_channels,
        module.in_channels,
        cast("tuple[int, int]", module.kernel_size),
        (height, width),
        stride=cast("tuple[int, int]", module.stride),
        padding=conv_padding(module),
        dilation=cast("tuple[int, int]", module.dilation),
        batch=batch,
    )
