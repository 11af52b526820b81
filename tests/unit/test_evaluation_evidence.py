"""Evidence: what the formula says, no trace left in the model, kept in a file by its key."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneaug_cli.criteria import LayerEvidence
from pruneaug_cli.errors import RunError
from pruneaug_cli.evaluation import (
    collect_evidence,
    collect_gradients,
    stored_evidence,
    with_gradients,
)
from pruneaug_cli.layers import input_columns


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(48, 2)
    )


@pytest.fixture
def batches():
    return [(torch.randn(5, 2, 4, 4),), (torch.randn(3, 2, 4, 4),)]


def test_second_moments_are_means_of_products_of_inputs(model, batches):
    found = collect_evidence(model, ["0", "4"], batches)
    images = torch.cat([batch[0] for batch in batches])
    patches = input_columns(model[0], images).double()
    hidden = functional.relu(model[0](images)).flatten(1).double().detach()
    for name, x in {"0": patches, "4": hidden}.items():
        assert found[name].samples == len(x)
        np.testing.assert_allclose(
            found[name].second_moment, (x.T @ x / len(x)).numpy(), rtol=1e-4, atol=1e-5
        )
        assert found[name].second_moment.dtype == np.float32


def test_no_more_positions_are_taken_than_asked(model, batches):
    found = collect_evidence(model, ["0"], batches, positions=10)
    assert found["0"].samples == 20


def test_sampling_is_repeatable(model, batches):
    first, second = (collect_evidence(model, ["0"], batches, positions=10) for _ in range(2))
    assert first["0"].digest() == second["0"].digest()


def test_the_model_is_left_as_it_was(model, batches):
    model.train()
    model[1].eval()
    collect_evidence(model, ["0"], batches)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_and_modes_go_after_an_error(model):
    model.train()
    with pytest.raises(RuntimeError):
        collect_evidence(model, ["0"], [(torch.randn(1, 7, 4, 4),)])
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_no_batches_are_refused(model):
    with pytest.raises(RunError, match="no calibration input reached layer '0'") as refusal:
        collect_evidence(model, ["0"], [])
    assert "calibration_batches" in (refusal.value.hint or "")


def test_gradients_are_mean_squares_and_leave_no_trace(model, batches):
    def loss(module, batch):
        return module(batch[0]).square().mean()

    model[4].weight.requires_grad_(False)
    found = collect_gradients(model, ["0", "4"], batches, loss)
    assert not model[4].weight.requires_grad
    assert model[0].weight.grad is None
    model.eval()
    squares = []
    for batch in batches:
        (gradient,) = torch.autograd.grad(loss(model, batch), [model[0].weight])
        squares.append(gradient.flatten(1).square())
    expected = torch.stack(squares).mean(0).numpy()
    np.testing.assert_allclose(found["0"], expected, rtol=1e-5)
    assert found["4"].shape == (2, 48)
    evidence = with_gradients(collect_evidence(model, ["0", "4"], batches), found)
    assert evidence["4"].gradient_second_moment is found["4"]


def test_gradients_without_a_batch_are_refused(model):
    with pytest.raises(RunError, match="no training batch to take gradients from"):
        collect_gradients(model, ["0"], [], lambda module, batch: module(batch).sum())


def test_stored_evidence_is_collected_once_per_key(tmp_path):
    evidence = {
        "a.b": LayerEvidence(np.eye(2, dtype=np.float32), 3),
        "c": LayerEvidence(np.eye(3, dtype=np.float32), 4, np.ones((5, 3), np.float32)),
    }
    calls = []

    def collect():
        calls.append(1)
        return evidence

    path = tmp_path / "evidence.safetensors"
    for key in ("one", "one", "two"):
        found = stored_evidence(path, key, collect)
        assert {name: e.digest() for name, e in found.items()} == {
            name: e.digest() for name, e in evidence.items()
        }
    assert len(calls) == 2


def test_a_damaged_evidence_file_is_collected_again(tmp_path):
    path = tmp_path / "evidence.safetensors"
    evidence = {"a": LayerEvidence(np.eye(2, dtype=np.float32), 3)}
    stored_evidence(path, "key", lambda: evidence)
    path.write_bytes(path.read_bytes()[:-5])
    assert stored_evidence(path, "key", lambda: evidence)["a"].samples == 3
