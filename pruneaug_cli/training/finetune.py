"""The way in: fine-tune a model under the masks of a plan."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from pruneaug_cli.core import BlockMask
from pruneaug_cli.progress import Progress, silent
from pruneaug_cli.training.epoch import TrainBatches
from pruneaug_cli.training.memory import channels_last_kernels
from pruneaug_cli.training.objective import Loss, Objective
from pruneaug_cli.training.optimizers import OPTIMIZERS, parameter_groups
from pruneaug_cli.training.result import FinetuneResult
from pruneaug_cli.training.run import Evaluate, MakeOptimizer, Run
from pruneaug_cli.training.settings import FinetuneSettings
from pruneaug_cli.training.state import StateFile, run_key

DEFAULTS = FinetuneSettings()


def finetune(
    model: nn.Module,
    masks: Mapping[str, BlockMask],
    *,
    train_batches: TrainBatches,
    loss: Loss,
    settings: FinetuneSettings = DEFAULTS,
    teacher: nn.Module | None = None,
    evaluate: Evaluate | None = None,
    higher_is_better: bool = True,
    make_optimizer: MakeOptimizer | None = None,
    state_path: Path | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> FinetuneResult:
    """Bring back the accuracy that pruning cost, in place.

    With ``penalty_epochs`` the model holds dense weights at the start: they are trained under the
    reweighted group penalty over the blocks of the plan, then each layer loses as many blocks as
    its mask removes, those of the smallest RMS *now*; the masks given decide only how many.
    Without, the model holds the weights that belong to the masks (those reconstructed by the
    search), and the masks are used as they are. Then follows masked retraining, by a fresh
    optimizer.

    Batch-norm statistics are those of training; whoever wants them re-estimated does it afterwards.
    At the end the model holds the best weights seen since the prune by ``evaluate`` (the start
    included; between equals the later), or the last ones without it. Removed weights are exactly
    zero. Same settings, weights, data and threads: same bits, also when interrupted between
    epochs and run again with the same ``state_path`` (on a CPU, without ``budget_s``).

    Args:
        model: trained in place and moved to ``device``.
        masks: of the planned layers, by name; other layers are trained freely.
        train_batches: batches of epoch 0, 1, …, both phases counted through. Torch's generator is
            seeded before each call; draw from it, or seed your own by the epoch.
        loss: ``loss(model, batch)``, a scalar; the batch's tensors are on ``device``.
        settings: everything else.
        teacher: the dense model, for distillation; copied, not touched.
        evaluate: metric of a model, given in evaluation mode.
        higher_is_better: whether a larger metric is.
        make_optimizer: makes the optimizer of each phase from the parameters to train; ``None``:
            ``settings.optimizer``. Its learning rates are scaled by the schedule.
        state_path: file that is written after every epoch, and gone on from when it exists.
        device: where to compute.
        progress: told several times a second; the note has loss and metric.
        clock: seconds.

    Raises:
        PlanError: a mask does not fit the model.
        RunError: training diverged, or the state file is damaged or of another run.
        TaskError: ``train_batches`` gives nothing.
        UnsupportedError: no such optimizer; distillation of a model without logits.
    """
    key = "" if state_path is None else run_key(settings, masks, model, teacher)
    was_training, target = model.training, torch.device(device)
    model.to(target)
    devices = [target] if target.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        channels_last_kernels(model, enabled=settings.channels_last),
    ):
        run = Run(
            model,
            masks,
            Objective(model, loss, teacher, settings),
            train_batches,
            make_optimizer=make_optimizer or _optimizer_by_name(settings),
            evaluate=evaluate,
            higher_is_better=higher_is_better,
            settings=settings,
            state_file=StateFile(state_path, key),
            progress=progress,
            clock=clock,
        )
        try:
            return run.finish()
        finally:
            model.train(was_training)


def _optimizer_by_name(settings: FinetuneSettings) -> MakeOptimizer:
    build = OPTIMIZERS.create(settings.optimizer)

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        return build(parameter_groups(parameters, settings.weight_decay), settings)

    return make
