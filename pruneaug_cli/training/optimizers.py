"""Optimizers by name, and how parameters are grouped for them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pruneaug_cli.registry import Registry
from pruneaug_cli.training.settings import FinetuneSettings

Groups = list[dict[str, Any]]
BuildOptimizer = Callable[[Groups, FinetuneSettings], Optimizer]


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Two groups: matrices and kernels decay, biases and normalisations do not.

    Parameters that ask for no gradient are left out.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_sgd(groups: Groups, settings: FinetuneSettings) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    momentum = settings.momentum
    nesterov = settings.nesterov and momentum > 0.0
    return torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=nesterov)


def build_adamw(groups: Groups, settings: FinetuneSettings) -> Optimizer:
    """Adam with decoupled weight decay; ``momentum`` is its first beta."""
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))


OPTIMIZERS: Registry[BuildOptimizer] = Registry(
    "optimizer", {"sgd": lambda: build_sgd, "adamw": lambda: build_adamw}
)
