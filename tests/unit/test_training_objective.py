"""What a batch is trained for: smoothing and distillation, against PyTorch's own and by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.training.objective import Objective, record_calls
from pruneaug_cli.training.settings import FinetuneSettings

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def objective(model: nn.Module, teacher: nn.Module | None = None, **settings: float) -> Objective:
    return Objective(model, cross_entropy, teacher, FinetuneSettings(**settings))


def test_without_extras_it_is_the_task_loss() -> None:
    model = linear(0)
    assert objective(model)((X, Y)) == cross_entropy(model, (X, Y))


def test_smoothing_is_that_of_cross_entropy() -> None:
    model = linear(0)
    expected = F.cross_entropy(model(X), Y, label_smoothing=0.2)
    torch.testing.assert_close(objective(model, label_smoothing=0.2)((X, Y)), expected)


def test_a_teacher_that_agrees_adds_nothing() -> None:
    model, teacher = linear(0), linear(0)
    found = objective(model, teacher, distillation=0.25)((X, Y))
    torch.testing.assert_close(found, 0.75 * cross_entropy(model, (X, Y)))


def test_distillation_is_the_divergence_of_softened_answers() -> None:
    model, teacher = linear(0), linear(1)
    soft, target = (F.softmax(m(X) / 2.0, dim=-1) for m in (model, teacher))
    divergence = (target * (target.log() - soft.log())).sum(1).mean()
    found = objective(model, teacher, distillation=1.0, temperature=2.0)((X, Y))
    torch.testing.assert_close(found, 4.0 * divergence)


def test_a_share_of_zero_asks_no_teacher() -> None:
    class Untouchable(nn.Module):
        def forward(self, *_: object) -> Tensor:
            raise AssertionError

    model = linear(0)
    objective(model, Untouchable(), distillation=0.0)((X, Y)).backward()


def test_the_teacher_is_not_touched() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    teacher = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective(model, teacher, distillation=0.5)((X, Y)).backward()
    assert teacher.training
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_the_model_is_no_teacher_of_itself() -> None:
    model = linear(0)
    with pytest.raises(ValueError, match="another module"):
        objective(model, model, distillation=0.5)


class Answering(nn.Module):
    """Answers a learnt tensor in some form, whatever it is asked."""

    def __init__(self, shape: tuple[int, ...], form: str) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.arange(float(torch.Size(shape).numel())).reshape(shape))
        self.form = form

    def forward(self, x: Tensor) -> Any:
        forms = {
            "tensor": self.logits,
            "tuple": (self.logits, x),
            "mapping": {"logits": self.logits},
        }
        return forms.get(self.form)


@pytest.mark.parametrize("form", ["tensor", "tuple", "mapping"])
@pytest.mark.parametrize(
    ("shape", "classes"), [((2, 3), -1), ((2, 5, 3), -1), ((2, 3, 4, 5), 1)], ids=str
)
def test_classes_are_found_in_every_form_of_answer(
    form: str, shape: tuple[int, ...], classes: int
) -> None:
    model = Answering(shape, form)
    settings = FinetuneSettings(label_smoothing=0.5)

    def no_loss(model: nn.Module, batch: Any) -> Tensor:
        model(batch)
        return torch.zeros(())

    found = Objective(model, no_loss, None, settings)(X)
    expected = -0.5 * F.log_softmax(model.logits, dim=classes).mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Answering((2, 1), "tensor"), r"logits of two or more classes, got shape \(2, 1\)"),
        (Answering((2, 3), "nothing"), "expected logits from the model, got NoneType"),
    ],
    ids=["one-class", "no-tensor"],
)
def test_answers_without_classes_are_refused(model: nn.Module, message: str) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        model(batch)
        return torch.zeros(())

    with pytest.raises(UnsupportedError, match=message) as refusal:
        Objective(model, loss, None, FinetuneSettings(label_smoothing=0.1))(X)
    assert "finetune.label_smoothing to 0" in str(refusal.value.hint)


def test_a_loss_that_never_calls_the_model_cannot_be_distilled() -> None:
    found = Objective(
        linear(0), lambda *_: torch.zeros(()), linear(1), FinetuneSettings(distillation=0.5)
    )
    with pytest.raises(UnsupportedError, match="never calls the model"):
        found((X, Y))


def test_recording_leaves_no_hook_behind_even_after_an_error() -> None:
    model = linear(0)
    with record_calls(model) as calls:
        model(X)
    assert len(calls) == 1
    with pytest.raises(RuntimeError), record_calls(model):
        model(torch.zeros(1, 99))
    model(X)
    assert len(calls) == 1
    assert not model._forward_hooks
