"""An ONNX file where a torch model is expected, so that a task can evaluate the file itself."""

import numpy as np
import torch
from torch import Tensor, nn

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.runtime.session import Array, Session


class OnnxModule(nn.Module):
    """Runs a session in ``forward``; tensors in, tensors out, on the device of the first input.

    A file whose batch size is fixed at B takes batches of any size: they are cut into pieces of B,
    the last one filled up with copies of its last sample, and the answers to those dropped. All
    inputs and outputs must then have the batch as their first size.

    It has no parameters and cannot be trained.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run on positional inputs in the file's order, or on inputs by name.

        Raises:
            UnsupportedError: the batch size is fixed and a value without it is given or made.
            ValueError: an input is missing, too many, or does not fit.
        """
        tensors = self._in_order(args, kwargs)
        device = tensors[0].device
        arrays = [tensor.detach().cpu().numpy() for tensor in tensors]
        results = [torch.from_numpy(array).to(device) for array in self._run(arrays)]
        return results[0] if len(results) == 1 else tuple(results)

    def _in_order(self, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> list[Tensor]:
        names = [port.name for port in self._session.inputs[len(args) :]]
        if len(args) > len(self._session.inputs) or set(names) != kwargs.keys():
            expected = ", ".join(port.name for port in self._session.inputs)
            raise ValueError(
                f"{self._session.name} takes {expected}; "
                f"got {len(args)} by position and {sorted(kwargs)} by name"
            )
        return [*args, *(kwargs[name] for name in names)]

    def _run(self, arrays: list[Array]) -> list[Array]:
        size = self._session.inputs[0].fixed_batch
        given = arrays[0].shape[0] if arrays[0].ndim else None
        if size is None or given is None or given == size:
            return self._session.run(arrays)
        self._require_batched(arrays, given)
        pieces = [
            self._session.run([_piece(array, start, size) for array in arrays])
            for start in range(0, given, size)
        ]
        return [np.concatenate(parts)[:given] for parts in zip(*pieces, strict=True)]

    def _require_batched(self, arrays: list[Array], given: int) -> None:
        ports = (*self._session.inputs, *self._session.outputs)
        sizes = {port.fixed_batch for port in ports}
        if len(sizes) != 1 or any(a.ndim == 0 or a.shape[0] != given for a in arrays):
            raise UnsupportedError(
                f"{self._session.name} has the fixed batch size {self._session.inputs[0].shape[0]} "
                f"and inputs or outputs without it: a batch of {given} cannot be cut up",
                hint="evaluate in batches of that size",
            )


def _piece(array: Array, start: int, size: int) -> Array:
    """``size`` samples from ``start`` on; the last sample repeats past the end."""
    return array[np.minimum(np.arange(start, start + size), len(array) - 1)]
