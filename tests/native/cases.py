"""Cases for ``driver.c``, and how the driver is built and run.

A file of cases is little-endian: the number of cases as int64, then of each eight int64
(integers of the program, values, bytes of masks, samples, whether outputs follow, input numbers,
output numbers, seed), the program (int64), values (float32), masks (bytes), inputs, expected
outputs and their absolute tolerances (float32). Without inputs the driver makes them from the seed,
with NaN, infinities and denormals among them; without samples it only creates the region.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pruneaug_cli.core import BsrMatrix
from pruneaug_cli.kernels.activation import NONE, RELU
from pruneaug_cli.kernels.encoding import EncodedRegion, encode
from pruneaug_cli.kernels.native.compiler import SOURCES
from pruneaug_cli.kernels.program import Floats, Planes, RegionProgram, Weight
from pruneaug_cli.kernels.reference import ReferenceBackend
from tests.native.programs import (
    BLOCKS,
    SIZES,
    branches,
    convolution,
    large_layers,
    long_strips,
    network,
    normalisation,
    numbers,
    packed_layers,
    product,
    small_maps,
)

EPS = float(np.finfo(np.float32).eps)
DRIVER = Path(__file__).parent / "driver.c"
ENGINE = tuple(
    str(path) for path in sorted(SOURCES.glob("*.c"))
    if path.name not in ("dispatch.c", "ort_op.c")
)  # fmt: skip
_HANGS_S = 1200.0  # an emulator on a busy machine takes minutes
_EMPTY: Floats = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Case:
    encoded: EncodedRegion
    samples: int = 1
    seed: int = 0
    inputs: Floats = field(default_factory=lambda: _EMPTY)
    expected: Floats = field(default_factory=lambda: _EMPTY)
    tolerance: Floats = field(default_factory=lambda: _EMPTY)

    def to_bytes(self) -> bytes:
        program = np.array(self.encoded.program, "<i8")
        masks = np.asarray(self.encoded.masks, np.uint8)
        floats = [
            np.asarray(array, "<f4")
            for array in (self.encoded.values, self.inputs, self.expected, self.tolerance)
        ]
        checked = int(self.expected.size > 0)
        head = [
            program.size, floats[0].size, masks.size, self.samples, checked, self.inputs.size,
            self.expected.size, self.seed,
        ]  # fmt: skip
        parts = [np.array(head, "<i8"), program, floats[0], masks, *floats[1:]]
        return b"".join(part.tobytes() for part in parts)


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    head = np.array([len(cases)], "<i8").tobytes()
    path.write_bytes(head + b"".join(case.to_bytes() for case in cases))


def checked_cases(seed: int) -> list[Case]:
    """Programs with the reference's answers, and how far from them rounding may lead."""
    rng = np.random.default_rng(seed)
    single = [_single(rng, make(rng)) for make in (convolution, product) for _ in range(40)]
    large = [_single(rng, program) for program in large_layers(rng)]
    large += [_single(rng, packed_layers(rng), samples) for samples in (50, 201)]
    large += [_single(rng, long_strips(rng), samples) for samples in (14, 87)]
    whole = [network(rng, block, positive=True) for block in BLOCKS]
    whole += [branches(rng, block, size, positive=True) for block in BLOCKS for size in SIZES]
    whole += [program for block in BLOCKS for program in small_maps(rng, block, positive=True)]
    return [*single, *large, _normalised(rng), *(_positive(rng, program) for program in whole)]


def _single(rng: np.random.Generator, program: RegionProgram, samples: int = 0) -> Case:
    """Single products: ``(K + 4) eps (|W| |x| + |b| + |r|)``, Higham, section 3.1."""
    samples = samples or (2 if _is_planes(program) else int(rng.integers(1, 40)))
    inputs = [numbers(rng, samples, *_dims(shape)) for shape in program.inputs]
    bounds = ReferenceBackend().run(_magnitudes(program), [abs(array) for array in inputs])
    factor = (program.weights[0].shape.cols + 4) * EPS
    return _case(program, samples, inputs, [factor * bound for bound in bounds])


def _normalised(rng: np.random.Generator) -> Case:
    """Mean and variance are sums of F terms, off by F eps of the largest term: with the 8 further
    roundings ``(F + 8) eps (|x| + mean) / deviation``, times two for the deviation's own error."""
    program = normalisation(rng)
    x = numbers(rng, 7, 50)
    reach = 2 * abs(x).max() / x.std(axis=1).min()
    bound = 2 * (50 + 8) * EPS * reach * abs(program.biases[0]) + EPS * abs(program.biases[1])
    return _case(program, 7, [x], [np.broadcast_to(bound, x.shape)])


def _positive(rng: np.random.Generator, program: RegionProgram) -> Case:
    """A whole network of positive numbers: nothing cancels, so relative errors add up: K + 4
    roundings of each product, and as many of each pool and activation on the longest way. An
    activation multiplies a relative error by at most 2 (hard_swish, where x is small); there are
    two such on any way, and the two parts of an Add share theirs."""
    inputs = [numbers(rng, 3, *_dims(shape), positive=True) for shape in program.inputs]
    terms = sum(weight.shape.cols + 4 for weight in program.weights) + 300
    expected = ReferenceBackend().run(program, inputs)
    return _case(program, 3, inputs, [4 * terms * EPS * abs(array) for array in expected])


def _case(
    program: RegionProgram, samples: int, inputs: list[Floats], bounds: Sequence[np.ndarray]
) -> Case:
    expected = ReferenceBackend().run(program, inputs)
    return Case(
        encode(program),
        samples,
        0,
        _join(inputs),
        _join(expected),
        _join(bounds) + np.float32(1e-30),
    )


def _join(arrays: Sequence[np.ndarray]) -> Floats:
    return np.concatenate([array.astype(np.float32).reshape(-1) for array in arrays])


def _magnitudes(program: RegionProgram) -> RegionProgram:
    weights = tuple(_magnitude(weight) for weight in program.weights)
    biases = tuple(abs(bias) for bias in program.biases)
    assert all(
        getattr(op, "epilogue", op).activation in (NONE, RELU) for op in program.instructions
    )
    return replace(program, weights=weights, biases=biases)


def _magnitude(weight: Weight) -> Weight:
    if isinstance(weight.matrix, BsrMatrix):
        return Weight("w", replace(weight.matrix, values=abs(weight.matrix.values)))
    return Weight("w", abs(weight.matrix))


def _is_planes(program: RegionProgram) -> bool:
    return isinstance(program.inputs[0], Planes)


def _dims(shape: object) -> tuple[int, ...]:
    if isinstance(shape, Planes):
        return (shape.channels, shape.height, shape.width)
    return (shape.features,)  # type: ignore[attr-defined]


def build_driver(
    compiler: Sequence[str], flags: Sequence[str], target: Path, env: dict[str, str] | None = None
) -> None:
    """The driver and the engine in one program; every source on its own, two at a time."""
    objects = []
    for source in (*ENGINE, str(DRIVER)):
        made = target.parent / f"{target.name}-{Path(source).stem}.o"
        objects.append((source, str(made)))
    common = [*compiler, *flags, "-std=gnu11", "-fno-math-errno", "-pthread", f"-I{SOURCES}"]
    running: list[subprocess.Popen[bytes]] = []
    for source, made in objects:
        running.append(subprocess.Popen([*common, "-c", source, "-o", made], env=env))  # noqa: S603
        if len(running) >= len(os.sched_getaffinity(0)):
            assert running.pop(0).wait() == 0, source
    assert all(process.wait() == 0 for process in running)
    subprocess.run(  # noqa: S603 - our own sources
        [*common, *(made for _, made in objects), "-lm", "-o", str(target)], check=True, env=env
    )


def run_driver(
    command: Sequence[str], cases: Path, *, threads: int = 0,
    env: dict[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    return subprocess.run(  # noqa: S603 - what build_driver made
        [*command, str(cases), str(threads)], capture_output=True, text=True, check=False,
        timeout=_HANGS_S, env={**os.environ, **(env or {})},
    )  # fmt: skip
