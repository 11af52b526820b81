"""Stitching: the plan's weights go in, everything comes back bit for bit."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from pruneaug_cli.core import (
    DENSE,
    BlockShape,
    Evaluation,
    LayerChoice,
    LinearGeometry,
    Option,
    Plan,
)
from pruneaug_cli.errors import PlanError, TaskError
from pruneaug_cli.evaluation import (
    BatchNormCorrection,
    StitchedEvaluator,
    build_database,
    collect_evidence,
    price_options,
    reestimate_batch_norm,
    stitch,
)
from pruneaug_cli.layers import PrunableLayer, matrix_arrays

HALF = LayerChoice(BlockShape(4, 1), 0.5)
PLAN = Plan.of({"0": HALF, "5": DENSE})


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=0.3), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 3),
    )  # fmt: skip
    found(torch.randn(16, 2, 4, 4))
    return found.eval()


@pytest.fixture
def batches():
    return [(torch.randn(6, 2, 4, 4) * 2 + 1,) for _ in range(3)]


@pytest.fixture
def database(model, batches, tmp_path):
    names = ["0", "5"]
    evidence = collect_evidence(model, names, batches)
    weights = matrix_arrays(model, names)
    return build_database(weights, evidence, {name: [HALF] for name in names}, tmp_path)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_restored(model, before, pointers):
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [value.data_ptr() for value in model.state_dict().values()] == pointers


def pointers_of(model):
    return [value.data_ptr() for value in model.state_dict().values()]


def test_the_plan_is_in_place_inside_and_gone_outside(model, database, batches):
    before, pointers = snapshot(model), pointers_of(model)
    with stitch(model, database, PLAN, correction=BatchNormCorrection(model, batches)) as stitched:
        assert stitched is model
        expected = torch.from_numpy(database.entry("0", HALF).weight)
        assert torch.equal(model[0].weight.flatten(1), expected)
        assert torch.equal(model[5].weight, before["5.weight"])
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    assert_restored(model, before, pointers)


def test_everything_comes_back_after_an_error(model, database, batches):
    before, pointers = snapshot(model), pointers_of(model)
    with (
        pytest.raises(ZeroDivisionError),
        stitch(model, database, PLAN, correction=BatchNormCorrection(model, batches)),
    ):
        1 / 0  # noqa: B018 (it is there to raise)
    assert_restored(model, before, pointers)


def test_everything_comes_back_when_a_batch_is_bad(model, database):
    before, pointers = snapshot(model), pointers_of(model)
    bad = [(torch.randn(2, 2, 4, 4),), (torch.randn(2, 5, 4, 4),)]
    with pytest.raises(TaskError, match=r"gave inputs \(2, 5, 4, 4\), which the model cannot run"):
        BatchNormCorrection(model, bad)
    assert_restored(model, before, pointers)
    assert model[1].momentum == 0.3
    assert not model[1].training


def test_without_batches_statistics_stay(model, database):
    before = snapshot(model)
    with stitch(model, database, PLAN):
        assert torch.equal(model[1].running_var, before["1.running_var"])


def test_an_option_that_is_missing_leaves_the_model_alone(model, database):
    before, pointers = snapshot(model), pointers_of(model)
    plan = Plan.of({"0": HALF, "5": LayerChoice(BlockShape(2, 2), 0.5)})
    with (
        pytest.raises(PlanError, match=r"layer '5' has no option '2x2 @ 0.5'"),
        stitch(model, database, plan),
    ):
        pass
    assert_restored(model, before, pointers)


def test_statistics_become_the_plain_average_over_the_batches(model, batches):
    reestimate_batch_norm(model, batches, "cpu")
    with torch.no_grad():
        outputs = [model[0](batch[0]) for batch in batches]
    means = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    variances = torch.stack([out.transpose(0, 1).flatten(1).var(1) for out in outputs]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)


def test_statistics_move_as_those_of_the_batches_do(model, batches):
    norm, trained = model[1], snapshot(model)
    correction = BatchNormCorrection(model, batches)
    assert_restored(model, trained, pointers_of(model))
    reestimate_batch_norm(model, batches, "cpu")
    dense_mean, dense_variance = norm.running_mean.clone(), norm.running_var.clone()
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    reestimate_batch_norm(model, batches, "cpu")
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    correction.apply(model)
    scale = (variance + norm.eps) / (dense_variance + norm.eps)
    error = trained["1.running_mean"] - dense_mean
    torch.testing.assert_close(norm.running_mean, mean + scale.sqrt() * error)
    expected = (trained["1.running_var"] + norm.eps) * scale - norm.eps
    torch.testing.assert_close(norm.running_var, expected)


def test_weights_that_have_not_changed_leave_the_statistics(model, batches):
    trained = snapshot(model)
    BatchNormCorrection(model, batches).apply(model)
    assert torch.equal(model[1].running_mean, trained["1.running_mean"])
    torch.testing.assert_close(model[1].running_var, trained["1.running_var"])


@pytest.mark.parametrize("factor", [0.5, 3.0, 1e-6, 0.0])
def test_the_size_of_weights_makes_no_difference_after_batch_norm(model, batches, factor):
    """A channel of next to no weights left says what its mean said, never the batches' error."""
    norm = model[1]
    norm.running_var.mul_(1.5)  # more than the batches': what is left of it stays positive
    norm.running_var.add_(10.0)
    correction = BatchNormCorrection(model, batches)
    with torch.no_grad():
        dense = norm(model[0](batches[0][0]))
        middle = norm(torch.stack([model[0](x).mean((0, 2, 3)) for (x,) in batches]).mean(0)
                      .reshape(1, -1, 1, 1)).expand_as(dense)  # fmt: skip
        model[0].weight.mul_(factor)
        correction.apply(model)
        found = norm(model[0](batches[0][0]))
    expected = dense if factor >= 0.5 else middle
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_a_channel_that_was_constant_gets_the_variance_it_has_now(model, batches):
    with torch.no_grad():
        model[0].weight[0] = 0.0
        model[1].running_var[0] = 0.0
    correction = BatchNormCorrection(model, batches)
    with torch.no_grad():
        model[0].weight[0] = 1.0
    reestimate_batch_norm(model, batches, "cpu")
    expected = model[1].running_var[0].clone()
    correction.apply(model)
    torch.testing.assert_close(model[1].running_var[0], expected)


def test_without_batches_nothing_is_corrected(model):
    trained = snapshot(model)
    correction = BatchNormCorrection(model, [])
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    correction.apply(model)
    assert torch.equal(model[1].running_mean, trained["1.running_mean"])


@pytest.fixture
def narrow():
    """Batch norm over the samples alone; a second model of it has other weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=0.3), nn.Linear(8, 2)).eval()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_of_one_sample_has_no_variance_and_counts_for_nothing(narrow, place):
    batches = [(torch.randn(6, 4),), (torch.randn(3, 4),)]
    with_one = [*batches[:place], (torch.randn(1, 4),), *batches[place:]]
    trained = snapshot(narrow)
    corrections = [BatchNormCorrection(narrow, given) for given in (batches, with_one)]
    found = []
    for correction in corrections:
        narrow.load_state_dict(trained)
        with torch.no_grad():
            narrow[0].weight.mul_(0.5)
        correction.apply(narrow)
        found.append(snapshot(narrow))
    assert not torch.equal(found[0]["1.running_var"], trained["1.running_var"])
    for name in ("1.running_mean", "1.running_var"):
        assert torch.equal(found[0][name], found[1][name])
    assert not any(module._forward_pre_hooks for module in narrow.modules())


def test_batches_that_have_one_value_per_channel_only_are_refused(narrow):
    before, pointers = snapshot(narrow), pointers_of(narrow)
    singles = [(torch.randn(1, 4),) for _ in range(3)]
    message = (
        r"^task\.py: calibration_batches\(\): batch norm '1' has one value per channel in each of "
        r"3 batches; expected two or more$"
    )
    with pytest.raises(TaskError, match=message) as caught:
        BatchNormCorrection(narrow, singles, source="task.py: calibration_batches()")
    assert caught.value.hint == "let calibration_batches() give several samples at a time"
    assert_restored(narrow, before, pointers)


def test_one_sample_is_enough_for_batch_norm_over_positions(model):
    singles = [(torch.randn(1, 2, 4, 4),) for _ in range(2)]
    correction = BatchNormCorrection(model, singles)
    trained = snapshot(model)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    correction.apply(model)
    assert not torch.equal(model[1].running_var, trained["1.running_var"])


def test_batch_norm_that_is_not_run_keeps_its_statistics(narrow):
    """As the second head of a network that has it for training only."""
    narrow.head = nn.BatchNorm1d(8)
    narrow.head.running_mean.fill_(3.0)
    narrow.forward = lambda x: nn.Sequential.forward(narrow[:3], x)
    batches = [(torch.randn(6, 4),)]
    BatchNormCorrection(narrow, batches).apply(narrow)
    assert torch.equal(narrow.head.running_mean, torch.full((8,), 3.0))
    reestimate_batch_norm(narrow, batches, "cpu")
    assert torch.equal(narrow.head.running_mean, torch.full((8,), 3.0))


def test_only_batch_norm_runs_in_training_mode(model, batches):
    seen = []
    model[4].register_forward_hook(lambda module, args, output: seen.append(module.training))
    model.train()
    reestimate_batch_norm(model, batches, "cpu")
    assert seen == [False] * 3
    assert all(module.training for module in model.modules())
    assert model[1].momentum == 0.3


def test_a_model_without_batch_norm_is_not_run(batches):
    def fail(*_):
        raise AssertionError

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    model.register_forward_pre_hook(fail)
    reestimate_batch_norm(model, batches, "cpu")


def test_no_batches_leave_the_statistics(model):
    before = snapshot(model)
    reestimate_batch_norm(model, [], "cpu")
    assert torch.equal(model[1].running_mean, before["1.running_mean"])


def test_the_evaluator_sees_the_stitched_model_and_repeats(model, database, batches):
    def metric(stitched):
        with torch.no_grad():
            return float(stitched(batches[0][0]).sum())

    evaluator = StitchedEvaluator(model, database, evaluate=metric, batches=batches)
    first = evaluator(PLAN)
    assert first == evaluator(PLAN)
    assert first.metric != metric(model)
    assert first.divergence is not None
    assert first.divergence > 0.0
    assert evaluator(Plan.dense(["0", "5"])) == Evaluation(metric(model), divergence=0.0)


def test_kernels_lie_channels_last_while_the_model_runs(model, database, batches):
    orders = []
    wide = torch.channels_last
    model[0].register_forward_hook(
        lambda m, *_: orders.append(m.weight.is_contiguous(memory_format=wide))
    )
    before, pointers = snapshot(model), pointers_of(model)

    def metric(stitched):
        stitched(batches[0][0])
        return 0.5

    assert StitchedEvaluator(model, database, evaluate=metric, batches=batches)(PLAN).metric == 0.5
    # batch norm and divergence, of the dense and of the pruned model, and the metric
    assert orders == [True] * (4 * len(batches) + 1)
    assert_restored(model, before, pointers)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_the_allocator_keeps_what_tensors_free():
    """Page faults of a second and third use of 24 MiB, in a process of its own."""
    script = (
        "import resource, torch\n"
        "from pruneaug_cli.evaluation.memory import keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "def use(): x = torch.ones(3 * 2**20); del x; torch.ones(6 * 2**20)\n"
        "use()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use(); use()\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4000\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own text


def test_options_carry_what_their_layer_costs():
    layers = [
        PrunableLayer("fc", LinearGeometry(8, 8), 2),
        PrunableLayer("out", LinearGeometry(8, 4), 1),
    ]
    price = {DENSE: 3.0, HALF: 1.0}
    found = price_options(
        layers,
        {"fc": [HALF, DENSE]},
        lambda layer, choice: layer.uses * price[choice],
        lambda *_: 0.25,
    )
    assert found == {
        "fc": (Option(DENSE, 6.0, 0.0), Option(HALF, 2.0, 0.25)),
        "out": (Option(DENSE, 3.0, 0.0),),
    }
