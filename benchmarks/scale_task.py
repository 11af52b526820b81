"""The task of ``scale.py``: ResNet-50's geometry, random weights, the metric its output's error.

``scale_task.py:layers_N`` lets N of the 54 layers be pruned, spread evenly from the first to the
last. Images are random, 224 x 224.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from networks import NETWORKS
from torch import Tensor, nn

from pruneaug_cli.layers import trace_model

NETWORK = NETWORKS["resnet50-224"]
CALIBRATION, BATCH, IMAGES = 8, 4, 4


class ScaleTask:
    """Functions of a task in which ``count`` layers can be pruned."""

    higher_is_better = False

    def __init__(self, count: int) -> None:
        self._count = count

    def build_model(self) -> nn.Module:
        """The network, batch normalisation with the statistics of one batch."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = NETWORK.build()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            model.train()(_images(1, BATCH))
        return model.eval()

    def example_inputs(self) -> Tensor:
        """One image."""
        return _images(0, 1)

    def layers(self) -> tuple[list[str], list[str]]:
        """Names of the layers that can be pruned; and none to leave out."""
        names = _names()
        last = len(names) - 1
        chosen = {round(index * last / (self._count - 1)) for index in range(self._count)}
        return [names[index] for index in sorted(chosen)], []

    def calibration_batches(self) -> Iterator[tuple[Tensor]]:
        """Random images."""
        for seed in range(CALIBRATION // BATCH):
            yield (_images(10 + seed, BATCH),)

    def evaluate(self, model: nn.Module, device: object) -> float:
        """Mean squared error of the logits, over their mean square in the dense model."""
        del device
        with torch.inference_mode():
            error = model(_images(2, IMAGES)) - _dense_logits()
        return float(error.square().mean() / _dense_logits().square().mean())


def __getattr__(name: str) -> ScaleTask:
    """``layers_N`` is the task of N layers."""
    prefix, _, count = name.partition("_")
    if prefix != "layers" or not count.isdecimal():
        raise AttributeError(name)
    return ScaleTask(int(count))


def _images(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, *NETWORK.input_shape[1:]), generator=generator)


@cache
def _names() -> tuple[str, ...]:
    model = ScaleTask(2).build_model()
    return trace_model(model, (_images(0, 1),), {}).names


@cache
def _dense_logits() -> Tensor:
    with torch.inference_mode():
        logits: Any = ScaleTask(2).build_model()(_images(2, IMAGES))
    return logits
