"""One pass over the training data."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pruneaug_cli.errors import DivergedError, TaskError
from pruneaug_cli.training.masking import WeightMasks
from pruneaug_cli.training.memory import to_device
from pruneaug_cli.training.objective import Objective
from pruneaug_cli.training.penalty import ReweightedGroupPenalty

TrainBatches = Callable[[int], Iterable[Any]]
REPORT_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class StepRule:
    """What happens around one optimizer step.

    Attributes:
        optimizer: moves the weights.
        masks: hold removed weights at zero; ``None`` before the hard prune.
        penalty: is added to the loss; ``None`` after the hard prune.
        clip_norm: largest norm of the gradient.
        before: called with the progress in [0, 1] of the phase: learning rate, milestones.
    """

    optimizer: Optimizer
    masks: WeightMasks | None
    penalty: ReweightedGroupPenalty | None
    clip_norm: float
    before: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class EpochSums:
    """Means over the batches of an epoch."""

    loss: float
    penalty: float


class EpochRunner:
    """Runs epochs of one model.

    Args:
        model: is trained, in place.
        objective: the loss of a batch.
        train_batches: batches of epoch 0, 1, …
        report: told (batches done, mean loss so far), at most every ``REPORT_EVERY_S`` seconds.
        clock: seconds.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        train_batches: TrainBatches,
        *,
        report: Callable[[int, float], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._objective = objective
        self._train_batches = train_batches
        self._report = report
        self._clock = clock
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = next((p.device for p in self._parameters), torch.device("cpu"))

    def count_batches(self) -> int:
        """Batches of an epoch: by ``len`` where it is known, else by going through the data once.

        Raises:
            TaskError: there are none.
        """
        batches = self._train_batches(0)
        known = getattr(batches, "__len__", None)
        count = int(known()) if known is not None else sum(1 for _ in batches)
        if count == 0:
            raise TaskError("train_batches(0) gave no batches; expected at least one")
        return count

    def run(
        self, epoch: int, rule: StepRule, *, batches: int, start: float, end: float
    ) -> EpochSums:
        """Train for one epoch while the phase's progress goes from ``start`` to ``end``.

        Raises:
            RunError: the loss or its gradient is not finite.
            TaskError: the task gave no batches.
        """
        self._model.train()
        loss_sum = penalty_sum = 0.0
        done, reported_s = 0, self._clock()
        for batch in self._train_batches(epoch):
            rule.before(start + (end - start) * min((done + 0.5) / batches, 1.0))
            loss, penalty = self._step(batch, rule, where=f"epoch {epoch + 1}, batch {done + 1}")
            loss_sum, penalty_sum, done = loss_sum + loss, penalty_sum + penalty, done + 1
            if self._clock() - reported_s >= REPORT_EVERY_S:
                reported_s = self._clock()
                self._report(min(done, batches), loss_sum / done)
        if done == 0:
            raise TaskError(f"train_batches({epoch}) gave no batches; expected about {batches}")
        return EpochSums(loss_sum / done, penalty_sum / done)

    def _step(self, batch: Any, rule: StepRule, *, where: str) -> tuple[float, float]:
        loss = self._objective(to_device(batch, self._device))
        penalty = rule.penalty() if rule.penalty is not None else loss.new_zeros(())
        rule.optimizer.zero_grad(set_to_none=True)
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        if rule.masks is not None:
            rule.masks.apply_to_gradients()
        norm = nn.utils.clip_grad_norm_(self._parameters, rule.clip_norm)
        found = {"loss": loss.item(), "penalty": penalty.item(), "gradient": norm.item()}
        for what, value in found.items():
            if not math.isfinite(value):
                raise _diverged(where, what, value, rule)
        rule.optimizer.step()
        if rule.masks is not None:
            rule.masks.apply()
        return found["loss"], found["penalty"]


def _diverged(where: str, what: str, value: float, rule: StepRule) -> DivergedError:
    cures = [f"lower finetune.lr (the rate was {rule.optimizer.param_groups[0]['lr']:.3g})"]
    if rule.penalty is not None:
        cures.append("lower finetune.strength")
    cures.append("look for bad values in the training data")
    return DivergedError(
        f"training diverged: {where}: the {what} is {value}, expected a finite number",
        hint=" or ".join(cures),
    )
