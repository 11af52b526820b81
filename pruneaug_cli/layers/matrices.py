"""A layer's weight as a matrix (M outputs, K products per output), and its inputs to match.

``Linear`` (M, K) is its own matrix; ``Conv2d`` (O, I, kh, kw) is (O, I·kh·kw), kernel position
fastest: the order of ``torch.nn.Unfold``. So ``input_columns(module, x) @ weight_matrix(module).T``
holds the layer's outputs without bias, one row per output position. The matrix is a view: the
user's model keeps its modules, parameters and names.
"""

from collections.abc import Iterable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruneaug_cli.core import FloatMatrix
from pruneaug_cli.errors import PlanError
from pruneaug_cli.registry import nearest

MatrixModule = nn.Linear | nn.Conv2d


def module_of(model: nn.Module, name: str) -> MatrixModule:
    """Return the layer called ``name``.

    Raises:
        PlanError: the model has no such layer, or it is neither Linear nor Conv2d.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = modules.get(name)
    if not isinstance(found, MatrixModule):
        known = [n for n, module in modules.items() if isinstance(module, MatrixModule)]
        what = "no layer" if found is None else f"a {type(found).__name__}, not a matrix layer, as"
        raise PlanError(f"the model has {what} {name!r}", hint=nearest(name, known))
    return found


def weight_matrix(module: MatrixModule) -> Tensor:
    """View the weight as (M, K); writing into the view writes into the layer.

    Raises:
        ValueError: the weight's memory is not in the order of its dimensions (``channels_last``).
    """
    weight = module.weight
    if not weight.is_contiguous():
        raise ValueError(f"weight {tuple(weight.shape)} is not contiguous: no matrix view of it")
    return weight.view(weight.shape[0], -1)


def set_matrix(model: nn.Module, name: str, matrix: FloatMatrix) -> None:
    """Overwrite the weight of a layer, in place, keeping its type and device.

    Raises:
        ValueError: the matrix has another shape than the layer's.
        PlanError: there is no such layer.
    """
    view = weight_matrix(module_of(model, name))
    if matrix.shape != tuple(view.shape):
        raise ValueError(f"{name}: expected a matrix {tuple(view.shape)}, got {matrix.shape}")
    with torch.no_grad():
        view.copy_(torch.from_numpy(np.ascontiguousarray(matrix)))


def matrix_arrays(model: nn.Module, names: Iterable[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Copy the weight matrices of layers, as float32."""
    return {
        name: weight_matrix(module_of(model, name))
        .detach()
        .to("cpu", torch.float32, copy=True)
        .numpy()
        for name in names
    }


def input_columns(module: MatrixModule, x: Tensor) -> Tensor:
    """Return what each output position multiplies the weight with: (positions, K).

    Args:
        module: the layer.
        x: its input: (…, K) for Linear, (N, I, H, W) for Conv2d.

    Returns:
        Linear: the rows of ``x``. Conv2d: (N·H'·W', I·kh·kw), image by image, row by row, zeros
        where the kernel hangs over the edge.
    """
    if isinstance(module, nn.Linear):
        return x.reshape(-1, module.in_features)
    vertical, horizontal = conv_padding(module)
    columns = F.unfold(
        x,
        cast("tuple[int, int]", module.kernel_size),
        dilation=cast("tuple[int, int]", module.dilation),
        padding=(vertical, horizontal),
        stride=cast("tuple[int, int]", module.stride),
    )
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def conv_padding(module: nn.Conv2d) -> tuple[int, int]:
    """Zeros added on each side, vertically and horizontally; ``"same"`` and ``"valid"`` resolved.

    Raises:
        ValueError: ``"same"`` with more zeros after than before.
    """
    if module.padding == "valid":
        return (0, 0)
    if module.padding != "same":
        vertical, horizontal = cast("tuple[int, int]", module.padding)
        return (vertical, horizontal)
    totals = [
        dilation * (kernel - 1)
        for dilation, kernel in zip(module.dilation, module.kernel_size, strict=True)
    ]
    if any(total % 2 for total in totals):
        raise ValueError("padding 'same' is not symmetric for a kernel of even extent")
    return (totals[0] // 2, totals[1] // 2)
