"""One run of fine-tuning as a sequence of epochs, its position kept in a state."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from pruneaug_cli.core import BlockMask
from pruneaug_cli.errors import RunError
from pruneaug_cli.progress import Progress, Step
from pruneaug_cli.training.epoch import EpochRunner, EpochSums, StepRule, TrainBatches
from pruneaug_cli.training.masking import WeightMasks, masks_by_magnitude, planned_weights
from pruneaug_cli.training.objective import Objective
from pruneaug_cli.training.penalty import ReweightedGroupPenalty, vanished_share
from pruneaug_cli.training.result import EpochRecord, FinetuneResult
from pruneaug_cli.training.schedule import Timetable, lr_factor, milestone
from pruneaug_cli.training.settings import FinetuneSettings
from pruneaug_cli.training.state import StateFile, TrainingState, snapshot

Evaluate = Callable[[nn.Module], float]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class Run:
    """Moves one model through the phases.

    Everything that an epoch depends on is in the state, in the arguments, or seeded by (seed,
    epoch); so a run that goes on from a file computes what an undisturbed one does.

    Args:
        model: is trained, in place; on its device.
        masks: where the retraining starts; a penalty phase keeps their number of blocks only.
        objective: the loss.
        train_batches: batches of epoch 0, 1, …
        make_optimizer: called at the start of each phase: no momentum survives the prune.
        evaluate: the metric of the model; ``None``: the last weights are the best.
        higher_is_better: whether a larger metric is.
        settings: numbers.
        state_file: where the position is kept.
        progress: told about batches.
        clock: seconds.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Mapping[str, BlockMask],
        objective: Objective,
        train_batches: TrainBatches,
        *,
        make_optimizer: MakeOptimizer,
        evaluate: Evaluate | None,
        higher_is_better: bool,
        settings: FinetuneSettings,
        state_file: StateFile,
        progress: Progress,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._masks = dict(masks)
        self._settings = settings
        self._make_optimizer = make_optimizer
        self._evaluate = evaluate
        self._sign = 1.0 if higher_is_better else -1.0
        self._file = state_file
        self._progress = progress
        self._clock = clock
        self._planned = planned_weights(model, {name: m.grid for name, m in masks.items()})
        self._table = Timetable(settings.penalty_epochs, settings.epochs, settings.budget_s)
        self._runner = EpochRunner(
            model, objective, train_batches, report=self._report, clock=clock
        )
        self._penalty: ReweightedGroupPenalty | None = None
        self._optimizer = self._new_optimizer()
        self._state = TrainingState("retraining")
        self._expected_epochs = 0
        self._resumed_s = clock()

    def finish(self) -> FinetuneResult:
        """Train to the end and leave the best weights in the model.

        Raises:
            RunError: training diverged (the model then holds the best weights so far, or the first
                ones before the prune), or the state file is not of this run.
        """
        self._start_or_go_on()
        try:
            if self._state.phase == "penalty":
                self._train_phase()
                self._prune(masks_by_magnitude(self._model, self._masks))
            self._train_phase()
        except RunError:
            self._model.load_state_dict(self._state.best)
            raise
        state = self._state
        self._model.load_state_dict(state.best)
        return FinetuneResult(
            masks=self._masks,
            history=tuple(state.history),
            start_metric=state.start_metric,
            best_metric=state.best_metric,
            best_epoch=state.best_epoch,
            seconds=state.seconds,
        )

    def _start_or_go_on(self) -> None:
        state = self._file.read()
        self._resumed_s = self._clock()
        if state is not None:
            self._go_on(state)
        elif self._settings.penalty_epochs:
            self._state = TrainingState("penalty", best=snapshot(self._model))
            self._penalty = self._new_penalty()
        else:
            self._prune(self._masks)

    def _go_on(self, state: TrainingState) -> None:
        self._state = state
        self._model.load_state_dict(state.weights)
        self._masks = {
            name: BlockMask.unpack_bits(mask.grid, state.masks[name].numpy())
            for name, mask in self._masks.items()
        }
        self._optimizer.load_state_dict(state.optimizer)
        if state.phase == "penalty":
            self._penalty = self._new_penalty()
            self._penalty.coefficients = state.coefficients

    def _prune(self, masks: Mapping[str, BlockMask]) -> None:
        """Remove blocks for good, and start the retraining with a fresh optimizer."""
        state = self._state
        self._masks, self._penalty = dict(masks), None
        WeightMasks(self._model, masks).apply()
        self._optimizer = self._new_optimizer()
        state.phase, state.phase_epochs, state.progress = "retraining", 0, 0.0
        state.start_metric = state.best_metric = self._metric()
        state.best_epoch, state.best = state.epoch, snapshot(self._model)
        self._save()

    def _train_phase(self) -> None:
        state, rule = self._state, self._step_rule()
        while left := self._epochs_left():
            later = self._settings.epochs if state.phase == "penalty" else 0
            self._expected_epochs = state.epoch + left + later
            if state.batches is None:
                self._seed(0)
                state.batches = self._runner.count_batches()
            started_s = self._clock()
            end = state.progress + (1.0 - state.progress) / left
            self._seed(state.epoch)
            sums = self._runner.run(
                state.epoch, rule, batches=state.batches, start=state.progress, end=end
            )
            state.epoch, state.phase_epochs = state.epoch + 1, state.phase_epochs + 1
            state.progress = end
            self._close_epoch(sums, started_s, last=left == 1)
            self._save()

    def _close_epoch(self, sums: EpochSums, started_s: float, *, last: bool) -> None:
        """Evaluate, keep the best, write the record."""
        state = self._state
        due = last or state.phase_epochs % self._settings.evaluate_every == 0
        metric = self._metric() if due else None
        if state.phase == "retraining" and self._is_best(metric):
            state.best_metric, state.best_epoch = metric, state.epoch
            state.best = snapshot(self._model)
        record = EpochRecord(
            epoch=state.epoch,
            phase=state.phase,
            loss=sums.loss,
            penalty=sums.penalty,
            metric=metric,
            lr=self._optimizer.param_groups[0]["lr"],
            sparsity=vanished_share(self._planned),
            seconds=self._clock() - started_s,
        )
        state.history.append(record)
        self._report(0, sums.loss)

    def _is_best(self, metric: float | None) -> bool:
        """Whether these weights replace the best; between equals, those trained longer."""
        if self._evaluate is None:
            return True
        best = self._state.best_metric
        if metric is None or math.isnan(metric):
            return False
        return best is None or math.isnan(best) or self._sign * metric >= self._sign * best

    def _metric(self) -> float | None:
        if self._evaluate is None:
            return None
        self._model.eval()
        with torch.no_grad():
            return float(self._evaluate(self._model))

    def _step_rule(self) -> StepRule:
        clip_norm = self._settings.clip_norm
        return StepRule(
            optimizer=self._optimizer,
            masks=WeightMasks(self._model, self._masks) if self._penalty is None else None,
            penalty=self._penalty,
            clip_norm=math.inf if clip_norm is None else clip_norm,
            before=self._before_step,
        )

    def _before_step(self, progress: float) -> None:
        factor = lr_factor(progress, self._settings.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        if self._penalty is not None:
            reached = milestone(progress, self._settings.reweights)
            if reached > self._state.milestones:
                self._penalty.reweight()
                self._state.milestones = reached

    def _epochs_left(self) -> int:
        state = self._state
        history = state.history
        return self._table.epochs_left(
            state.phase,
            state.phase_epochs,
            spent_s=self._spent_s(),
            epoch_s=history[-1].seconds if history else None,
        )

    def _spent_s(self) -> float:
        return self._state.seconds + self._clock() - self._resumed_s

    def _save(self) -> None:
        state, now_s = self._state, self._clock()
        state.seconds, self._resumed_s = state.seconds + now_s - self._resumed_s, now_s
        state.masks = {n: torch.from_numpy(m.pack_bits()) for n, m in self._masks.items()}
        state.coefficients = {} if self._penalty is None else self._penalty.coefficients
        state.weights = self._model.state_dict()
        state.optimizer = self._optimizer.state_dict()
        self._file.write(state)

    def _new_penalty(self) -> ReweightedGroupPenalty:
        settings = self._settings
        return ReweightedGroupPenalty(
            self._planned, strength=settings.strength, epsilon=settings.epsilon
        )

    def _new_optimizer(self) -> Optimizer:
        optimizer = self._make_optimizer(p for p in self._model.parameters() if p.requires_grad)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer

    def _seed(self, epoch: int) -> None:
        mixed: Any = np.random.SeedSequence((self._settings.seed, epoch)).generate_state(1)
        torch.manual_seed(int(mixed[0]))

    def _report(self, batches: int, loss: float) -> None:
        state = self._state
        per_epoch = state.batches or 0
        metrics = [r.metric for r in state.history if r.metric is not None]
        metric = metrics[-1] if metrics else state.start_metric
        news = f"{state.phase}, loss {loss:.4f}"
        note = news if metric is None else f"{news}, metric {metric:.4f}"
        done, total = state.epoch * per_epoch + batches, self._expected_epochs * per_epoch
        self._progress(Step("fine-tuning", done, total, note))
