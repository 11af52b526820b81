"""What the regions of a file hold in memory: the packed weights, and buffers for one sample."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import export_sparse
from pruneaug_cli.runtime import RegionMemory, region_memory


class TwoParts(nn.Module):
    """Two regions of one convolution each: Softplus between them has no kernel."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in "ab")
        self.example = torch.zeros(1, 16, size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.softplus(self.first(x)))


def memory_of(folder, library, *, kept: int, size: int = 8) -> RegionMemory:
    torch.manual_seed(0)
    model = TwoParts(size).eval()
    grid = BlockGrid(MatrixShape(16, 144), BlockShape(16, 1))
    mask = BlockMask(grid, np.arange(144)[None, :] < kept)
    for conv in (model.first, model.second):
        with torch.no_grad():
            conv.weight.mul_(torch.from_numpy(mask.elements()).reshape(conv.weight.shape))
    file = export_sparse(
        model, (model.example,), {}, folder / "model.onnx",
        masks={"first": mask, "second": mask}, layers=["first", "second"], library=library,
        metadata={},
    )  # fmt: skip
    assert file.regions == 2
    return region_memory(file.path, library)


def test_memory_grows_with_kept_weights_and_with_the_image(tmp_path, library):
    few = memory_of(tmp_path, library, kept=10)
    many = memory_of(tmp_path, library, kept=90)
    more = (90 - 10) * 16 * 4 * 2  # blocks, floats of each, bytes, regions
    assert more <= many.weights_bytes - few.weights_bytes <= 1.25 * more
    assert many.buffers_bytes == few.buffers_bytes
    large = memory_of(tmp_path, library, kept=10, size=32)
    assert large.buffers_bytes - few.buffers_bytes >= 2 * 16 * 4 * (32 * 32 - 8 * 8)


def test_a_file_that_is_none_of_ours_has_no_regions_to_ask(tmp_path, library):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"model\.onnx: not an ONNX file"):
        region_memory(path, library)
    with pytest.raises(OSError, match=r"none\.so"):
        region_memory(tmp_path / "model.onnx", tmp_path / "none.so")
