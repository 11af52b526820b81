"""The native back end: what it serves, and what it is made of."""

import functools
from collections.abc import Sequence
from pathlib import Path

from pruneaug_cli.core import BlockShape, Geometry, LinearGeometry
from pruneaug_cli.kernels.backend import check_inputs
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.inference import value_shapes
from pruneaug_cli.kernels.limits import MOST_ELEMENTS, MOST_SIZE, MOST_WINDOW
from pruneaug_cli.kernels.native.compiler import Compiler
from pruneaug_cli.kernels.native.library import Library
from pruneaug_cli.kernels.program import Floats, RegionProgram


class NativeBackend:
    """Runs regions with the C engine in ``src/``.

    Every block shape is served: a block of r rows is cut into strips of the heights that have a
    kernel, and its c columns become c entries. Sizes end where the engine's checks do.
    """

    name = "native"

    def __init__(self, compiler: Compiler | None = None) -> None:
        self._compiler = compiler or Compiler()

    def why_unavailable(self) -> str | None:
        """Why there is no compiler; None when there is one."""
        return self._compiler.why_unavailable()

    def why_unsupported(self, geometry: Geometry, block: BlockShape) -> str | None:
        """Only sizes beyond the engine's limits are refused."""
        matrix = geometry.matrix
        if max(matrix.rows, matrix.cols, block.rows, block.cols) > MOST_SIZE:
            return f"a {matrix} matrix in blocks of {block} exceeds {MOST_SIZE} rows or columns"
        if isinstance(geometry, LinearGeometry):
            return None
        window = (*geometry.kernel, *geometry.stride, *geometry.padding, *geometry.dilation)
        if max(window) > MOST_WINDOW:
            return f"kernel, stride, padding and dilation end at {MOST_WINDOW}: {geometry}"
        height, width = geometry.image
        rows, cols = geometry.output
        largest = max(geometry.in_channels * height * width, geometry.out_channels * rows * cols)
        if largest > MOST_ELEMENTS:
            return f"an image of {largest} numbers exceeds {MOST_ELEMENTS}: {geometry}"
        return None

    def run(self, program: RegionProgram, inputs: Sequence[Floats]) -> list[Floats]:
        """See :meth:`Backend.run`."""
        check_inputs(program, inputs)
        value_shapes(program)
        with self.library.open_region(encode(program)) as region:
            return region.run(inputs)

    def fingerprint(self) -> dict[str, str]:
        """See :meth:`Backend.fingerprint`."""
        return {
            "library": "pruneaug_ops",
            "version": self.library.version,
            "compiler": self._compiler.version(),
            "isa": self.library.isa,
            "digest": self._compiler.key(),
        }

    def operator_library(self, target: str | None = None) -> Path:
        """See :meth:`Backend.operator_library`."""
        compiler = self._compiler if target is None else self._compiler.for_target(target)
        return compiler.build()

    def runs_here(self, library: Path) -> bool:
        """See :meth:`Backend.runs_here`."""
        try:
            return Library(library).isa != "none"
        except OSError:
            return False

    @functools.cached_property
    def library(self) -> Library:
        """The engine, built and loaded on first use."""
        return Library(self._compiler.build())
