r"""Does an exported file compute what the model computes? Checked before a file is called done.

The file is checked three ways: ``onnx.checker`` in full; ONNX Runtime without our library, which
inlines the function bodies; ONNX Runtime with the library. The outputs of both runs must equal the
model's own, up to rounding.

How much is rounding: two float32 evaluations of one network differ because sums are taken in
another order and because batch norm is folded into weights. An inner product of :math:`K` terms
errs, with probability at least :math:`1 - 2 e^{-\lambda^2/2}`, by at most
:math:`\lambda \sqrt{K} u` relative to its terms, :math:`u = 2^{-24}`. A layer hands its relative
error on; the errors of the layers add, and both evaluations have them. So an output may differ by

.. math:: 2 \lambda u \left( 1 + \sum_l \sqrt{K_l + 2} \right) \max |y|

where :math:`l` runs over all products of the file, :math:`K_l` is the length of their sums, 2 more
terms stand for the bias and the folded scale, the 1 for a final element-wise operation, and
:math:`\max |y|` is the largest magnitude in that output. :math:`\lambda = 8` makes a false alarm
rarer than one in :math:`10^{13}` inner products. For a ResNet-20 the bound is 4e-4 of the largest
logit; a wrong weight, offset or residual is far above it.

References:
    Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM Journal on
    Scientific Computing 41(5), 2019, Theorem 2.4 and section 3. Theirs bounds one inner product;
    adding the layers' relative errors, as if each layer kept the scale of its input, is ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from pruneaug_cli.errors import ModelFileError, VerificationError
from pruneaug_cli.export import read_model
from pruneaug_cli.export.schema import DOMAIN
from pruneaug_cli.kernels.program import Conv, Linear
from pruneaug_cli.runtime.bench import max_abs_diff
from pruneaug_cli.runtime.session import Array, Session, open_session

CONFIDENCE = 8.0
"""Lambda in the bound above."""

_UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True, slots=True)
class Verification:
    """A file that passed.

    Attributes:
        max_abs_diff_library: largest difference from the model, with our operators; None when
            the file was checked without them (a dense file has no use for them).
        max_abs_diff_stock: the same in ONNX Runtime alone.
        tolerance: the bound for the output with the largest values.
    """

    max_abs_diff_library: float | None
    max_abs_diff_stock: float
    tolerance: float


def verify_export(
    path: Path,
    *,
    inputs: Sequence[Array],
    expected: Sequence[Array],
    library: Path | None,
    threads: int = 1,
) -> Verification:
    """Check an exported file against the model it came from.

    Args:
        path: the file.
        inputs: one array per input of the file.
        expected: what the model answers to them, one array per output.
        library: our operators; None for a dense file.
        threads: of the sessions.

    Raises:
        ModelFileError: the file is not valid ONNX, or cannot be loaded.
        VerificationError: an output has another shape, or differs by more than rounding.
    """
    _check_model(path)
    unit = rounding_bound(path)
    stock = _compare(open_session(path, threads=threads), inputs, expected, unit)
    ours = None
    if library is not None:
        session = open_session(path, threads=threads, library=library)
        ours = _compare(session, inputs, expected, unit)
    return Verification(ours, stock, unit * max(map(_magnitude, expected), default=0.0))


def rounding_bound(path: Path) -> float:
    """How far an output may differ, as a fraction of its largest magnitude."""
    steps = sum(float(np.sqrt(terms + 2)) for terms in _inner_products(path))
    return 2.0 * CONFIDENCE * _UNIT_ROUNDOFF * (1.0 + steps)


def _check_model(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(f"{path}: not a valid ONNX model: {reason}") from error


def _inner_products(path: Path) -> Iterator[int]:
    """Length of the sums of every product, in our regions and outside them."""
    graph = onnx.load(str(path), load_external_data=False).graph
    has_regions = any(node.domain == DOMAIN for node in graph.node)
    for region in read_model(path).regions if has_regions else ():
        for op in region.program.instructions:
            if isinstance(op, Conv | Linear):
                yield region.program.weights[op.weight].shape.cols
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.domain == "" and node.op_type in {"Conv", "Gemm", "MatMul"}:
            yield _terms(node, sizes.get(node.input[1], ()))


def _terms(node: onnx.NodeProto, weight: tuple[int, ...]) -> int:
    """Sums of a Conv run over (Cin, kh, kw); of the others over one side, at most the longer."""
    return int(np.prod(weight[1:])) if node.op_type == "Conv" else max(weight, default=1)


def _compare(
    session: Session, inputs: Sequence[Array], expected: Sequence[Array], unit: float
) -> float:
    where = "with the operator library" if session.library else "in ONNX Runtime alone"
    results = session.run(inputs)
    if len(results) != len(expected):
        raise VerificationError(
            f"{session.name}: the file has {len(results)} outputs, the model {len(expected)}"
        )
    for port, result, truth in zip(session.outputs, results, expected, strict=True):
        if result.shape != truth.shape:
            raise VerificationError(
                f"{session.name}: output {port.name!r} has shape {result.shape} {where}, "
                f"the model's has {truth.shape}"
            )
        found, allowed = max_abs_diff([result], [truth]), unit * _magnitude(truth)
        if not found <= allowed:  # NaN fails too
            raise VerificationError(
                f"{session.name}: output {port.name!r} differs from the model's by {found:.3g} "
                f"{where}; rounding explains at most {allowed:.3g}",
                hint="this is a bug in the exporter or a kernel: please report it with the file",
            )
    return max_abs_diff(results, expected)


def _magnitude(array: Array) -> float:
    return max_abs_diff([array], [np.zeros_like(array)])
