"""The built-in tasks: data, splits, and the checkpoints that the package carries."""

import pytest
import torch

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.tasks import (
    builtin_checkpoint,
    checkpoint_metadata,
    load_checkpoint,
    load_task,
    requirement,
)
from pruneaug_cli.tasks.builtin import BUILTIN_TASKS
from pruneaug_cli.tasks.builtin.digits import augment, digits


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def mini():
    return load_task("builtin:digits-mini")


def loaded(task):
    model = task.build_model()
    load_checkpoint(builtin_checkpoint(task), model)
    return model


def test_the_splits_share_no_image_and_leave_none_out():
    splits = [digits(split, 8).pixels.flatten(1) for split in ("train", "validation", "test")]
    assert [len(split) for split in splits] == [1003, 295, 499]
    together = torch.cat(splits)
    assert len(together.unique(dim=0)) == len(together) == 1797


def test_the_splits_have_the_classes_in_equal_parts():
    for split, least in (("train", 97), ("validation", 28), ("test", 49)):
        counts = digits(split, 8).labels.bincount(minlength=10)
        assert least <= counts.min() <= counts.max() <= least + 6


def test_an_epoch_depends_on_its_number_alone(mini):
    first, again, other = (next(iter(mini.train_batches(epoch))) for epoch in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_an_epoch_shows_every_training_image(mini):
    labels = torch.cat([labels for _, labels in mini.train_batches(3)])
    assert torch.equal(labels.bincount(), digits("train", 16).labels.bincount())


def test_augmentation_moves_little_and_stays_in_range():
    pixels = digits("train", 16).pixels[:100]
    moved = augment(pixels, torch.Generator().manual_seed(0))
    assert moved.shape == pixels.shape
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    ink = moved.sum(dim=(1, 2, 3)) / pixels.sum(dim=(1, 2, 3))
    assert 0.6 < ink.min() < ink.max() < 1.4


def test_calibration_gives_256_training_images(mini):
    batches = list(mini.calibration_batches())
    assert [tuple(x.shape) for (x,) in batches] == [(64, 1, 16, 16)] * 4


def test_the_initial_weights_are_always_the_same(mini):
    before = torch.get_rng_state()
    first, second = mini.build_model().state_dict(), mini.build_model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_mini_checkpoint_has_the_recorded_accuracies(mini):
    model, recorded = loaded(mini), checkpoint_metadata(builtin_checkpoint(mini))
    # another order of summation may turn one image
    assert mini.evaluate(model, "cpu") == pytest.approx(
        float(recorded["validation_accuracy"]), abs=1.1 / 295
    )
    assert mini.test(model, "cpu") == pytest.approx(float(recorded["test_accuracy"]), abs=1.1 / 499)


@pytest.mark.parametrize("name", list(BUILTIN_TASKS))
def test_every_builtin_checkpoint_is_good_and_small(name):
    task = load_task(f"builtin:{name}")
    recorded = checkpoint_metadata(builtin_checkpoint(task))
    assert recorded["task"] == task.address
    assert float(recorded["test_accuracy"]) >= 0.985
    assert builtin_checkpoint(task).stat().st_size < 4_000_000
    loaded(task)


def test_the_cnn_checkpoint_recognises_digits():
    task = load_task("builtin:digits-cnn")
    images, labels = next(iter(task.train_batches(0)))
    with torch.inference_mode():
        guess = loaded(task).eval()(images).argmax(dim=1)
    assert (guess == labels).float().mean() > 0.95


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="sklearn")

    monkeypatch.setattr(requirement.importlib, "import_module", missing)
    message = "^the digits task needs the package 'sklearn', which is not installed$"
    with pytest.raises(UnsupportedError, match=message) as caught:
        digits("train", 13)
    assert caught.value.hint == "pip install 'pruneaug[demo]'"
