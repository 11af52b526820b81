"""The functions of a digits task, for one image size and one width of network."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from pruneaug_cli.tasks.builtin import digits
from pruneaug_cli.tasks.builtin.resnet import seeded_net

_BATCH = 64
_CALIBRATION_BATCHES = 4
_SEED = 20


class DigitsTask:
    """The task contract on the handwritten digits; accuracies are fractions, higher is better.

    Args:
        size: height and width of the images.
        widths: channels of the residual blocks.
    """

    higher_is_better = True

    def __init__(self, size: int, widths: Sequence[int]) -> None:
        self.size = size
        self.widths = tuple(widths)

    def build_model(self) -> nn.Module:
        """The network with its initial weights, always the same ones."""
        return seeded_net(self.widths, digits.CLASSES, _SEED)

    def example_inputs(self) -> Tensor:
        """The first validation image, (1, 1, size, size)."""
        images, _ = next(digits.batches(digits.digits("validation", self.size), 1))
        return images

    def evaluate(self, model: nn.Module, device: torch.device | str) -> float:
        """Accuracy on the validation images."""
        return digits.accuracy(model, digits.digits("validation", self.size), device)

    def evaluate_batches(
        self, model: nn.Module, device: torch.device | str
    ) -> Iterator[tuple[int, int]]:
        """The same accuracy batch by batch."""
        return digits.right_answers(model, digits.digits("validation", self.size), device)

    def test(self, model: nn.Module, device: torch.device | str) -> float:
        """Accuracy on the test images."""
        return digits.accuracy(model, digits.digits("test", self.size), device)

    def calibration_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The first 256 training images, as they are."""
        train = digits.digits("train", self.size)
        return islice(digits.batches(train, _BATCH), _CALIBRATION_BATCHES)

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All training images, shuffled and augmented by the number of the epoch."""
        train = digits.digits("train", self.size)
        return digits.batches(digits.shuffled(train, seed=epoch), _BATCH)


def digits_cnn() -> DigitsTask:
    """The demo's task: 109 million multiply-accumulates, about 2 ms on one core."""
    return DigitsTask(size=24, widths=(64, 128, 256))


def digits_mini() -> DigitsTask:
    """The same in small, for tests that must be quick: 2 million multiply-accumulates."""
    return DigitsTask(size=16, widths=(16, 32))
