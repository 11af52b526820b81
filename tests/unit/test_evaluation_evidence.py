"""Evidence: what the formula says, no trace left in the model, kept in a file by its key."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneaug_cli.errors import RunError, TaskError
from pruneaug_cli.evaluation import (
    EvidenceFile,
    StoredEvidence,
    collect_evidence,
    collect_gradients,
    groups_of_layers,
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


def test_an_expert_that_is_sent_nothing_in_a_batch_is_passed_over(model):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            first = x[:, 0] > 0
            return torch.cat([self.a(x[first]), self.b(x[~first])])

    x = torch.randn(16, 4)
    found = collect_evidence(Experts(), ["a", "b"], [(x,), (x.abs(),)])
    assert found["a"].samples == 16 + (x[:, 0] > 0).sum()
    rows = x[x[:, 0] <= 0]
    np.testing.assert_allclose(found["b"].second_moment, rows.T @ rows / len(rows), rtol=1e-5)


def test_hooks_and_modes_go_after_an_error(model):
    model.train()
    with pytest.raises(TaskError):
        collect_evidence(model, ["0"], [(torch.randn(1, 7, 4, 4),)])
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_no_batches_are_refused(model):
    with pytest.raises(RunError, match="no calibration input reached layer '0'") as refusal:
        collect_evidence(model, ["0"], [])
    assert "calibration_batches" in (refusal.value.hint or "")


@pytest.mark.parametrize(
    ("layer", "shape"), [("0", (4, 9)), ("0", (5, 9)), ("1", (5, 9))], ids=["model", "hook", "on"]
)
def test_a_batch_that_the_model_cannot_run_is_refused(layer, shape):
    narrow = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    message = (
        rf"^calibration_batches\(\) gave inputs \({shape[0]}, 9\), which .* run: RuntimeError: "
    )
    with pytest.raises(TaskError, match=message) as caught:
        collect_evidence(narrow, [layer], [(torch.zeros(shape),)])
    assert "\n" not in str(caught.value)
    assert "inputs like those of example_inputs()" in caught.value.hint
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused(model, batches, value):
    batches[1][0][0, 0, 0, 0] = value
    message = "^the input of layer '0' is not finite for some calibration batch; expected finite"
    with pytest.raises(TaskError, match=message) as caught:
        collect_evidence(model, ["0", "4"], batches)
    assert "calibration_batches()" in caught.value.hint


def test_a_layer_behind_a_bias_that_is_not_finite_is_named(model, batches):
    model[0].bias.data[0] = float("nan")
    with pytest.raises(TaskError, match="the input of layer '4' is not finite"):
        collect_evidence(model, ["0", "4"], batches)


def test_weights_that_are_not_finite_are_refused(model, batches):
    model[4].weight.data[0, 0] = float("nan")
    with pytest.raises(TaskError, match=r"^the weights of layer '4' are not finite") as caught:
        collect_evidence(model, ["0", "4"], batches)
    assert "checkpoint" in caught.value.hint


def test_gradients_that_are_not_finite_are_refused(model, batches):
    def loss(module, batch):
        return module(batch[0]).sum() * float("nan")

    message = r"^the gradient of the loss by layer '0' is not finite for .* train_batches\(0\)"
    with pytest.raises(TaskError, match=message) as caught:
        collect_gradients(model, ["0", "4"], batches, loss)
    assert "loss()" in caught.value.hint


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
    np.testing.assert_allclose(found["0"].weight, expected, rtol=1e-5)
    assert found["4"].weight.shape == (2, 48)
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_without_a_batch_are_refused(model):
    with pytest.raises(RunError, match="no training batch to take gradients from"):
        collect_gradients(model, ["0"], [], lambda module, batch: module(batch).sum())


def test_curvature_is_half_the_mean_over_samples_of_squared_gradients_at_the_outputs(model):
    """One sample at a time, by torch's own gradient at the output, summed over positions."""

    def loss(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1])

    x, y = torch.randn(5, 2, 4, 4), torch.tensor([0, 1, 1, 0, 1])
    found = collect_gradients(model, ["0", "4"], [(x, y)], loss)
    model.eval()
    expected = {"0": torch.zeros(3, 3), "4": torch.zeros(2, 2)}
    for image, label in zip(x.split(1), y.split(1), strict=True):
        hidden = model[0](image)
        hidden.retain_grad()
        logits = model[1:](hidden)
        logits.retain_grad()
        functional.cross_entropy(logits, label).backward()
        rows = {"0": hidden.grad[0].flatten(1).T, "4": logits.grad}
        for name, g in rows.items():
            expected[name] += 0.5 * g.T @ g / len(x)
    for name, curvature in expected.items():
        np.testing.assert_allclose(found[name].curvature, curvature, rtol=1e-4, atol=1e-7)


def test_layers_are_parted_by_the_size_of_their_sums(model):
    wide = nn.Sequential(*[nn.Linear(8, 8) for _ in range(5)], nn.Linear(80, 2))
    names = [str(index) for index in range(6)]
    found = list(groups_of_layers(wide, names, most_bytes=2 * 8 * 8**2))
    assert found == [["0", "1"], ["2", "3"], ["4"], ["5"]]  # the last is too large for any group
    assert list(groups_of_layers(model, [])) == []


def test_evidence_by_groups_is_evidence_at_once(model, batches):
    together = collect_evidence(model, ["0", "4"], batches)
    for name in ("0", "4"):
        alone = collect_evidence(model, [name], batches)
        assert alone[name].digest() == together[name].digest()


def test_sums_of_many_batches_lose_nothing_that_single_precision_holds():
    """64 batches into float64 sums: as exact as one product over all rows."""
    torch.manual_seed(0)
    linear, x = nn.Linear(40, 3), torch.randn(64, 32, 40) + 3.0
    found = collect_evidence(nn.Sequential(linear), ["0"], [(batch,) for batch in x])
    rows = x.reshape(-1, 40).double()
    expected = (rows.T @ rows / len(rows)).numpy()
    assert np.abs(found["0"].second_moment - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.fixture
def stored(tmp_path):
    inputs = EvidenceFile(tmp_path, "a.b/c", "inputs", "key")
    gradients = EvidenceFile(tmp_path, "a.b/c", "gradients", "key")
    inputs.write({"second_moment": np.eye(3, dtype=np.float32), "samples": np.array([4])})
    gradients.write(
        {"gradient": np.ones((5, 3), np.float32), "curvature": np.eye(5, dtype=np.float32)}
    )
    return StoredEvidence(inputs, gradients)


def test_stored_evidence_is_read_when_it_is_asked_for(stored):
    plain = StoredEvidence(stored.inputs).load()
    assert (plain.samples, plain.gradient_second_moment, plain.output_curvature) == (4, None, None)
    np.testing.assert_array_equal(plain.second_moment, np.eye(3))
    full = StoredEvidence(stored.inputs, stored.gradients, scores=True, curvature=True).load()
    assert full.gradient_second_moment.shape == (5, 3)
    assert full.output_curvature.shape == (5, 5)


def test_curvature_does_not_change_what_is_reconstructed(stored):
    curved = StoredEvidence(stored.inputs, stored.gradients, curvature=True).load()
    assert curved.digest() == StoredEvidence(stored.inputs).load().digest()
    assert curved.curvature_digest() is not None


def test_evidence_of_another_key_is_none_of_ours(stored, tmp_path):
    other = EvidenceFile(tmp_path, "a.b/c", "inputs", "other")
    assert stored.inputs.exists()
    assert not other.exists()
    stored.inputs.path.replace(other.path)
    assert not other.exists()
    with pytest.raises(RunError, match="is no evidence of this run"):
        other.read()


def test_damaged_evidence_is_collected_again_and_refused_by_a_reader(stored):
    path = stored.inputs.path
    path.write_bytes(path.read_bytes()[:-5])
    assert not stored.inputs.exists()
    with pytest.raises(RunError, match="damaged evidence file") as refusal:
        stored.load()
    assert "run the same command again" in (refusal.value.hint or "")
