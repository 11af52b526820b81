"""Networks like those of the benchmark, through an exported file: how many regions each becomes,
what stays outside and why, that all runtimes agree with torch, that the file is as small as its
density says. Shorter than there, of the same parts; the full ones are run by benchmarks/models.py.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import NETWORKS, Network
from networks.mobilenet import MobileNetV2
from networks.residual import cifar_resnet, resnet18_small, resnet50
from networks.transformer import Encoder
from networks.vgg import Vgg16
from random_models import Case, PrunedNetwork, prune
from torch import nn
from torch.nn import functional

from pruneaug_cli.core import BlockShape
from pruneaug_cli.export import ExportedFile, export_dense, export_sparse
from pruneaug_cli.runtime import open_session, region_memory, verify_export

CONV, LINEAR = BlockShape(8, 1), BlockShape(16, 1)


class Modern(nn.Module):
    """What the ten networks lack: groups, joins, a normalisation of rows, smooth activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.grouped = nn.Conv2d(32, 96, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(128, 128, 5, padding=2, groups=128)
        self.point = nn.Conv2d(128, 128, 1, bias=False)
        self.first, self.norm = nn.Linear(256, 256), nn.LayerNorm(256)
        self.second, self.last = nn.Linear(256, 256), nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.stem(x))
        x = torch.cat([x, functional.hardswish(self.grouped(x))], dim=1)
        x = functional.leaky_relu(self.depthwise(x), 0.1)
        x = torch.cat([torch.sigmoid(self.point(x)), x], dim=1)
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        x = self.norm(x + functional.gelu(self.first(x), approximate="tanh"))
        x = torch.cat([x, functional.gelu(self.second(x))], dim=-1)
        return torch.tanh(self.last(x))


def _stages_like_mobilenet() -> MobileNetV2:
    return MobileNetV2(stages=((1, 16, 1, 1), (6, 24, 2, 2), (6, 64, 2, 2)))


def _short_vgg() -> Vgg16:
    return Vgg16(widths=((64,), (128,), (128,), (256,), (256, 256)))


LAYERS = 2
EXAMPLES = (
    Network("option-a", lambda: cifar_resnet(14), (1, 3, 32, 32), CONV),
    Network("basic", lambda: resnet18_small((1, 1, 1, 1)), (1, 3, 32, 32), CONV),
    Network("bottleneck", lambda: resnet50((1, 1, 1, 1)), (1, 3, 64, 64), CONV),
    Network("vgg", _short_vgg, (1, 3, 32, 32), CONV),
    Network("mobilenet", _stages_like_mobilenet, (1, 3, 64, 64), CONV),
    Network("modern", Modern, (2, 3, 30, 30), CONV),
    NETWORKS["mlp-b16"],
    Network("encoder", lambda: Encoder(LAYERS, 256, 4), (1, 10, 256), LINEAR, dense_layers=0),
)
ATTENTION = {
    ("Reshape", "it does not flatten planes"): 3,
    ("Reshape", "mixes samples"): 1,
    ("Transpose", "Transpose has no kernel"): 4,
    ("MatMul", "a product of two activations"): 2,
    ("Div", "scales what no layer alone makes: scale a weight of the model instead"): 1,
    ("Softmax", "Softmax has no kernel"): 1,
}
"""What stays outside of each layer of a transformer: its attention."""


@dataclass(frozen=True)
class Exported:
    pruned: PrunedNetwork
    sparse: ExportedFile
    dense: ExportedFile
    x: np.ndarray
    attentions: int


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda network: network.name)
def exported(
    request: pytest.FixtureRequest, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    torch.set_num_threads(1)
    network = request.param
    pruned = prune(Case(network, network.block, 0.9))
    folder = tmp_path_factory.mktemp(network.name)
    sparse = export_sparse(
        pruned.model, (pruned.example,), {}, folder / "model.onnx",
        masks=pruned.masks, layers=pruned.prunable, library=library, metadata={},
    )  # fmt: skip
    dense = export_dense(pruned.model, (pruned.example,), {}, folder / "dense.onnx")
    x = np.random.default_rng(2).standard_normal(network.input_shape, np.float32)
    return Exported(pruned, sparse, dense, x, LAYERS if network.name == "encoder" else 0)


def test_it_becomes_as_few_regions_as_it_can(exported: Exported) -> None:
    times = exported.attentions
    assert exported.sparse.regions == times + 1
    outside = Counter((node.op, node.reason) for node in exported.sparse.outside)
    assert outside == {key: count * times for key, count in ATTENTION.items() if times}


def test_all_runtimes_agree_with_torch(exported: Exported) -> None:
    with torch.no_grad():
        expected = exported.pruned.model(torch.from_numpy(exported.x)).numpy()
    verify_export(
        exported.sparse.path, inputs=[exported.x], expected=[expected],
        library=exported.sparse.library, threads=1,
    )  # fmt: skip


def test_repeated_runs_give_the_same_bits(exported: Exported) -> None:
    session = open_session(exported.sparse.path, library=exported.sparse.library)
    first = session.run([exported.x])[0]
    for _ in range(2):
        np.testing.assert_array_equal(session.run([exported.x])[0], first)


def test_the_file_is_as_small_as_its_density(exported: Exported) -> None:
    parameters = sum(tensor.numel() for tensor in exported.pruned.model.parameters())
    removed = sum(
        int(np.count_nonzero(~mask.elements())) for mask in exported.pruned.masks.values()
    )
    density = 1 - removed / parameters
    size, dense_size = exported.sparse.size_bytes, exported.dense.size_bytes
    assert size <= (1.05 * density + 0.02) * dense_size


def test_its_memory_is_that_of_its_kept_weights(exported: Exported, library: Path) -> None:
    """Packed: weights, an index per column of a strip, what strips are padded to; and buffers."""
    memory = region_memory(exported.sparse.path, library)
    assert 0.8 * exported.sparse.size_bytes < memory.weights_bytes < 2 * exported.sparse.size_bytes
    assert 0 < memory.buffers_bytes < 64e6
