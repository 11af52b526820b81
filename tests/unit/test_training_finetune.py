"""Fine-tuning as a whole: a small convolutional network learns the frequency of waves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape, keep_best
from pruneaug_cli.errors import RunError, TaskError
from pruneaug_cli.progress import Step
from pruneaug_cli.training import FinetuneResult, FinetuneSettings, finetune

LAYERS = {"0": "4x1", "4": "2x3", "8": "2x2"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(seed: int = 0) -> nn.Sequential:
    """Convolution, batch norm, dropout, convolution, linear: 8x8 images to 3 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1),
        nn.Conv2d(8, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 3),
    )  # fmt: skip


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of waves; the class is the frequency."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    phase = 6.3 * torch.rand(count, 1, 1, generator=generator)
    rows = torch.arange(8.0).reshape(1, 8, 1) * (0.5 + labels.reshape(-1, 1, 1))
    noise = 0.3 * torch.randn(count, 8, 8, generator=generator)
    return (torch.sin(rows + phase) + noise).unsqueeze(1), labels


def train_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Four batches; the noise on top comes from torch's own generator, as users do it."""
    x, y = waves(96, seed=epoch)
    for part in torch.randperm(96).split(24):
        yield x[part] + 0.01 * torch.randn(24, 1, 8, 8), y[part]


def loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def evaluate(model: nn.Module) -> float:
    assert not model.training
    x, y = waves(60, seed=99)
    return float((model(x).argmax(1) == y).float().mean())


def masks_of(model: nn.Sequential, sparsity: float = 0.5) -> dict[str, BlockMask]:
    """Random masks, so that they differ from those by magnitude."""
    rng = np.random.default_rng(5)
    masks = {}
    for name, block in LAYERS.items():
        rows, cols = model.get_submodule(name).weight.flatten(1).shape
        grid = BlockGrid(MatrixShape(rows, cols), BlockShape.parse(block))
        masks[name] = BlockMask(grid, keep_best(rng.random(grid.shape), sparsity))
    return masks


def tune(
    model: nn.Sequential, masks: dict[str, BlockMask], settings: FinetuneSettings, **options: Any
) -> FinetuneResult:
    options = {"train_batches": train_batches, "loss": loss, "evaluate": evaluate, **options}
    return finetune(model, masks, settings=settings, **options)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def assert_masked(model: nn.Sequential, masks: Any) -> None:
    for name, mask in masks.items():
        matrix = model.get_submodule(name).weight.detach().flatten(1).numpy()
        np.testing.assert_array_equal(matrix[~mask.elements()], 0.0)
        assert np.count_nonzero(matrix[mask.elements()]) == mask.weights


PENALISED = FinetuneSettings(
    penalty_epochs=3, epochs=3, lr=0.05, strength=1e-3, reweights=4, distillation=0.5
)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_removed_weights_are_exactly_zero_and_kept_ones_are_trained(optimizer: str) -> None:
    model = build()
    masks, before = masks_of(model), weights(model)
    settings = FinetuneSettings(epochs=2, optimizer=optimizer, weight_decay=0.1)
    result = tune(model, masks, settings)
    assert_masked(model, masks)
    assert not torch.equal(model[4].weight, before["4.weight"])
    assert {name: m.kept.tolist() for name, m in result.masks.items()} == {
        name: m.kept.tolist() for name, m in masks.items()
    }


def test_training_recovers_what_random_pruning_cost() -> None:
    model = build()
    result = tune(model, masks_of(model), FinetuneSettings(epochs=8, lr=0.1))
    assert result.start_metric is not None
    assert result.best_metric is not None
    assert result.start_metric < 0.5
    assert result.best_metric > 0.8
    assert result.best_metric == evaluate(model.eval())
    assert result.history[-1].loss < result.history[0].loss


def test_a_removed_block_is_not_revived_by_momentum_or_decay() -> None:
    """The optimizer's own buffers stay zero behind removed weights, from the first step on."""
    model = build()
    masks = masks_of(model)
    made: list[torch.optim.SGD] = []

    def make(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1))
        return made[-1]

    tune(model, masks, FinetuneSettings(epochs=2), make_optimizer=make)
    for name, mask in masks.items():
        buffer = made[-1].state[model.get_submodule(name).weight]["momentum_buffer"]
        assert not buffer.flatten(1).numpy()[~mask.elements()].any()
        assert buffer.flatten(1).numpy()[mask.elements()].all()


def test_the_prune_starts_a_fresh_optimizer_and_chooses_masks_anew() -> None:
    model = build()
    masks, made = masks_of(model), []

    def make(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.05, momentum=0.9))
        return made[-1]

    result = tune(model, masks, PENALISED, make_optimizer=make)
    assert len({id(optimizer) for optimizer in made}) >= 2
    steps = [s["momentum_buffer"] for s in made[-1].state.values()]
    assert steps
    assert_masked(model, result.masks)
    for name, mask in masks.items():
        assert result.masks[name].blocks == mask.blocks
        assert result.masks[name].kept.tolist() != mask.kept.tolist()
    assert [r.phase for r in result.history] == ["penalty"] * 3 + ["retraining"] * 3
    assert [r.epoch for r in result.history] == [1, 2, 3, 4, 5, 6]
    assert all(r.penalty > 0 for r in result.history[:3])
    assert all(r.penalty == 0 for r in result.history[3:])


def test_a_strong_penalty_makes_blocks_vanish_before_the_prune() -> None:
    """Compared with the same training without it: the weights that the prune removes are small."""

    def removed_energy(strength: float) -> float:
        model = build()
        start: list[float] = []

        def judge(model: nn.Module) -> float:
            norms = model.get_submodule("4").weight.detach().abs().flatten()
            start.append(float(norms.sort().values[: norms.numel() // 2].sum() / norms.sum()))
            return 0.0

        settings = FinetuneSettings(
            penalty_epochs=6, epochs=0, lr=0.05, strength=strength, evaluate_every=6
        )
        tune(model, masks_of(model), settings, evaluate=judge)
        return start[0]

    assert removed_energy(3e-2) < 0.5 * removed_energy(0.0)


def test_same_settings_same_bits_and_the_callers_generator_is_left_alone() -> None:
    runs = []
    for noise in (1, 2):
        model, teacher = build(), build(1)
        torch.manual_seed(noise)
        expected = torch.random.get_rng_state()
        tune(model, masks_of(model), PENALISED, teacher=teacher)
        assert torch.equal(torch.random.get_rng_state(), expected)
        runs.append(weights(model))
    assert_same(*runs)
    other = build()
    tune(other, masks_of(other), FinetuneSettings(epochs=1, seed=1))
    assert not torch.equal(other[4].weight, runs[0]["4.weight"])


class KilledError(Exception):
    """Stands for a kill signal in the middle of an epoch."""


def killing_batches(stop: int) -> Any:
    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index, batch in enumerate(train_batches(epoch)):
            if (epoch, index) == (stop, 2):
                raise KilledError
            yield batch

    return batches


@pytest.mark.parametrize("stop", range(1, 6), ids=lambda epoch: f"epoch{epoch}")
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    undisturbed = build()
    expected = tune(undisturbed, masks_of(undisturbed), PENALISED, teacher=build(1))
    path = tmp_path / "state.pt"
    first = build()
    with pytest.raises(KilledError):
        tune(first, masks_of(first), PENALISED, teacher=build(1), state_path=path,
             train_batches=killing_batches(stop))  # fmt: skip
    again = build()
    calls: list[int] = []

    def counted(epoch: int) -> Any:
        calls.append(epoch)
        return train_batches(epoch)

    result = tune(again, masks_of(again), PENALISED, teacher=build(1), state_path=path,
                  train_batches=counted)  # fmt: skip
    assert_same(weights(again), weights(undisturbed))
    assert calls == list(range(stop, 6))
    assert result.best_metric == expected.best_metric
    assert [(r.loss, r.penalty, r.metric, r.lr) for r in result.history] == [
        (r.loss, r.penalty, r.metric, r.lr) for r in expected.history
    ]
    for name, mask in expected.masks.items():
        np.testing.assert_array_equal(result.masks[name].kept, mask.kept)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model = build()
    settings = FinetuneSettings(epochs=2)
    first = tune(model, masks_of(model), settings, state_path=path)
    again = build()
    second = tune(again, masks_of(again), settings, state_path=path, train_batches=None)
    assert_same(weights(again), weights(model))
    assert second.history == first.history


@pytest.mark.parametrize("changed", ["settings", "masks", "weights", "teacher"])
def test_a_state_of_another_run_is_refused(tmp_path: Path, changed: str) -> None:
    path = tmp_path / "state.pt"
    model, settings = build(), FinetuneSettings(epochs=1)
    tune(model, masks_of(model), settings, teacher=build(1), state_path=path)
    model = build(7 if changed == "weights" else 0)
    with pytest.raises(RunError, match=r"state\.pt: belongs to a training with other") as refusal:
        tune(
            model,
            masks_of(model, 0.25 if changed == "masks" else 0.5),
            FinetuneSettings(epochs=1, lr=0.5) if changed == "settings" else settings,
            teacher=build(2 if changed == "teacher" else 1),
            state_path=path,
        )
    assert f"delete {path} to train from the start" in str(refusal.value.hint)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model, settings = build(), FinetuneSettings(epochs=1)
    tune(model, masks_of(model), settings, state_path=path)
    data = path.read_bytes()
    for damaged in (b"", b"not a state", data[:100], data[: len(data) // 2], data[:-30]):
        path.write_bytes(damaged)
        model = build()
        with pytest.raises(RunError, match=r"state\.pt: not a readable training state"):
            tune(model, masks_of(model), settings, state_path=path)
    torch.save({"schema_version": 9}, path)
    with pytest.raises(RunError, match=r"schema 9 is not the supported 1"):
        tune(build(), masks_of(model), settings, state_path=path)


def test_the_best_weights_are_returned_not_the_last() -> None:
    """The metric says the second epoch was best: its weights come back."""
    seen: list[dict[str, Tensor]] = []
    metrics = iter([0.1, 0.5, 0.9, 0.3])

    def judge(model: nn.Module) -> float:
        seen.append(weights(model))
        return next(metrics)

    model = build()
    result = tune(model, masks_of(model), FinetuneSettings(epochs=3), evaluate=judge)
    assert (result.start_metric, result.best_metric, result.best_epoch) == (0.1, 0.9, 2)
    assert_same(weights(model), seen[2])


def test_the_start_is_kept_when_training_only_harms() -> None:
    metrics = iter([1.0, 2.0, float("nan")])
    model = build()
    start: list[Any] = []

    def judge(model: nn.Module) -> float:
        start.append(weights(model))
        return next(metrics)

    result = tune(
        model, masks_of(model), FinetuneSettings(epochs=2), evaluate=judge, higher_is_better=False
    )
    assert (result.best_metric, result.best_epoch) == (1.0, 0)
    assert_same(weights(model), start[0])


def test_between_equal_metrics_the_longer_trained_weights_stay() -> None:
    model = build()
    result = tune(model, masks_of(model), FinetuneSettings(epochs=2), evaluate=lambda _: 0.5)
    assert result.best_epoch == 2


def test_without_a_metric_the_last_weights_stay() -> None:
    model = build()
    result = tune(model, masks_of(model), FinetuneSettings(epochs=2), evaluate=None)
    assert (result.start_metric, result.best_metric, result.best_epoch) == (None, None, 2)


def test_no_epochs_prune_and_train_nothing() -> None:
    model = build()
    masks, before = masks_of(model), weights(model)
    result = tune(model, masks, FinetuneSettings(epochs=0))
    assert result.history == ()
    assert_masked(model, masks)
    kept = masks["4"].elements()
    np.testing.assert_array_equal(
        model[4].weight.detach().flatten(1).numpy()[kept], before["4.weight"].flatten(1)[kept]
    )


def test_evaluation_is_as_rare_as_asked_but_never_misses_the_end() -> None:
    model = build()
    result = tune(model, masks_of(model), FinetuneSettings(epochs=5, evaluate_every=2))
    assert [r.metric is not None for r in result.history] == [False, True, False, True, True]


def test_the_learning_rate_comes_down_to_nearly_zero() -> None:
    model = build()
    result = tune(model, masks_of(model), FinetuneSettings(epochs=4, lr=0.1, warmup=0.1))
    rates = [r.lr for r in result.history]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-3


def test_sparsity_reached_is_that_of_the_masks_after_the_prune() -> None:
    model = build()
    masks = masks_of(model)
    result = tune(model, masks, FinetuneSettings(epochs=1))
    removed = sum(m.grid.size - m.blocks for m in masks.values())
    total = sum(m.grid.size for m in masks.values())
    assert result.history[0].sparsity == pytest.approx(removed / total)


def poisoned(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for index, (x, y) in enumerate(train_batches(epoch)):
        yield (x * float("inf") if (epoch, index) == (1, 2) else x), y


@pytest.mark.parametrize("penalty_epochs", [0, 2])
def test_a_loss_that_is_not_finite_stops_with_place_and_cure(penalty_epochs: int) -> None:
    model = build()
    masks, before = masks_of(model), weights(model)
    settings = FinetuneSettings(epochs=2, penalty_epochs=penalty_epochs)
    metrics: list[float] = []

    def judge(model: nn.Module) -> float:
        metrics.append(evaluate(model))
        return metrics[-1]

    with pytest.raises(
        RunError, match=r"training diverged: epoch 2, batch 3: the loss is nan, expected a finite"
    ) as refusal:
        tune(model, masks, settings, train_batches=poisoned, evaluate=judge)
    assert "lower finetune.lr (the rate was " in str(refusal.value.hint)
    assert ("finetune.strength" in str(refusal.value.hint)) == bool(penalty_epochs)
    if penalty_epochs:
        assert_same(weights(model), before)
    else:
        assert_masked(model, masks)
        assert evaluate(model.eval()) == max(metrics)


@pytest.mark.parametrize("known", [True, False], ids=["list", "generator"])
def test_a_task_without_batches_is_refused(known: bool) -> None:
    def nothing(epoch: int) -> Any:
        return [] if known else iter(())

    model = build()
    with pytest.raises(TaskError, match=r"train_batches\(0\) gave no batches"):
        tune(model, masks_of(model), FinetuneSettings(epochs=1), train_batches=nothing)


def test_progress_tells_loss_and_metric_inside_an_epoch() -> None:
    steps: list[Step] = []
    ticks = iter(range(100_000))
    model = build()
    tune(model, masks_of(model), FinetuneSettings(epochs=2), progress=steps.append,
         clock=lambda: float(next(ticks)))  # fmt: skip
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    assert {s.done for s in steps} == set(range(1, 9))
    assert {s.total for s in steps} == {8}
    assert all(s.note.startswith("retraining, loss ") for s in steps)
    assert "metric 0." in steps[0].note


def test_a_budget_stops_early_with_the_schedule_brought_to_its_end() -> None:
    """A clock that only batches move: an epoch takes 4 seconds, 10 are given: 2 epochs fit."""
    now = [0.0]

    def slow(epoch: int) -> Iterator[Any]:
        for batch in train_batches(epoch):
            now[0] += 1.0
            yield batch

    settings = FinetuneSettings(epochs=50, budget_s=12.5, lr=0.1)
    model = build()
    result = tune(model, masks_of(model), settings, train_batches=slow, clock=lambda: now[0])
    assert len(result.history) == 2  # the counting of the batches took 4 seconds too
    assert result.seconds == 12.0
    assert result.history[-1].lr < 0.2 * result.history[0].lr


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_in_its_mode_and_memory_order(training: bool) -> None:
    model = build().train(training)
    tune(model, masks_of(model), FinetuneSettings(epochs=1))
    assert model.training is training
    assert all(p.is_contiguous() for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_channels_last_order_changes_nothing_but_rounding() -> None:
    found = []
    for channels_last in (False, True):
        model = build()
        tune(model, masks_of(model), FinetuneSettings(epochs=1, channels_last=channels_last))
        found.append(model[4].weight.detach())
    # a few steps of at most lr * gradient; each rounds by float32, amplified by batch norm
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def test_a_plan_without_layers_is_plain_training() -> None:
    model = build()
    result = tune(model, {}, PENALISED)
    assert result.masks == {}
    assert result.history[0].penalty == 0.0
