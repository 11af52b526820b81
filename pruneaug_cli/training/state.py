"""Where training stands, in a file: everything needed to go on as if nothing had happened.

The file is written by ``torch.save`` and read with ``weights_only=True``: tensors, numbers and
text, no code. It carries a key of what it belongs to (settings, masks, weights at the start,
teacher); a state of anything else is refused. Random generators need no place in it: every epoch
seeds them by (seed, epoch).

Schema history (``schema_version``):
    1: first version.
"""

import dataclasses
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruneaug_cli.core import BlockMask
from pruneaug_cli.errors import RunError
from pruneaug_cli.files import digest_bytes, dump_json, write_bytes
from pruneaug_cli.training.result import EpochRecord
from pruneaug_cli.training.schedule import Phase
from pruneaug_cli.training.settings import FinetuneSettings

SCHEMA_VERSION = 1
Tensors = dict[str, Tensor]


@dataclass(slots=True)
class TrainingState:
    """The position of a run, between two epochs.

    Attributes:
        phase: the phase that the next epoch belongs to.
        epoch: epochs done, in both phases.
        phase_epochs: epochs done in this phase.
        progress: how much of the phase's schedule is over, in [0, 1].
        milestones: of the penalty phase, passed.
        seconds: spent so far.
        batches: in an epoch; ``None`` until counted.
        history: the epochs done.
        start_metric: see ``FinetuneResult``.
        best_metric: see ``FinetuneResult``.
        best_epoch: see ``FinetuneResult``.
        masks: bits of the masks in force, by layer.
        coefficients: of the group penalty.
        weights: the model's.
        best: the weights to return.
        optimizer: the optimizer's own state.
    """

    phase: Phase
    epoch: int = 0
    phase_epochs: int = 0
    progress: float = 0.0
    milestones: int = 0
    seconds: float = 0.0
    batches: int | None = None
    history: list[EpochRecord] = field(default_factory=list)
    start_metric: float | None = None
    best_metric: float | None = None
    best_epoch: int = 0
    masks: Tensors = field(default_factory=dict)
    coefficients: Tensors = field(default_factory=dict)
    weights: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)


def snapshot(model: nn.Module) -> Tensors:
    """Copy all parameters and persistent buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def run_key(
    settings: FinetuneSettings,
    masks: Mapping[str, BlockMask],
    model: nn.Module,
    teacher: nn.Module | None,
) -> str:
    """Digest of everything that decides what training does, apart from the task's own code."""
    parts = [dump_json(settings.to_json()).encode()]
    for name, mask in masks.items():
        parts += [name.encode(), str(mask.grid).encode(), mask.pack_bits().tobytes()]
    for module in (model, teacher):
        parts.append(b"no teacher" if module is None else _digest_weights(module).encode())
    return digest_bytes(*parts)


class StateFile:
    """The state file of one run.

    Args:
        path: the file; ``None``: nothing is kept.
        key: what the state must belong to (:func:`run_key`).
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path = path
        self._key = key

    def write(self, state: TrainingState) -> None:
        """Replace the file, atomically."""
        if self._path is None:
            return
        document = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
        document["history"] = [record.to_json() for record in state.history]
        buffer = io.BytesIO()
        torch.save({"schema_version": SCHEMA_VERSION, "key": self._key, "state": document}, buffer)
        write_bytes(self._path, buffer.getvalue())

    def read(self) -> TrainingState | None:
        """Read the file; ``None`` when there is none yet.

        Raises:
            RunError: damaged, of another version, or of another run.
        """
        if self._path is None or not self._path.exists():
            return None
        document = self._load(self._path)
        fields = dict(document["state"])
        fields["history"] = [EpochRecord(**record) for record in fields["history"]]
        return TrainingState(**fields)

    def _load(self, path: Path) -> dict[str, Any]:
        again = f"delete {path} to train from the start"
        try:
            document = torch.load(
                io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True
            )
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise RunError(f"{path}: not a readable training state", hint=again) from error
        version = document.get("schema_version") if isinstance(document, dict) else None
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{path}: training state schema {version!r} is not the supported {SCHEMA_VERSION}",
                hint=again,
            )
        if document.get("key") != self._key:
            raise RunError(
                f"{path}: belongs to a training with other settings, masks, weights or teacher",
                hint=f"{again}, or give it what it was started with",
            )
        return dict(document)


def _digest_weights(module: nn.Module) -> str:
    parts = []
    for name, value in module.state_dict().items():
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        description = f"{name} {value.dtype} {tuple(value.shape)}"
        parts += [description.encode(), content.numpy().tobytes()]
    return digest_bytes(*parts)
