"""The engine through ctypes: regions on NumPy arrays. The C side is ``src/region.h``."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

import numpy as np
import numpy.typing as npt

from pruneaug_cli.kernels.encoding import EncodedRegion
from pruneaug_cli.kernels.program import Floats
from pruneaug_cli.kernels.steps import StepKind

STEP_KINDS: tuple[StepKind, ...] = get_args(StepKind)  # the position is the code in region.h
_ERROR_BYTES = 512
_Floats = ctypes.POINTER(ctypes.c_float)


class Library:
    """A loaded engine.

    Raises:
        OSError: the file is not a library for this machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._functions = ctypes.CDLL(str(path))
        _declare(self._functions)

    @property
    def version(self) -> str:
        """Version of the engine."""
        return bytes(self._functions.pa_version()).decode()

    @property
    def isa(self) -> str:
        """The instruction set it was built for: avx512, avx2, sse, neon or generic."""
        return bytes(self._functions.pa_isa()).decode()

    def open_region(self, encoded: EncodedRegion) -> "Region":
        """Create a region.

        Raises:
            ValueError: the program is damaged; the message names the record.
        """
        return Region(self._functions, encoded)

    @contextmanager
    def watch(self, room: int = 1 << 20) -> "Iterator[Watch]":
        """Record what each step of every region takes while the block runs.

        Regions inside ONNX Runtime sessions that use this library file are watched too. Do not
        enter or leave while a region runs on another thread.

        Args:
            room: integers to record, three and one per step for every run of a region; runs beyond
                are not recorded.
        """
        watch = Watch(self._functions, room)
        try:
            yield watch
        finally:
            watch.stop()


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What the steps of one region took, run by run.

    Attributes:
        steps: what each step is: its kind, and the number of the input (load), the output
            (store) or the instruction (split, compute).
        seconds: (runs, steps), all samples of a run together.
    """

    steps: tuple[tuple[StepKind, int], ...]
    seconds: npt.NDArray[np.float64]


class Watch:
    """Step times being recorded; made by :meth:`Library.watch`."""

    def __init__(self, functions: ctypes.CDLL, room: int) -> None:
        self._functions = functions
        self._records = np.zeros(room, np.int64)
        functions.pa_watch(self._records.ctypes.data, room)

    def stop(self) -> None:
        """Record nothing more."""
        self._functions.pa_watch(None, 0)

    def clear(self) -> None:
        """Forget what was recorded, so that warm-up runs do not count."""
        self._functions.pa_watch(self._records.ctypes.data, self._records.size)

    def times(self) -> list[StepTimes]:
        """Step times per region, in the order of their creation; the regions must still live."""
        runs: dict[tuple[int, int], list[npt.NDArray[np.int64]]] = {}
        start, used = 0, int(self._functions.pa_watched())
        while start < used:
            region, number, steps = (int(item) for item in self._records[start : start + 3])
            runs.setdefault((number, region), []).append(
                self._records[start + 3 : start + 3 + steps]
            )
            start += 3 + steps
        return [
            StepTimes(self._steps(region), 1e-9 * np.array(seen, np.float64))
            for (_, region), seen in sorted(runs.items(), key=lambda item: item[0])
        ]

    def _steps(self, region: int) -> tuple[tuple[StepKind, int], ...]:
        kind, number = ctypes.c_int32(), ctypes.c_int32()
        steps = []
        for index in range(self._functions.pa_region_steps(region)):
            self._functions.pa_region_step(region, index, ctypes.byref(kind), ctypes.byref(number))
            steps.append((STEP_KINDS[kind.value], number.value))
        return tuple(steps)


class Region:
    """A region in the engine's memory; a context manager that frees it."""

    def __init__(self, functions: ctypes.CDLL, encoded: EncodedRegion) -> None:
        self._functions = functions
        self._handle = ctypes.c_void_p()
        program = np.ascontiguousarray(encoded.program, dtype=np.int64)
        values = np.ascontiguousarray(encoded.values, dtype=np.float32)
        masks = np.ascontiguousarray(encoded.masks, dtype=np.uint8)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        failed = functions.pa_region_create(
            program.ctypes.data, program.size, values.ctypes.data, values.size,
            masks.ctypes.data, masks.size, ctypes.byref(self._handle), error, _ERROR_BYTES,
        )  # fmt: skip
        if failed:
            raise ValueError(error.value.decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the region; it cannot run any more."""
        self._functions.pa_region_destroy(self._handle)
        self._handle = ctypes.c_void_p()

    def run(self, inputs: Sequence[Floats]) -> list[Floats]:
        """Compute the outputs; inputs (S, C, H, W) or (S, F) that fit the region.

        Raises:
            ValueError: an input does not fit the region.
            MemoryError: the engine found no memory for this many samples.
        """
        arrays = [np.ascontiguousarray(array, dtype=np.float32) for array in inputs]
        samples = arrays[0].shape[0] if arrays else 0
        expected = [(samples, *dims) for dims in self.input_dims]
        if [array.shape for array in arrays] != expected:
            found = [array.shape for array in arrays]
            raise ValueError(f"expected inputs of shapes {expected}, got {found}")
        outputs = [np.empty((samples, *dims), np.float32) for dims in self.output_dims]
        self.run_into(arrays, outputs)
        return outputs

    def run_into(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Like :meth:`run`, into arrays of the caller: contiguous float32 of the right shapes."""
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        failed = self._functions.pa_region_run(
            self._handle, inputs[0].shape[0], _pointers(inputs), _pointers(outputs), None, error,
            _ERROR_BYTES,
        )  # fmt: skip
        if failed:
            raise MemoryError(error.value.decode())

    @property
    def input_dims(self) -> list[tuple[int, ...]]:
        """Shape per sample of every input."""
        count = self._functions.pa_region_inputs(self._handle)
        return [self._dims(self._functions.pa_region_input, index) for index in range(count)]

    @property
    def output_dims(self) -> list[tuple[int, ...]]:
        """Shape per sample of every output."""
        count = self._functions.pa_region_outputs(self._handle)
        return [self._dims(self._functions.pa_region_output, index) for index in range(count)]

    @property
    def memory_bytes(self) -> tuple[int, int]:
        """Bytes of packed weights, and of the buffers of one sample."""
        weights, workspace = ctypes.c_size_t(), ctypes.c_size_t()
        self._functions.pa_region_memory(
            self._handle, ctypes.byref(weights), ctypes.byref(workspace)
        )
        return weights.value, workspace.value

    def _dims(self, describe: "ctypes._NamedFuncPointer", index: int) -> tuple[int, ...]:
        kind, dims = ctypes.c_int32(), (ctypes.c_int64 * 3)()
        describe(self._handle, index, ctypes.byref(kind), dims)
        return tuple(dims) if kind.value == 1 else (dims[0],)


def _pointers(arrays: Sequence[Floats]) -> "ctypes.Array[ctypes._Pointer[ctypes.c_float]]":
    return (_Floats * len(arrays))(*(array.ctypes.data_as(_Floats) for array in arrays))


def _declare(functions: ctypes.CDLL) -> None:
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    functions.pa_version.restype = functions.pa_isa.restype = ctypes.c_char_p
    functions.pa_region_create.argtypes = [
        pointer, size, pointer, size, pointer, size, pointer, ctypes.c_char_p, size,
    ]  # fmt: skip
    functions.pa_region_destroy.argtypes = [pointer]
    functions.pa_region_destroy.restype = None
    functions.pa_watch.argtypes, functions.pa_watch.restype = [pointer, size], None
    functions.pa_watched.argtypes, functions.pa_watched.restype = [], size
    functions.pa_region_step.argtypes = [pointer, size, pointer, pointer]
    functions.pa_region_step.restype = None
    counts = (functions.pa_region_inputs, functions.pa_region_outputs, functions.pa_region_steps)
    for count in counts:
        count.argtypes, count.restype = [pointer], size
    for describe in (functions.pa_region_input, functions.pa_region_output):
        describe.argtypes, describe.restype = [pointer, size, pointer, pointer], None
    functions.pa_region_run.argtypes = [
        pointer, ctypes.c_int64, pointer, pointer, pointer, ctypes.c_char_p, size,
    ]  # fmt: skip
    functions.pa_region_memory.argtypes = [pointer, pointer, pointer]
    functions.pa_region_memory.restype = None
