"""Weights in files: read without running code, checked against the model, written repeatably.

Readable: safetensors (by the suffix ``.safetensors``), and what ``torch.save`` wrote: a state
dict, or a dict that holds one as ``state_dict``, ``model_state_dict`` or ``model``. A pickled
module or any other pickled object only when the caller trusts its origin.

The prefixes that ``DataParallel`` (``module.``) and ``torch.compile`` (``_orig_mod.``) put before
every name are taken off, in any order. Floating-point weights are cast to the type of the model's.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pruneaug_cli.errors import CheckpointError, UsageError
from pruneaug_cli.files import digest_file, write_bytes
from pruneaug_cli.tasks.address import builtin_name
from pruneaug_cli.tasks.task import Task

State = Mapping[str, Tensor]

_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 3
_UNTRUSTED = re.compile(r"GLOBAL (\S+) was not an allowed global")


def load_checkpoint(path: Path, model: nn.Module, *, trust: bool = False) -> str:
    """Copy the weights of a file into ``model``.

    Args:
        path: the checkpoint.
        model: receives the weights, in place; unchanged when the file is refused.
        trust: whether to unpickle objects, which runs whatever code the file asks for.

    Returns:
        SHA-256 of the file.

    Raises:
        CheckpointError: missing, damaged, pickled and not trusted, or of another architecture.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {found}; expected a checkpoint")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _pick_state(path, _read_torch(path, trust=trust))
    wanted = model.state_dict()
    state = _without_prefix(state, wanted)
    _require_fit(path, state, wanted)
    model.load_state_dict(state, strict=False)  # _require_fit knows the keys that may be missing
    return digest_file(path)


def save_checkpoint(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write the state dict as safetensors, atomically; same weights and metadata, same bytes."""
    tensors = {
        # a copy each: safetensors refuses tensors that share memory, as tied weights do
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    write_bytes(path, _sorted_metadata(safetensors.torch.save(tensors, dict(metadata))))


def checkpoint_metadata(path: Path) -> dict[str, str]:
    """Return what :func:`save_checkpoint` was given beside the weights.

    Raises:
        CheckpointError: not a readable safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}") from error


def builtin_checkpoint(task: Task) -> Path:
    """Return the trained weights that come with a built-in task.

    Raises:
        UsageError: the task is not a built-in one.
    """
    name = builtin_name(task.address)
    if name is None:
        raise UsageError(
            f"{task.address}: only built-in tasks bring a checkpoint",
            hint="name the file of the trained weights: CHECKPOINT",
        )
    return Path(__file__).parent / "builtin" / f"{name.replace('-', '_')}.safetensors"


def _read_safetensors(path: Path) -> State:
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}") from error


def _read_torch(path: Path, *, trust: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    # torch.load lets through whatever its unpickler meets: KeyError, EOFError, RuntimeError …
    except Exception as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path}: is a TorchScript archive; expected a state dict",
                hint="save the weights with torch.save(model.state_dict(), path)",
            ) from error
        if found := _UNTRUSTED.search(str(error)):
            raise CheckpointError(
                f"{path}: holds a pickled object ({found[1]}), which can run code when loaded",
                hint="pass --trust-checkpoint if you trust its origin",
            ) from error
        raise CheckpointError(f"{path}: truncated or damaged: {_cause(error)}") from error


def _pick_state(path: Path, found: object) -> State:
    """Find the state dict in what a file held."""
    if isinstance(found, Mapping):
        for name in _CONTAINERS:
            if isinstance(found.get(name), Mapping | nn.Module):
                return _pick_state(path, found[name])
    if isinstance(found, nn.Module):
        return found.state_dict()
    if isinstance(found, Mapping) and found and all(isinstance(v, Tensor) for v in found.values()):
        return {str(name): tensor for name, tensor in found.items()}
    what = type(found).__name__
    if isinstance(found, Mapping):
        what += f" with {_some(map(str, found))}" if found else " without entries"
    raise CheckpointError(
        f"{path}: expected a state dict (names with tensors), found a {what}",
        hint="save the weights with torch.save(model.state_dict(), path)",
    )


def _without_prefix(state: State, wanted: State) -> State:
    for prefix in _PREFIXES:
        wrapped = all(name.startswith(prefix) for name in state)
        if state and wrapped and not any(name.startswith(prefix) for name in wanted):
            bare = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            return _without_prefix(bare, wanted)
    return state


def _require_fit(path: Path, state: State, wanted: State) -> None:
    """Refuse a state dict that lacks a weight, has one too many, or one of another form."""
    present = {_storage(wanted[name]) for name in state if name in wanted}
    missing = [
        name
        for name, tensor in wanted.items()
        if name not in state
        # older files count no batches; tied weights may be stored under one of their names
        and not name.endswith("num_batches_tracked")
        and _storage(tensor) not in present
    ]
    unexpected = [name for name in state if name not in wanted]
    shapes = _differing(state, wanted, lambda tensor: tuple(tensor.shape))
    types = _differing(state, wanted, lambda t: t.dtype if not t.is_floating_point() else "float")
    complaints = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("keys missing" if len(missing) != 1 else "key missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
            ("of another type", types),
        )
        if names
    ]
    if complaints:
        raise CheckpointError(
            f"{path}: does not fit the model: {', '.join(complaints)}",
            hint="is it the checkpoint of this task's build_model()?",
        )


def _differing(state: State, wanted: State, trait: Callable[[Tensor], object]) -> list[str]:
    """Name the entries whose trait differs, with both values."""
    return [
        f"{name}: {trait(tensor)} in the file, {trait(wanted[name])} in the model"
        for name, tensor in state.items()
        if name in wanted and trait(tensor) != trait(wanted[name])
    ]


def _storage(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    """What two names of one tied weight have in common; unique to a tensor without elements."""
    return (tensor.data_ptr() or id(tensor), tuple(tensor.shape))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join([*listed[:_SHOWN], "…"] if len(listed) > _SHOWN else listed)


def _cause(error: Exception) -> str:
    """The telling line of an error of torch.load."""
    text = str(error).strip()
    lines = [line for line in text.splitlines() if line.startswith("WeightsUnpickler error:")]
    first = (lines or text.splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _sorted_metadata(data: bytes) -> bytes:
    """Put the header's metadata, which safetensors writes in random order, in order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    ordered = dict(sorted(header.items(), key=lambda entry: entry[0] != "__metadata__"))
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin on a multiple of eight, as the format asks
    return len(text).to_bytes(8, "little") + text + data[end:]
