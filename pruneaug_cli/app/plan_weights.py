"""The masks of a plan, carried inside the checkpoint's own metadata.

A safetensors file may carry texts beside its tensors. The masks go there, so weights and masks
are one file, replaced at once, and any loader of state_dicts can still read it.

Format of the entry ``pruneaug.masks``: a JSON object ``{layer: {"block": "8x1", "bits": base64}}``
(``BlockMask.pack_bits``); dense layers are absent.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from torch import nn

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape
from pruneaug_cli.errors import CheckpointError
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.tasks import load_checkpoint, save_checkpoint

_KEY = "pruneaug.masks"


def save_pruned(path: Path, model: nn.Module, masks: Mapping[str, BlockMask]) -> None:
    """Write the weights of ``model`` with the masks they were pruned by."""
    entries = {
        name: {
            "block": str(mask.grid.block),
            "bits": base64.b64encode(mask.pack_bits().tobytes()).decode("ascii"),
        }
        for name, mask in masks.items()
    }
    save_checkpoint(path, model, {_KEY: json.dumps(entries, sort_keys=True)})


def load_pruned(
    path: Path, model: nn.Module, layers: tuple[PrunableLayer, ...]
) -> dict[str, BlockMask]:
    """Fill ``model`` with the weights of ``path``, and return the masks of its pruned layers.

    Raises:
        CheckpointError: the file does not fit the model, or carries no (or damaged) masks.
    """
    load_checkpoint(path, model)
    with safe_open(path, framework="numpy") as stream:
        text = (stream.metadata() or {}).get(_KEY)
    if text is None:
        raise CheckpointError(
            f"{path}: carries no masks", hint="only checkpoints of a pruneaug run do"
        )
    shapes = {layer.name: layer.geometry.matrix for layer in layers}
    try:
        return {
            name: BlockMask.unpack_bits(
                BlockGrid(shapes[name], BlockShape.parse(entry["block"])),
                np.frombuffer(base64.b64decode(entry["bits"], validate=True), dtype=np.uint8),
            )
            for name, entry in json.loads(text).items()
        }
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise CheckpointError(f"{path}: damaged masks: {error!r}") from error
