"""What a kernel back end promises."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pruneaug_cli.core import BlockShape, Geometry
from pruneaug_cli.kernels.program import Floats, Planes, RegionProgram, ValueShape


class Backend(Protocol):
    """Runs region programs.

    Results equal those of the reference up to rounding: each output sums at most K products, so
    they differ by at most about ``2 K eps (|W| |x|)``; sums are not promised to be in any order.
    The same program on the same inputs gives the same bits every time. A back end says why it
    cannot serve a request before it is asked to; what it says it serves, it serves.
    ``tests/conformance/test_kernels.py`` checks all of this for every back end.
    """

    @property
    def name(self) -> str:
        """The name it is registered under."""
        ...

    def why_unavailable(self) -> str | None:
        """Why it cannot run here (no compiler, say); None when it can."""
        ...

    def why_unsupported(self, geometry: Geometry, block: BlockShape) -> str | None:
        """Why a layer of this geometry with this block is not served; None when it is."""
        ...

    def run(self, program: RegionProgram, inputs: Sequence[Floats]) -> list[Floats]:
        """Compute the outputs of a region.

        Args:
            program: what to compute.
            inputs: float32, (S, C, H, W) or (S, F) as the program's inputs say, one S for all.

        Returns:
            One array per output, (S, C, H, W) or (S, F).

        Raises:
            ValueError: the inputs do not fit, or the program is inconsistent.
        """
        ...

    def fingerprint(self) -> dict[str, str]:
        """What a measurement of it depends on: library, version, compiler, isa, digest."""
        ...

    def operator_library(self, target: str | None = None) -> Path:
        """The ONNX Runtime custom-op library, built when there is none in the cache.

        Args:
            target: the kind of machine it is for; None: this one.

        Raises:
            UnsupportedError: this back end has none, or none for the target.
            ToolchainError: it cannot be built here.
        """
        ...

    def runs_here(self, library: Path) -> bool:
        """Whether this machine can load a library that :meth:`operator_library` built."""
        ...


def check_inputs(program: RegionProgram, inputs: Sequence[Floats]) -> int:
    """Return the number of samples S of inputs that fit a program.

    Raises:
        ValueError: another number of inputs, a shape or a dtype that does not fit.
    """
    if len(inputs) != len(program.inputs):
        raise ValueError(f"the region takes {len(program.inputs)} inputs, got {len(inputs)}")
    samples = inputs[0].shape[0] if inputs[0].ndim else 0
    for index, (array, shape) in enumerate(zip(inputs, program.inputs, strict=True)):
        expected = (samples, *_dims(shape))
        if array.shape != expected or array.dtype != "float32":
            raise ValueError(
                f"input {index}: expected float32 of shape {expected}, "
                f"got {array.dtype} of shape {array.shape}"
            )
    return samples


def _dims(shape: ValueShape) -> tuple[int, ...]:
    if isinstance(shape, Planes):
        return (shape.channels, shape.height, shape.width)
    return (shape.features,)
