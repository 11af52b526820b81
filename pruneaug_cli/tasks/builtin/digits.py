"""Handwritten digits: scikit-learn's 1797 images of 8x8 pixels, scaled up.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998 (the test half, 13 writers), as shipped by ``sklearn.datasets``.

The images of every class are dealt in file order, in rounds of 18: ten to training, three to
validation (what the search looks at), five to the test (looked at once, for the report). No random
generator takes part, so the splits are the same in every version of every library: 1003 training,
295 validation and 499 test images.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruneaug_cli.tasks.requirement import require

Split = Literal["train", "validation", "test"]

CLASSES = 10
_ROUND = 18
_TURNS: dict[Split, range] = {
    "train": range(10),
    "validation": range(10, 13),
    "test": range(13, 18),
}
_STRIDE = 7  # coprime with 18: neighbours in the file, often by one writer, go to different splits
# mean and standard deviation of all pixels of the file, 0 white to 1 black
_MEAN, _DEVIATION = 0.3053, 0.3760

_ROTATION_RAD = math.radians(12.0)
_ZOOM = 0.12
_SCORED = 50  # images at a time
_SHIFT = 0.10  # of the width of the image


@dataclass(frozen=True, slots=True)
class Images:
    """Pictures (N, 1, S, S) in [0, 1] and their labels (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@cache
def digits(split: Split, size: int) -> Images:
    """Return one split, scaled bilinearly to ``size`` x ``size``; kept in memory once read.

    Raises:
        UnsupportedError: scikit-learn is not installed.
    """
    datasets = require("sklearn.datasets", extra="demo", purpose="the digits task")
    bunch = datasets.load_digits()
    labels = torch.from_numpy(bunch.target).long()
    pixels = torch.from_numpy(bunch.images).float()[:, None] / 16.0
    chosen = _members(labels, _TURNS[split])
    scaled = F.interpolate(pixels[chosen], (size, size), mode="bilinear", align_corners=False)
    return Images(scaled, labels[chosen])


def standardise(pixels: Tensor) -> Tensor:
    """Shift and scale pixels to mean 0 and deviation 1 over the whole data set."""
    return (pixels - _MEAN) / _DEVIATION


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by up to 12°, zoom by up to 12% and shift by up to 10%, each uniformly, by image.

    Args:
        pixels: (N, 1, S, S) with 0 as background.
        generator: where the randomness comes from.
    """
    angle, zoom, right, down = torch.rand(4, len(pixels), generator=generator) * 2.0 - 1.0
    angle, scale = angle * _ROTATION_RAD, 1.0 + zoom * _ZOOM
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # coordinates run from -1 to 1: a shift by the whole width is 2
    rows = [
        torch.stack([cos, -sin, right * 2.0 * _SHIFT], dim=-1),
        torch.stack([sin, cos, down * 2.0 * _SHIFT], dim=-1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


def batches(images: Images, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield standardised images and labels in order, ``size`` at a time."""
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield standardise(images.pixels[part]), images.labels[part]


def shuffled(images: Images, seed: int) -> Images:
    """Return the images in an order that depends on the seed alone, each augmented anew."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    return Images(augment(images.pixels[order], generator), images.labels[order])


def right_answers(
    model: nn.Module, images: Images, device: torch.device | str
) -> Iterator[tuple[int, int]]:
    """Per batch how many images are classified as labelled, and how many there are.

    In an order that was shuffled once: files are sorted by writer.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    mixed = Images(images.pixels[order], images.labels[order])
    for pixels, labels in batches(mixed, _SCORED):
        guess = model(pixels.to(device)).argmax(dim=1).cpu()
        yield int((guess == labels).sum()), len(labels)


def accuracy(model: nn.Module, images: Images, device: torch.device | str) -> float:
    """Fraction of images whose largest logit is the label's, in [0, 1]."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for pixels, labels in batches(images, 100):
            guess = model(pixels.to(device)).argmax(dim=1).cpu()
            right += int((guess == labels).sum())
    return right / len(images)


def _members(labels: Tensor, turns: range) -> Tensor:
    """Indices, in file order, of the images whose turn within their class falls in ``turns``."""
    turn = torch.empty_like(labels)
    for label in range(CLASSES):
        same = labels == label
        turn[same] = torch.arange(int(same.sum())) * _STRIDE % _ROUND
    return torch.nonzero((turn >= turns.start) & (turn < turns.stop)).flatten()
