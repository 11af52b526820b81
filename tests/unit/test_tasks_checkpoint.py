"""Checkpoints: what is read, what is refused and how it is said, what is written."""

import argparse
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

from pruneaug_cli.errors import CheckpointError, UsageError
from pruneaug_cli.files import digest_file
from pruneaug_cli.tasks import (
    Task,
    builtin_checkpoint,
    checkpoint_metadata,
    load_checkpoint,
    save_checkpoint,
)


class Net(nn.Module):
    def __init__(self, features=64):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(features, 10)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        return Net()


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
        lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
        lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()},
        lambda state: OrderedDict((k, v) for k, v in state.items() if "num_batches" not in k),
    ],
    ids=[
        "plain",
        "state_dict",
        "model_state_dict",
        "DataParallel",
        "compiled",
        "parallel-compiled",
        "compiled-parallel",
        "uncounted",
    ],
)
def test_a_state_dict_is_read_wherever_it_is(tmp_path, net, wrap):
    torch.save(wrap(net.state_dict()), tmp_path / "w.pt")
    model = Net()
    assert load_checkpoint(tmp_path / "w.pt", model) == digest_file(tmp_path / "w.pt")
    assert same(model, net)


def test_a_written_checkpoint_is_read_back(tmp_path, net):
    save_checkpoint(tmp_path / "w.safetensors", net, {"epoch": "3"})
    model = Net()
    load_checkpoint(tmp_path / "w.safetensors", model)
    assert same(model, net)
    assert checkpoint_metadata(tmp_path / "w.safetensors") == {"epoch": "3"}


def test_the_same_weights_give_the_same_bytes(tmp_path, net):
    metadata = {str(index): "é" * index for index in range(12)}
    contents = set()
    for _ in range(6):
        save_checkpoint(tmp_path / "w.safetensors", net, metadata)
        contents.add((tmp_path / "w.safetensors").read_bytes())
    assert len(contents) == 1
    assert checkpoint_metadata(tmp_path / "w.safetensors") == metadata
    # the header is a multiple of eight bytes, so that the tensors are aligned
    assert int.from_bytes(contents.pop()[:8], "little") % 8 == 0


def test_half_precision_weights_are_cast_to_the_model(tmp_path, net):
    save_checkpoint(tmp_path / "w.safetensors", net.half(), {})
    model = Net()
    load_checkpoint(tmp_path / "w.safetensors", model)
    assert model.fc.weight.dtype == torch.float32
    assert torch.equal(model.fc.weight, net.fc.weight.float())


def test_tied_weights_survive(tmp_path):
    tied, other = Tied(), Tied()
    save_checkpoint(tmp_path / "w.safetensors", tied, {})
    load_checkpoint(tmp_path / "w.safetensors", other)
    assert torch.equal(other.b.weight, tied.a.weight)
    safetensors.torch.save_file({"a.weight": torch.ones(3, 3)}, tmp_path / "one.safetensors")
    load_checkpoint(tmp_path / "one.safetensors", other)
    assert torch.equal(other.b.weight, torch.ones(3, 3))


def test_an_empty_file_of_weights_lacks_every_key(tmp_path):
    safetensors.torch.save_file({}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit the model: \d+ keys missing"):
        load_checkpoint(tmp_path / "x.safetensors", Net())


def test_another_architecture_is_refused_and_the_differences_listed(tmp_path, net):
    state = net.state_dict()
    state["fc.weight"] = torch.zeros(10, 256)
    state["head.weight"] = state.pop("conv1.weight")
    del state["conv1.bias"]
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "x.safetensors", model)
    assert str(caught.value) == (
        f"{tmp_path / 'x.safetensors'}: does not fit the model: "
        "2 keys missing (conv1.weight, conv1.bias), 1 unexpected (head.weight), "
        "1 of another shape (fc.weight: (10, 256) in the file, (10, 64) in the model)"
    )
    assert caught.value.hint == "is it the checkpoint of this task's build_model()?"
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_only_the_first_differences_are_listed(tmp_path, net):
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    message = r"8 keys missing \(conv1\.weight, conv1\.bias, bn\.weight, …\), 1 unexpected \(a\)$"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "x.safetensors", net)


def test_quantised_weights_are_refused(tmp_path, net):
    state = net.state_dict() | {"fc.weight": torch.zeros(10, 64, dtype=torch.int8)}
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    message = r"1 of another type \(fc\.weight: torch\.int8 in the file, float in the model\)$"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "x.safetensors", net)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_truncated_file_is_refused(tmp_path, net, name, keep):
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(net.state_dict(), path)
    else:
        save_checkpoint(path, net, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=rf"{name}: truncated or damaged: ") as caught:
        load_checkpoint(path, net)
    assert "\n" not in str(caught.value)


def test_a_pickled_module_is_refused_without_trust(tmp_path, net):
    torch.save(net, tmp_path / "weights.pt")
    message = r"weights\.pt: holds a pickled object \(\S+\.Net\), which can run code when loaded$"
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path / "weights.pt", net)
    assert caught.value.hint == "pass --trust-checkpoint if you trust its origin"


def test_a_pickled_module_is_read_with_trust(tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 2)), tmp_path / "weights.pt")
    model = nn.Sequential(nn.Linear(3, 2))
    load_checkpoint(tmp_path / "weights.pt", model, trust=True)
    torch.save({"state_dict": model.state_dict(), "o": argparse.Namespace()}, tmp_path / "o.pt")
    load_checkpoint(tmp_path / "o.pt", model, trust=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], r"expected a state dict \(names with tensors\), found a list$"),
        ({}, r"found a dict without entries$"),
        ({"epoch": 1, "lr": 0.1}, r"found a dict with epoch, lr$"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path, net, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "w.pt", net)


def test_what_is_no_file_is_refused(tmp_path, net):
    with pytest.raises(CheckpointError, match=r"w\.pt: no such file; expected a checkpoint"):
        load_checkpoint(tmp_path / "w.pt", net)
    with pytest.raises(CheckpointError, match="is a folder; expected a checkpoint"):
        load_checkpoint(tmp_path, net)
    (tmp_path / "x.safetensors").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"x\.safetensors: truncated or damaged"):
        checkpoint_metadata(tmp_path / "x.safetensors")


def test_only_builtin_tasks_bring_a_checkpoint():
    with pytest.raises(UsageError, match=r"^task\.py: only built-in tasks bring a checkpoint$"):
        builtin_checkpoint(Task("task.py", object()))
