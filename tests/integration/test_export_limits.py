"""A model with what is too large for the engine still exports, runs, and stays right."""

import numpy as np
import pytest
import torch
from torch import nn

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape, keep_best
from pruneaug_cli.export import export_sparse
from pruneaug_cli.export.border import FUSED_OUTSIDE
from pruneaug_cli.kernels.limits import MOST_PORTS, MOST_WINDOW
from pruneaug_cli.runtime import verify_export

TALL = MOST_WINDOW + 3


class LongStride(nn.Module):
    """The second convolution steps further than the engine does."""

    shape = (2, 4, TALL, 2)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 1)
        self.second = nn.Conv2d(8, 8, 1, stride=(MOST_WINDOW + 1, 1))
        self.third = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(x)).relu())


class ManyOutputs(nn.Module):
    """One part of the graph, with more outputs than a region has."""

    shape = (3, 16)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 8) for _ in range(MOST_PORTS + 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(layer(x) for layer in self.layers)


@pytest.mark.parametrize(
    ("build", "regions", "outside"),
    [
        (LongStride, 2, {"kernel, stride, padding and dilation end at 4096", FUSED_OUTSIDE}),
        (ManyOutputs, 0, {"its part of the graph has more than 64 inputs or outputs"}),
    ],
)
def test_what_is_too_large_stays_outside_and_the_file_is_right(
    build, regions, outside, tmp_path, library
):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, masks = build().eval(), {}
    rng = np.random.default_rng(0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach().flatten(1)
            grid = BlockGrid(MatrixShape(*weight.shape), BlockShape(4, 1))
            masks[name] = BlockMask(grid, keep_best(rng.random(grid.shape), 0.5))
            weight.mul_(torch.from_numpy(masks[name].elements()))
    x = torch.from_numpy(rng.standard_normal(build.shape, np.float32))
    file = export_sparse(
        model, (x,), {}, tmp_path / "model.onnx", masks=masks, layers=list(masks),
        library=library, metadata={},
    )  # fmt: skip
    assert file.regions == regions
    assert {node.reason for node in file.outside} == outside
    with torch.no_grad():
        found = model(x)
    expected = [found] if isinstance(found, torch.Tensor) else list(found)
    verify_export(
        file.path, inputs=[x.numpy()], expected=[tensor.numpy() for tensor in expected],
        library=file.library, threads=1,
    )  # fmt: skip
