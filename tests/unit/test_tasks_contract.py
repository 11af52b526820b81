"""The task contract: what each function may return, and what is said when it does not."""

import pickle
from collections import UserDict
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pruneaug_cli.errors import MetricError, TaskError, UnsupportedError
from pruneaug_cli.tasks import Task
from pruneaug_cli.tasks.functions import TASK_FUNCTIONS


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, a, b=None, *, flag=False):
        return self.fc(a if b is None else a + b)


def task_of(**functions):
    return Task("task.py", SimpleNamespace(**functions))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda t: t.build_model(), "build_model"),
        (lambda t: t.example_inputs(), "example_inputs"),
        (lambda t: t.call_inputs, "example_inputs"),
        (lambda t: t.evaluate(nn.Identity(), "cpu"), "evaluate"),
        (lambda t: t.quick_evaluate(nn.Identity(), "cpu"), "evaluate"),
        (lambda t: t.test(nn.Identity(), "cpu"), "test"),
        (lambda t: list(t.train_batches(0)), "train_batches"),
        (lambda t: t.optimizer([], None), "optimizer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_function_is_named_when_it_is_needed(call, name):
    task = task_of()
    with pytest.raises(TaskError) as caught:
        call(task)
    purpose = TASK_FUNCTIONS[name].purpose
    assert str(caught.value) == f"task.py: no function {name}, which {purpose}"
    assert caught.value.hint.startswith(f"def {name}(")


def test_a_misspelt_function_is_found():
    task = task_of(train_batchs=lambda epoch: [])
    message = r"no function train_batches, which .* \(did you mean 'train_batchs'\?\)$"
    with pytest.raises(TaskError, match=message):
        task.train_batches(0)


@pytest.mark.parametrize("name", TASK_FUNCTIONS)
def test_the_example_of_every_function_is_python_in_two_lines(name):
    example = TASK_FUNCTIONS[name].example
    compile(example, name, "exec")
    assert len(example.splitlines()) == 2
    assert example.startswith(f"def {name}(")


@pytest.mark.parametrize(
    ("given", "args", "kwargs"),
    [
        (1, (1,), {}),
        ((1, 2), (1, 2), {}),
        ([1], (1,), {}),
        ({"a": 1}, (), {"a": 1}),
        (UserDict(a=1), (), {"a": 1}),
        (MappingProxyType({"a": 1}), (), {"a": 1}),
    ],
)
def test_example_inputs_become_a_call(given, args, kwargs):
    found = task_of(example_inputs=lambda: given).call_inputs
    assert found == (args, kwargs)
    assert type(found[1]) is dict


def test_calibration_batches_drop_what_the_model_does_not_take():
    batches = [torch.ones(4, 3), (torch.ones(4, 3), torch.zeros(4)), [torch.ones(4, 3)]]
    task = task_of(example_inputs=lambda: torch.ones(1, 3), calibration_batches=lambda: batches)
    assert [[tuple(x.shape) for x in batch] for batch in task.calibration_batches()] == [
        [(4, 3)],
        [(4, 3)],
        [(4, 3)],
    ]


def test_calibration_batches_by_name_follow_the_parameters_of_forward():
    task = task_of(
        build_model=Pair,
        example_inputs=lambda: {"b": 2, "a": 1},
        calibration_batches=lambda: [{"b": 2, "a": 1, "label": 7}, {"a": 3}, UserDict(a=4)],
    )
    assert list(task.calibration_batches()) == [(1, 2), (3, None), (4, None)]


@pytest.mark.parametrize(
    ("example", "batch", "message"),
    [
        ((1, 2), 5, "gave an int; expected batches of at least 2 inputs"),
        (1, {"x": 1}, "gave a dict of 1; expected batches of at least 1 inputs"),
        (1, UserDict(x=1), "gave an? UserDict of 1; expected batches of at least 1 inputs"),
        ({"a": 1}, (1, 2), "gave a tuple of 2; expected dicts, as example_inputs"),
        ({"a": 1}, {"b": 1}, r"calibration_batches\(\): missing a required argument: 'a'"),
        ({"a": 1}, {"a": 1, "flag": 1}, "inputs by keyword only are not supported: flag"),
    ],
)
def test_calibration_batches_that_do_not_fit_are_refused(example, batch, message):
    task = task_of(
        build_model=Pair, example_inputs=lambda: example, calibration_batches=lambda: [batch]
    )
    with pytest.raises(TaskError, match=message):
        list(task.calibration_batches())


def test_scores_come_batch_by_batch_from_a_model_in_evaluation_mode():
    def evaluate_batches(model, device):
        assert not model.training
        model.double()
        yield torch.tensor(3), 4
        assert not torch.is_grad_enabled()
        yield 2.5, torch.tensor(3)

    task = task_of(evaluate_batches=evaluate_batches)
    found = []
    model = Pair().train()
    for batch in task.evaluate_batches(model, "cpu"):
        found.append(batch)
        assert torch.is_grad_enabled()
    assert not any(weight.is_inference() for weight in model.parameters())
    assert found == [(3.0, 4), (2.5, 3)]


def test_scores_that_are_made_at_once_keep_no_graphs():
    kept = []

    def evaluate_batches(model, device):
        kept.append(model(torch.ones(2, 3)))
        return [(1.0, 2)]

    assert list(task_of(evaluate_batches=evaluate_batches).evaluate_batches(Pair(), "cpu"))
    assert not kept[0].requires_grad


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (0.5, r"gave a float; expected per batch \(sum of scores in \[0, 1\], number of samples\)"),
        ((1.0,), "gave a tuple of 1; expected per batch"),
        ((5.0, 4), r"evaluate_batches\(\) gave the sum 5 of 4 scores; expected per batch"),
        ((-1.0, 4), "gave the sum -1 of 4 scores"),
        ((0.0, 0), "gave the sum 0 of 0 scores"),
    ],
)
def test_scores_that_are_none_are_refused(batch, message):
    task = task_of(evaluate_batches=lambda model, device: [batch])
    with pytest.raises(TaskError, match=message):
        list(task.evaluate_batches(Pair(), "cpu"))


def test_scores_that_are_no_numbers_leave_a_plan_without_a_metric():
    task = task_of(evaluate_batches=lambda model, device: [(float("nan"), 4)])
    with pytest.raises(MetricError, match="gave the sum nan of 4 scores"):
        list(task.evaluate_batches(Pair(), "cpu"))


def test_evaluation_sees_the_model_in_evaluation_mode():
    task = task_of(evaluate=lambda model, device: float(model.training))
    assert task.evaluate(Pair().train(), "cpu") == 0.0


def test_quick_evaluate_is_preferred_where_it_exists():
    task = task_of(evaluate=lambda m, d: 1.0, quick_evaluate=lambda m, d: torch.tensor(0.25))
    assert task.quick_evaluate(Pair(), "cpu") == 0.25
    assert task.evaluate(Pair(), "cpu") == 1.0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, r"task\.py: evaluate\(\) gave None; expected a number"),
        (torch.ones(2), r"task\.py: evaluate\(\) gave a Tensor; expected a number"),
        (float("nan"), r"task\.py: evaluate\(\) returned nan; expected a finite number"),
    ],
)
def test_a_metric_is_a_finite_number(found, message):
    error = MetricError if isinstance(found, float) else TaskError
    with pytest.raises(error, match=message):
        task_of(evaluate=lambda model, device: found).evaluate(Pair(), "cpu")


def test_the_default_loss_is_the_cross_entropy():
    model, x, y = Pair(), torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    expected = F.cross_entropy(model(x), y)
    assert torch.equal(task_of().loss(model, (x, y)), expected)
    assert torch.equal(task_of().loss(model, [x, torch.zeros(5, 3), y]), expected)


def test_a_loss_of_the_task_comes_first():
    task = task_of(loss=lambda model, batch: batch.sum())
    assert task.loss(Pair(), torch.ones(3)) == 3.0


@pytest.mark.parametrize(
    ("functions", "use", "message"),
    [
        (
            {"build_model": lambda: 3},
            lambda t: t.build_model(),
            "an int; expected a torch.nn.Module",
        ),
        ({"train_batches": lambda e: None}, lambda t: t.train_batches(0), "None; expected batches"),
        (
            {"loss": lambda m, b: torch.ones(2)},
            lambda t: t.loss(Pair(), 0),
            "a Tensor; expected a scalar",
        ),
        (
            {"optimizer": lambda p, r: 1},
            lambda t: t.optimizer([], 0),
            "an int; expected a torch.optim",
        ),
        ({"layers": lambda: ["fc"]}, lambda t: t.layer_globs(), "a list of 1; expected two lists"),
        (
            {"layers": lambda: ("*", "fc")},
            lambda t: t.layer_globs(),
            "a tuple of 2; expected two lists",
        ),
    ],
    ids=["build_model", "train_batches", "loss", "optimizer", "layers", "layers-of-text"],
)
def test_what_a_function_returns_is_checked(functions, use, message):
    (name,) = functions
    with pytest.raises(TaskError) as caught:
        use(task_of(**functions))
    assert str(caught.value).startswith(f"task.py: {name}() gave {message}")
    assert caught.value.hint == TASK_FUNCTIONS[name].example


def test_the_default_loss_says_what_it_takes():
    message = r"no function loss, and train_batches\(\) yields a Tensor; the default loss takes"
    with pytest.raises(TaskError, match=message):
        task_of().loss(Pair(), torch.ones(3))


def test_the_direction_of_the_metric_is_true_or_false():
    with pytest.raises(TaskError, match="higher_is_better must be True or False, got 1"):
        task_of(higher_is_better=1).higher_is_better  # noqa: B018  # reading it is the test


def test_optional_parts_have_defaults():
    task = task_of()
    assert task.higher_is_better
    assert task.layer_globs() == (("*",), ())
    assert task_of(layers=lambda: (["a*"], ["fc"])).layer_globs() == (("a*",), ("fc",))


@pytest.mark.parametrize(
    ("example", "batch"),
    [
        (torch.zeros(4, 3), 4),
        ((torch.zeros(()), torch.zeros(5, 3)), 5),
        ({"b": torch.zeros(2, 3)}, 2),
        ({"flag": True}, 1),
    ],
)
def test_the_batch_is_that_of_the_first_tensor(example, batch):
    assert task_of(example_inputs=lambda: example).batch == batch


def lost(*_):
    raise ValueError("my data\nare gone")


def lost_later(*_):
    yield (1.0, 2)
    lost()


CALLS = {
    "build_model": lambda t: t.build_model(),
    "example_inputs": lambda t: t.call_inputs,
    "evaluate": lambda t: t.evaluate(Pair(), "cpu"),
    "quick_evaluate": lambda t: t.quick_evaluate(Pair(), "cpu"),
    "evaluate_batches": lambda t: list(t.evaluate_batches(Pair(), "cpu")),
    "calibration_batches": lambda t: list(t.calibration_batches()),
    "train_batches": lambda t: list(t.train_batches(0)),
    "loss": lambda t: t.loss(Pair(), 0),
    "test": lambda t: t.test(Pair(), "cpu"),
    "layers": lambda t: t.layer_globs(),
    "optimizer": lambda t: t.optimizer([], None),
}


def failing(name, function):
    return task_of(**{"example_inputs": lambda: torch.ones(1, 3), name: function})


@pytest.mark.parametrize("name", TASK_FUNCTIONS)
def test_an_error_of_a_function_is_one_line_with_its_place_and_cause(name):
    with pytest.raises(TaskError) as caught:
        CALLS[name](failing(name, lost))
    line = lost.__code__.co_firstlineno + 1
    place = f"test_tasks_contract.py:{line}"
    assert str(caught.value) == f"task.py: {name}() failed at {place}: ValueError: my data"
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("name", ["evaluate_batches", "calibration_batches", "train_batches"])
def test_an_error_between_batches_is_one_of_the_function(name):
    with pytest.raises(
        TaskError, match=rf"^task\.py: {name}\(\) failed at .*: ValueError: my data$"
    ):
        CALLS[name](failing(name, lost_later))


def test_the_place_of_an_error_is_in_the_file_of_the_function():
    task = task_of(build_model=lambda: nn.Linear("3", 2))
    with pytest.raises(TaskError, match=r"failed at test_tasks_contract\.py:\d+: TypeError: "):
        task.build_model()
    with pytest.raises(TaskError, match=r"^task\.py: build_model\(\) failed: TypeError: "):
        task_of(build_model=nn.Linear).build_model()


@pytest.mark.parametrize(
    "error", [UnsupportedError("no"), KeyboardInterrupt(), SystemExit(3), MemoryError()], ids=repr
)
@pytest.mark.parametrize("name", ["evaluate", "train_batches"])
def test_refusals_interrupts_and_exhausted_memory_pass_unchanged(name, error):
    def function(*_):
        raise error

    with pytest.raises(type(error)) as caught:
        CALLS[name](failing(name, function))
    assert caught.value is error


def test_a_function_that_runs_out_of_an_iterator_has_failed():
    task = task_of(evaluate=lambda model, device: next(iter(())))
    with pytest.raises(TaskError, match=r"evaluate\(\) failed at .*: StopIteration$"):
        task.evaluate(Pair(), "cpu")


@pytest.mark.parametrize("name", ["evaluate_batches", "calibration_batches", "train_batches"])
def test_errors_of_who_takes_a_batch_are_not_the_task_s(name):
    batch = (1.0, 2) if name == "evaluate_batches" else torch.ones(4, 3)
    task = failing(name, lambda *_: iter([batch]))
    arguments = {"evaluate_batches": (Pair(), "cpu"), "train_batches": (0,)}.get(name, ())
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  the loop is what is tested
        for _ in getattr(task, name)(*arguments):
            raise ZeroDivisionError


def test_training_batches_that_know_their_number_still_do():
    loader = DataLoader(torch.arange(6), batch_size=4)
    batches = task_of(train_batches=lambda epoch: loader).train_batches(0)
    assert batches.__len__() == 2
    assert [len(batch) for batch in batches] == [4, 2]
    assert not hasattr(task_of(train_batches=lambda epoch: [0]).train_batches(0), "__len__")


def test_an_error_of_a_function_travels_between_processes():
    with pytest.raises(TaskError) as caught:
        failing("evaluate", lost).evaluate(Pair(), "cpu")
    caught.value.add_note("in a worker")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own bytes
    assert type(copy) is TaskError
    assert (str(copy), copy.hint) == (str(caught.value), None)
    assert copy.__notes__ == ["in a worker"]


def test_a_batch_that_the_default_loss_cannot_take_is_refused():
    message = r"the default loss fails on a batch of train_batches\(\): RuntimeError: "
    with pytest.raises(TaskError, match=message):
        task_of().loss(Pair(), (torch.ones(4, 5), torch.zeros(4, dtype=torch.long)))
