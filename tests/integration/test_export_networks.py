"""Whole networks through an exported file: torch, stock ONNX Runtime and our library agree."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape, keep_best
from pruneaug_cli.export import ExportedFile, count_sparsity, export_sparse, read_model
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.runtime import open_session, verify_export


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; where sizes change, a 1x1 convolution or zeros ("option A")."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, option_a: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.zeros = stride, (outputs - inputs) // 2
        self.shortcut = nn.Sequential()
        if stride != 1 and not option_a:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        self.option_a = option_a and stride != 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.option_a:
            sampled = x[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(sampled, (0, 0, 0, 0, self.zeros, self.zeros))
        else:
            shortcut = self.shortcut(x)
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(hidden)) + shortcut)


class ResNet(nn.Module):
    """Odd sizes on purpose: 9x7 images, 10 and 14 channels."""

    def __init__(self, *, option_a: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(10)
        self.blocks = nn.Sequential(
            ResidualBlock(10, 10, 1, option_a=option_a), ResidualBlock(10, 14, 2, option_a=option_a)
        )
        self.fc = nn.Linear(14, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.relu(self.bn(self.stem(x))))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Mlp(nn.Module):
    """Linear layers with a residual, on rows or on sequences of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 18), nn.Linear(18, 18, bias=False)
        self.last = nn.Linear(18, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.first(x))
        return self.last(functional.relu(hidden + self.second(hidden)))


NETWORKS = {
    "resnet-b": (lambda: ResNet(option_a=False), (3, 9, 7)),
    "resnet-a": (lambda: ResNet(option_a=True), (3, 9, 7)),
    "mlp": (Mlp, (12,)),
    "mlp-sequence": (Mlp, (4, 12)),
}


@dataclass(frozen=True)
class Case:
    model: nn.Module
    sample: tuple[int, ...]
    masks: dict[str, BlockMask]
    file: ExportedFile

    def inputs(self, batch: int) -> np.ndarray:
        rng = np.random.default_rng(batch)
        return rng.standard_normal((batch, *self.sample), dtype=np.float32)


def _settle_batch_norm(model: nn.Module) -> None:
    """Statistics and scales as after training: fresh ones would fold to nothing."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight, module.bias):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


def _prune(model: nn.Module, rng: np.random.Generator) -> dict[str, BlockMask]:
    """Every layer but the stem, in blocks that hang over, at 60%."""
    masks = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name != "stem":
            weight = module.weight.detach().flatten(1)
            grid = BlockGrid(MatrixShape(*weight.shape), BlockShape(4, 1))
            masks[name] = BlockMask(grid, keep_best(rng.random(grid.shape), 0.6))
            weight.mul_(torch.from_numpy(masks[name].elements()))
    return masks


@pytest.fixture(scope="module", params=NETWORKS)
def case(
    request: pytest.FixtureRequest, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    make, sample = NETWORKS[request.param]
    model = make().eval()
    _settle_batch_norm(model)
    masks = _prune(model, np.random.default_rng(1))
    layers = ["stem", *masks] if "resnet" in request.param else list(masks)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    file = export_sparse(
        model, (torch.zeros(1, *sample),), {}, path,
        masks=masks, layers=layers, library=library, metadata={},
    )  # fmt: skip
    return Case(model, sample, masks, file)


def test_the_whole_network_is_one_region(case: Case) -> None:
    assert case.file.regions == 1
    assert case.file.outside == ()
    assert len(onnx.load(case.file.path).graph.node) == 1


def test_every_layer_keeps_its_sparsity(case: Case) -> None:
    """Batch normalisation scales rows, so that folding it in leaves zero blocks zero."""
    counted = count_sparsity(case.file.path)
    assert {name: counted[name] for name in case.masks} == {
        name: mask.sparsity for name, mask in case.masks.items()
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_all_runtimes_agree_with_torch(case: Case, batch: int) -> None:
    x = case.inputs(batch)
    with torch.no_grad():
        expected = case.model(torch.from_numpy(x)).numpy()
    verify_export(
        case.file.path, inputs=[x], expected=[expected], library=case.file.library, threads=1
    )


def test_the_numpy_reference_agrees_with_torch(case: Case) -> None:
    x = case.inputs(2)
    with torch.no_grad():
        expected = case.model(torch.from_numpy(x)).numpy()
    program = read_model(case.file.path).regions[0].program
    rows = x.reshape(-1, x.shape[-1]) if x.ndim == 3 else x
    (found,) = BACKENDS.create("reference").run(program, [rows])
    products = [weight.shape.cols for weight in program.weights]
    bound = 2 * sum(products) * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=bound)


def test_repeated_runs_give_the_same_bits(case: Case) -> None:
    """A buffer that one run leaves dirty shows from the second run on."""
    session = open_session(case.file.path, library=case.file.library)
    small, large = case.inputs(1), case.inputs(3)
    first = [session.run([x])[0] for x in (small, large)]
    for _ in range(3):
        again = [session.run([x])[0] for x in (small, large)]
        for got, want in zip(again, first, strict=True):
            np.testing.assert_array_equal(got, want)


def test_stock_onnx_runtime_folds_the_function_to_dense_ops(case: Case, tmp_path: Path) -> None:
    """Nothing of the unpacking is left to do at run time."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(case.file.path), options)
    left = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert left <= _DENSE_OPS


_DENSE_OPS = {
    "Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "Relu", "Slice", "Pad",
    "GlobalAveragePool", "Flatten", "Reshape",
}  # fmt: skip
