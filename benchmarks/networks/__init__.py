"""The networks of the benchmark: written for it, random weights, and which block suits each.

``NETWORKS`` is the one table of names, inputs and default blocks. The first layer of the
convolutional networks stays dense (few input channels, the fewest weights, by custom the one left
alone); the other networks begin with a layer like all the others, and every layer is pruned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from networks.mobilenet import MobileNetV2
from networks.residual import cifar_resnet, resnet18_small, resnet50
from networks.transformer import Encoder
from networks.vgg import Vgg16
from pruneaug_cli.core import BlockShape


@dataclass(frozen=True, slots=True)
class Network:
    """One network.

    Attributes:
        name: as on the command line; its geometries are in ``shapes/NAME.txt``.
        build: makes the module; weights from torch's generator.
        input_shape: of its only input.
        block: of ``--block``'s default: the fastest of those measured, see docs/benchmarks.md.
        dense_layers: how many of its first layers stay dense.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    block: BlockShape
    dense_layers: int = 1


def mlp() -> nn.Module:
    """Two feed-forward parts of a transformer: 768 → 3072 → 768 → 3072 → 768, ReLU between."""
    widths = (768, 3072, 768, 3072, 768)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


_SHORT, _TALL = BlockShape(8, 1), BlockShape(32, 1)  # strips of a tall block read the same input
_KERNELS = BlockShape(8, 9)  # whole 3 x 3 kernels, whose taps share cache lines

NETWORKS = {
    network.name: network
    for network in (
        Network("resnet20-32", lambda: cifar_resnet(20), (1, 3, 32, 32), _SHORT),
        Network("resnet56-32", lambda: cifar_resnet(56), (1, 3, 32, 32), _TALL),
        Network("resnet18-64", resnet18_small, (1, 3, 64, 64), _KERNELS),
        Network("resnet50-224", resnet50, (1, 3, 224, 224), _TALL),
        Network("vgg16-32", Vgg16, (1, 3, 32, 32), _KERNELS),
        Network("mobilenetv2-224", MobileNetV2, (1, 3, 224, 224), _SHORT),
        Network("mlp-b1", mlp, (1, 768), _TALL, dense_layers=0),
        Network("mlp-b16", mlp, (16, 768), _TALL, dense_layers=0),
        Network("mlp-b64", mlp, (64, 768), _TALL, dense_layers=0),
        Network("bert-base-128", Encoder, (1, 128, 768), _TALL, dense_layers=0),
    )
}

__all__ = ["NETWORKS", "Network", "mlp"]
