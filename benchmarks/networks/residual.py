"""Residual networks: three for small images, ResNet-50 for large ones."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (but for its stride), and batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class PadShortcut(nn.Module):
    """Option A: every second pixel, and channels of zeros around those there are."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + added, H / 2, W / 2)."""
        before = self.added // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.added - before))


class Residual(nn.Module):
    """ReLU of a branch plus a shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H / stride, W / stride)."""
        return F.relu(self.branch(x) + self.shortcut(x))


def basic_block(inputs: int, width: int, stride: int, *, option_a: bool) -> Residual:
    """Two 3x3 convolutions."""
    branch = nn.Sequential(conv_bn(inputs, width, 3, stride), nn.ReLU(), conv_bn(width, width, 3))
    if stride == 1 and inputs == width:
        return Residual(branch, nn.Identity())
    if option_a:
        return Residual(branch, PadShortcut(width - inputs))
    return Residual(branch, conv_bn(inputs, width, 1, stride))


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1x1, 3x3 with the stride, 1x1 to four times the width."""
    branch = nn.Sequential(
        conv_bn(inputs, width, 1), nn.ReLU(),
        conv_bn(width, width, 3, stride), nn.ReLU(),
        conv_bn(width, 4 * width, 1),
    )  # fmt: skip
    same = stride == 1 and inputs == 4 * width
    return Residual(branch, nn.Identity() if same else conv_bn(inputs, 4 * width, 1, stride))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pooling, a linear layer."""

    def __init__(self, stem: nn.Module, blocks: Sequence[nn.Module], fc: nn.Linear) -> None:
        super().__init__()
        self.stem, self.blocks, self.fc = stem, nn.Sequential(*blocks), fc

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        logits: Tensor = self.fc(
            torch.flatten(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1), 1)
        )
        return logits


def _stages(
    make: Callable[[int, int, int], Residual],
    inputs: int, widths: Sequence[int], depths: Sequence[int], expansion: int = 1,
) -> list[Residual]:  # fmt: skip
    """Blocks of all stages; every stage but the first begins with stride 2."""
    blocks = []
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for index in range(depth):
            blocks.append(make(inputs, width, 2 if stage and not index else 1))
            inputs = width * expansion
    return blocks


def cifar_resnet(depth: int) -> ResNet:
    """ResNet-20, -56, … for 32x32 images.

    References:
        He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
        section 4.2 (shortcut option A).
    """
    each = (depth - 2) // 6

    def make(inputs: int, width: int, stride: int) -> Residual:
        return basic_block(inputs, width, stride, option_a=True)

    stem = nn.Sequential(conv_bn(3, 16, 3), nn.ReLU())
    return ResNet(stem, _stages(make, 16, (16, 32, 64), (each,) * 3), nn.Linear(64, 10))


def resnet18_small(depths: Sequence[int] = (2, 2, 2, 2)) -> ResNet:
    """ResNet-18 for 64x64 images: a 3x3 stem of stride 1 without pooling, 200 classes."""

    def make(inputs: int, width: int, stride: int) -> Residual:
        return basic_block(inputs, width, stride, option_a=False)

    stem = nn.Sequential(conv_bn(3, 64, 3), nn.ReLU())
    blocks = _stages(make, 64, (64, 128, 256, 512), depths)
    return ResNet(stem, blocks, nn.Linear(512, 200))


def resnet50(depths: Sequence[int] = (3, 4, 6, 3)) -> ResNet:
    """ResNet-50 for 224x224 images; the stride of a block is that of its 3x3 convolution."""
    stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    blocks = _stages(bottleneck, 64, (64, 128, 256, 512), depths, expansion=4)
    return ResNet(stem, blocks, nn.Linear(2048, 1000))
