"""MobileNetV2 for 224x224 images: depthwise convolutions, which no block can thin out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# expansion, channels, repeats, stride of the first
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class InvertedResidual(nn.Module):
    """Widen by 1x1, depthwise 3x3, narrow by 1x1; the input added when it fits."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [_conv(inputs, wide, 1), nn.ReLU6()] if expansion != 1 else []
        self.branch = nn.Sequential(
            *widen, _conv(wide, wide, 3, stride, groups=wide), nn.ReLU6(), _conv(wide, outputs, 1)
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H / stride, W / stride)."""
        y: Tensor = self.branch(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """The network at width 1.0.

    References:
        Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear
        Bottlenecks", CVPR 2018, table 2.
    """

    def __init__(
        self, classes: int = 1000, stages: Sequence[tuple[int, int, int, int]] = _STAGES
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, 2), nn.ReLU6()]
        inputs = 32
        for expansion, outputs, repeats, stride in stages:
            for index in range(repeats):
                layers.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion))
                inputs = outputs
        layers += [_conv(inputs, 1280, 1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        pooled = torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1)
        logits: Tensor = self.fc(pooled)
        return logits
