"""Outputs of a changed model against those of the dense one."""

import pytest
import torch
from torch import nn

from pruneaug_cli.errors import TaskError
from pruneaug_cli.evaluation import divergence as module
from pruneaug_cli.evaluation.divergence import Divergence


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(16, 3, generator=generator),) for _ in range(2)]


def linear(scale=1.0):
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(scale * torch.tensor([[1.0, 0.0, 0.5], [0.0, -1.0, 0.0]]))
    return model


def test_it_is_the_squared_error_relative_to_how_much_outputs_differ(batches):
    divergence = Divergence(linear(), batches)
    rows = torch.cat([linear()(x).detach() for (x,) in batches])
    assert divergence(linear()) == 0.0
    expected = float((0.25 * rows).square().sum() / (rows - rows.mean(0)).square().sum())
    assert divergence(linear(0.75)) == pytest.approx(expected, rel=1e-5)


def test_any_structure_of_outputs_counts(batches):
    class Several(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            y = self.model(x)
            return {"logits": y, "hidden": (y.unsqueeze(1), None), "index": y.argmax(-1)}

    one, several = Divergence(linear(), batches), Divergence(Several(linear()), batches)
    assert several(Several(linear(0.5))) == pytest.approx(one(linear(0.5)))


def test_large_outputs_are_thinned_out(batches, monkeypatch):
    monkeypatch.setattr(module, "_LARGEST", 16)
    thin = Divergence(linear(), batches)
    assert sum(rows.numel() for rows in thin._dense) == 16
    assert thin(linear()) == 0.0
    assert thin(linear(0.5)) == pytest.approx(0.25, rel=0.2)


def test_batches_of_one_sample_differ_from_each_other(batches):
    rows = torch.cat([x for (x,) in batches])
    single = Divergence(linear(), [(row[None],) for row in rows])
    assert single(linear(0.5)) == pytest.approx(Divergence(linear(), batches)(linear(0.5)))


def test_modes_are_kept_and_nothing_learns(batches):
    model = nn.Sequential(linear(), nn.Dropout(0.5))
    model.train()
    assert Divergence(model, batches)(model) == 0.0
    assert model.training
    assert model[1].training


def test_what_a_model_keeps_from_one_call_to_the_next_can_be_trained_with(batches):
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.scale = linear(), None

        def forward(self, x):
            if self.scale is None:
                self.scale = 2.0 * torch.ones(2)
            return self.model(x) * self.scale

    model = Caching()
    Divergence(model, batches)
    model(batches[0][0]).sum().backward()
    assert model.model.weight.grad is not None


def test_nothing_is_said_where_nothing_can_be(batches):
    assert Divergence(linear(), [])(linear()) is None
    assert Divergence(linear(0.0), batches)(linear()) is None  # outputs never differed
    assert Divergence(linear(), batches)(linear(float("nan"))) is None


def test_a_batch_that_the_model_cannot_run_is_refused():
    with pytest.raises(TaskError, match=r"gave inputs \(4, 5\), which the model cannot run"):
        Divergence(linear(), [(torch.zeros(4, 5),)])
