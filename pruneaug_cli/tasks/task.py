"""A task: the user's model, data and metric, behind checks at the moment each is needed.

The contract is a set of plain functions (``functions.py`` lists them); this class gives them one
shape. Batches and example inputs may be a tensor, a tuple, a list or a dict (any mapping) by
parameter name. An error that one of them raises becomes a TaskError with its place and cause.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruneaug_cli.errors import MetricError, TaskError
from pruneaug_cli.registry import nearest
from pruneaug_cli.tasks.address import resolve, short_name
from pruneaug_cli.tasks.failure import PASSED_ON, TranslatedBatches, cause, translated
from pruneaug_cli.tasks.functions import TASK_FUNCTIONS
from pruneaug_cli.tasks.source import source_digest

Args = tuple[Any, ...]
Device = torch.device | str

_SCORES = "per batch (sum of scores in [0, 1], number of samples)"


class Task:
    """One task.

    Args:
        address: how the user wrote it; every message begins with it.
        source: the object with the task's functions as attributes.

    Attributes:
        name: for folders.
        source_digest: of the files that the functions are written in, as they were when the task
            was loaded.
    """

    def __init__(self, address: str, source: object) -> None:
        self.address = address
        self.name = short_name(address)
        self.source_digest = source_digest(source)
        self._source = source

    def __repr__(self) -> str:
        return f"Task({self.address!r})"

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger metric is a better one: the task's ``higher_is_better``, or True."""
        value = getattr(self._source, "higher_is_better", True)
        if not isinstance(value, bool):
            raise TaskError(
                f"{self.address}: higher_is_better must be True or False, got {value!r}"
            )
        return value

    def has(self, name: str) -> bool:
        """Whether the task brings the function ``name`` itself."""
        return callable(getattr(self._source, name, None))

    def build_model(self) -> nn.Module:
        """Make the model, with whatever weights the task gives it."""
        model = self._call("build_model")
        if not isinstance(model, nn.Module):
            raise self._bad("build_model", "a torch.nn.Module", model)
        return model

    def example_inputs(self) -> Args | dict[str, Any]:
        """Example inputs: a tuple by position, or a dict by parameter name."""
        found = self._call("example_inputs")
        return dict(found) if isinstance(found, Mapping) else _as_tuple(found)

    @property
    def call_inputs(self) -> tuple[Args, dict[str, Any]]:
        """The example inputs as ``(args, kwargs)`` of ``model(*args, **kwargs)``."""
        found = self.example_inputs()
        return ((), found) if isinstance(found, dict) else (found, {})

    @property
    def batch(self) -> int:
        """Samples in the example inputs: the first size of the first tensor among them, or 1."""
        args, kwargs = self.call_inputs
        tensors = (x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dim())
        return next((tensor.shape[0] for tensor in tensors), 1)

    def evaluate(self, model: nn.Module, device: Device) -> float:
        """The metric the search keeps; leaves the model in evaluation mode."""
        return self._metric("evaluate", model, device)

    def quick_evaluate(self, model: nn.Module, device: Device) -> float:
        """``quick_evaluate`` of the task, or its ``evaluate`` when it has none."""
        return self._metric(
            "quick_evaluate" if self.has("quick_evaluate") else "evaluate", model, device
        )

    def evaluate_batches(self, model: nn.Module, device: Device) -> Iterator[tuple[float, int]]:
        """Per batch the sum of its samples' scores, each in [0, 1], and how many samples it has.

        The mean over all samples is what :meth:`quick_evaluate` returns. Ask
        ``has("evaluate_batches")`` first. Leaves the model in evaluation mode.
        """
        model.eval()
        # around the task's code, not around what asks for it; not inference mode, in which a
        # task that moves or casts the model would leave it weights that cannot be exported
        with torch.no_grad():
            found = self._call("evaluate_batches", model, device)
            batches = self._iterate("evaluate_batches", found)
        while True:
            with torch.no_grad():
                batch = next(batches, None)
            if batch is None:
                return
            yield self._scores(batch)

    def test(self, model: nn.Module, device: Device) -> float:
        """The metric on data that took no part in any decision; leaves the model in eval mode."""
        return self._metric("test", model, device)

    def calibration_batches(self) -> Iterator[Args]:
        """Yield inputs as ``model(*args)`` takes them.

        A tensor is one input. Of a tuple or list, the first n elements are taken, n being the
        number of example inputs; the rest are targets. A dict (or example inputs that are one) is
        put in the order of the parameters of the model's ``forward``, defaults filled in.
        """
        example = self.example_inputs()
        batches = self._iterate("calibration_batches", self._call("calibration_batches"))
        forward = inspect.signature(self.build_model().forward) if _named(example) else None
        for batch in batches:
            if forward is not None:
                yield self._positional(batch, forward)
                continue
            args = _as_tuple(batch)
            if isinstance(batch, Mapping) or len(args) < len(example):
                expected = f"batches of at least {len(example)} inputs, as example_inputs() has"
                raise self._bad("calibration_batches", expected, batch)
            yield args[: len(example)]

    def train_batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of one epoch (from 0), in the form that ``loss`` takes."""
        return self._iterate("train_batches", self._call("train_batches", epoch))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch, a scalar tensor.

        A task without ``loss`` gets the cross-entropy of ``model(x)`` against ``y`` for batches
        ``(x, y)``, and of ``model(x1, x2, …)`` for ``(x1, x2, …, y)``.
        """
        if self.has("loss"):
            loss = self._call("loss", model, batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise self._bad("loss", "a scalar tensor", loss)
            return loss
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise TaskError(
                f"{self.address}: no function loss, and train_batches() yields "
                f"{_describe(batch)}; the default loss takes (inputs, labels)",
                hint=TASK_FUNCTIONS["loss"].example,
            )
        *inputs, target = batch
        try:
            return F.cross_entropy(model(*inputs), target)
        except PASSED_ON:
            raise
        except Exception as error:
            raise TaskError(
                f"{self.address}: the default loss fails on a batch of train_batches(): "
                f"{cause(error)}",
                hint=TASK_FUNCTIONS["loss"].example,
            ) from error

    def layer_globs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of layers to include and to exclude, as globs; without ``layers``: all, none."""
        if not self.has("layers"):
            return ("*",), ()
        found = self._call("layers")
        if not (isinstance(found, tuple | list) and len(found) == 2 and all(map(_globs, found))):
            raise self._bad("layers", "two lists of names (include, exclude)", found)
        include, exclude = cast("Sequence[Sequence[str]]", found)
        return tuple(include), tuple(exclude)

    def optimizer(self, params: Iterable[Any], recipe: Any) -> torch.optim.Optimizer:
        """The task's own optimizer; ask ``has("optimizer")`` first."""
        made = self._call("optimizer", params, recipe)
        if not isinstance(made, torch.optim.Optimizer):
            raise self._bad("optimizer", "a torch.optim.Optimizer", made)
        return made

    def _call(self, name: str, *args: object) -> Any:
        if not self.has(name):
            raise self._missing(name)
        function: Callable[..., Any] = getattr(self._source, name)
        with self._translated(name):
            return function(*args)

    def _translated(self, name: str) -> AbstractContextManager[None]:
        return translated(self.address, name, self._source)

    def _metric(self, name: str, model: nn.Module, device: Device) -> float:
        if not self.has(name):
            raise self._missing(name)
        model.eval()
        found = self._call(name, model, device)
        try:
            metric = float(found)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._bad(name, "a number", found) from error
        if not math.isfinite(metric):
            message = f"{self.address}: {name}() returned {metric}; expected a finite number"
            raise MetricError(message)
        return metric

    def _scores(self, batch: object) -> tuple[float, int]:
        try:
            total, samples = float(batch[0]), int(batch[1])  # type: ignore[index]
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
            raise self._bad("evaluate_batches", _SCORES, batch) from error
        if not (samples >= 1 and -1e-6 * samples <= total <= samples * (1.0 + 1e-6)):
            refusal = TaskError if math.isfinite(total) else MetricError
            raise refusal(
                f"{self.address}: evaluate_batches() gave the sum {total:g} of {samples} scores; "
                f"expected {_SCORES}",
                hint=TASK_FUNCTIONS["evaluate_batches"].example,
            )
        return total, samples

    def _iterate(self, name: str, batches: object) -> Iterator[Any]:
        if not isinstance(batches, Iterable):
            raise self._bad(name, "batches to iterate over", batches)
        with self._translated(name):
            begun = iter(batches)
        return TranslatedBatches(begun, lambda: self._translated(name))

    def _positional(self, batch: object, forward: inspect.Signature) -> Args:
        """Order a batch by name as the parameters of ``forward``."""
        if not isinstance(batch, Mapping):
            raise self._bad("calibration_batches", "dicts, as example_inputs() returns", batch)
        known = {name: value for name, value in batch.items() if name in forward.parameters}
        try:
            bound = forward.bind(**known)
        except TypeError as error:
            raise TaskError(f"{self.address}: calibration_batches(): {error}") from error
        bound.apply_defaults()
        if bound.kwargs.keys() & known.keys():
            names = ", ".join(bound.kwargs.keys() & known.keys())
            raise TaskError(f"{self.address}: inputs by keyword only are not supported: {names}")
        return bound.args

    def _missing(self, name: str) -> TaskError:
        wanted = TASK_FUNCTIONS[name]
        public = [n for n in dir(self._source) if not n.startswith("_") and self.has(n)]
        near = nearest(name, [n for n in public if n not in TASK_FUNCTIONS])
        meant = f" ({near})" if near.startswith("did you mean") else ""
        return TaskError(
            f"{self.address}: no function {name}, which {wanted.purpose}{meant}",
            hint=wanted.example,
        )

    def _bad(self, name: str, expected: str, found: object) -> TaskError:
        return TaskError(
            f"{self.address}: {name}() gave {_describe(found)}; expected {expected}",
            hint=TASK_FUNCTIONS[name].example,
        )


def load_task(address: str) -> Task:
    """Import the task at an address (see ``address.py``); its functions are called when needed.

    Raises:
        TaskError: no such file, module or object, or its import fails.
        UnsupportedError: no built-in task has this name.
    """
    return Task(address, resolve(address))


def _as_tuple(value: Any) -> Args:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _named(value: object) -> bool:
    return isinstance(value, Mapping)


def _globs(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


def _describe(value: object) -> str:
    """What a value is, in few words.

    Example:
        >>> _describe(None), _describe(3), _describe({"x": 1})
        ('None', 'an int', 'a dict of 1')
    """
    if value is None:
        return "None"
    size = f" of {len(value)}" if isinstance(value, tuple | list | Mapping) else ""
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}{size}"
