"""VGG-16 with batch normalisation for 32x32 images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(nn.Module):
    """Thirteen 3x3 convolutions, max pooling after each stage, one linear layer at the end.

    References:
        Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", ICLR 2015, configuration D. The three linear layers there are one here, as
        is usual on small images.
    """

    def __init__(self, classes: int = 10, widths: Sequence[Sequence[int]] = _WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in widths:
            for width in stage:
                layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        logits: Tensor = self.fc(torch.flatten(self.features(x), 1))
        return logits
