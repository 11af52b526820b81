"""Pruned networks with random weights and random masks, as ONNX files.

Random masks remove the exact number of blocks, the same everywhere; trained masks are less even.
Weights are normal, scaled by what stays of a row, and batch normalisation gets the statistics of
one batch, so that activations keep their size: no denormal numbers, no overflow, in any depth.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from networks import Network
from torch import nn

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, keep_best
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import export_dense, export_sparse, read_model
from pruneaug_cli.layers import ModelTrace, set_matrix, trace_model

SEED = 0
PEER_OPSET = 13
ELEMENT = BlockShape(1, 1)


@dataclass(frozen=True, slots=True)
class Case:
    """One network under one block and one sparsity; at sparsity 0 it is dense."""

    network: Network
    block: BlockShape
    sparsity: float

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return f"{self.network.name}-{self.block}-{self.sparsity:g}"

    @property
    def unstructured(self) -> "Case":
        """The same sparsity in single weights."""
        return replace(self, block=ELEMENT)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Two files of one model.

    Attributes:
        dense: the pruned network as torch exports it, zeros stored.
        sparse: the same network with our regions; at sparsity 0 its dense layers run in them.
    """

    dense: Path
    sparse: Path


@dataclass(frozen=True, slots=True, eq=False)
class PrunedNetwork:
    """A network with its masks; ``prunable`` are all layers a mask could have."""

    model: nn.Module
    example: torch.Tensor
    prunable: tuple[str, ...]
    masks: Mapping[str, BlockMask]


def trace(network: Network) -> tuple[nn.Module, torch.Tensor, ModelTrace]:
    """Build a network; its example input; its layers in order of execution."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        model = network.build().eval()
        example = torch.randn(network.input_shape)
    return model, example, trace_model(model, (example,), {})


def prune(case: Case) -> PrunedNetwork:
    """Random weights, and masks in all prunable layers but the first ``dense_layers``."""
    model, example, found = trace(case.network)
    random = np.random.default_rng(SEED)
    masks = {}
    for index, layer in enumerate(found.layers):
        shape = (layer.geometry.matrix.rows, layer.geometry.matrix.cols)
        matrix = random.standard_normal(shape, np.float32)
        density = 1.0
        if case.sparsity > 0.0 and index >= case.network.dense_layers:
            grid = BlockGrid(layer.geometry.matrix, case.block)
            mask = BlockMask(grid, keep_best(random.random(grid.shape), case.sparsity))
            matrix, density = mask.apply(matrix), mask.blocks / grid.size
            masks[layer.name] = mask
        set_matrix(model, layer.name, matrix / np.float32(math.sqrt(shape[1] * density)))
    _settle_statistics(model, example)
    return PrunedNetwork(model, example, found.names, masks)


def write_files(case: Case, folder: Path, library: Path) -> ModelFiles:
    """Export the dense and the sparse file, unless both are there and of the present format."""
    files = ModelFiles(folder / f"{case.stem}.dense.onnx", folder / f"{case.stem}.onnx")
    if not (files.dense.is_file() and _is_current(files.sparse)):
        pruned = prune(case)
        export_sparse(
            pruned.model, (pruned.example,), {}, files.sparse, masks=pruned.masks,
            layers=pruned.prunable, library=library, metadata={},
            dense_regions=case.sparsity == 0.0,
        )  # fmt: skip
        export_dense(pruned.model, (pruned.example,), {}, files.dense)
    return files


def _is_current(sparse: Path) -> bool:
    try:
        read_model(sparse)
    except ModelFileError:
        return False
    return True


def write_peer_file(case: Case, folder: Path) -> Path:
    """The pruned network with its zeros stored, fixed batch, opset 13: what old engines read."""
    path = folder / f"{case.stem}.peer.onnx"
    if not path.is_file():
        pruned = prune(case)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter is deprecated, and says so at length
            torch.onnx.export(
                pruned.model, (pruned.example,), str(path), dynamo=False, opset_version=PEER_OPSET
            )
    return path


def _settle_statistics(model: nn.Module, example: torch.Tensor) -> None:
    """Give every batch normalisation the mean and variance of one batch."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(SEED)
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.0)
            norm.bias.normal_(0.0, 0.1)
        model.train()
        model(torch.cat([example, torch.randn_like(example)]))
        model.eval()
