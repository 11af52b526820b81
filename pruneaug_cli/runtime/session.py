"""Opening ONNX models in ONNX Runtime: the only module that makes sessions.

Every session of the project has the same settings, so that timings compare: all graph
optimisations, one operator at a time, ``threads`` threads inside an operator, CPU only. The
threads spin while a run lasts and stop with it. By default they would spin on for 50 ms and more,
on processors that the session whose turn it is needs: two models in turns, two threads, two cores,
and the small one took up to four times as long as alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from pruneaug_cli.errors import ModelFileError

Array = npt.NDArray[np.generic]
Size = int | str | None

_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}
_LOAD_ERRORS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoModel,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)
_ONLY_FATAL = 4  # what goes wrong is raised; ONNX Runtime need not print it as well


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model.

    Attributes:
        name: as in the file.
        shape: each size a number, or a name (or None) where it is free.
        dtype: of the elements.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: np.dtype[np.generic]

    @property
    def fixed_batch(self) -> int | None:
        """The first size when the file fixes it; None when it is free."""
        first = self.shape[0] if self.shape else None
        return first if isinstance(first, int) else None


class Session:
    """A loaded model. Made by :func:`open_session`."""

    def __init__(
        self, inference: onnxruntime.InferenceSession, *, name: str, threads: int, library: bool
    ) -> None:
        self._inference = inference
        self.name = name
        self.threads = threads
        self.library = library
        self.inputs = tuple(_port(item) for item in inference.get_inputs())
        self.outputs = tuple(_port(item) for item in inference.get_outputs())

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run on one array per input, in the order of ``inputs``.

        Raises:
            ValueError: the arrays do not fit the inputs.
        """
        try:
            results: list[Array] = self._inference.run(None, self._feed(arrays))
        except errors.InvalidArgument as error:
            raise ValueError(f"{self.name}: {_first_line(error)}") from error
        return results

    def bound_call(self, arrays: Sequence[Array]) -> Callable[[], object]:
        """A call that runs on ``arrays`` again and again, for timing.

        Inputs are bound once, so that a call costs the model and as little of Python as can be.
        """
        binding = self._inference.io_binding()
        for name, array in self._feed(arrays).items():
            binding.bind_cpu_input(name, array)
        for port in self.outputs:
            binding.bind_output(port.name)
        inference = self._inference
        return lambda: inference.run_with_iobinding(binding)

    def _feed(self, arrays: Sequence[Array]) -> dict[str, Array]:
        if len(arrays) != len(self.inputs):
            raise ValueError(f"{self.name} takes {len(self.inputs)} inputs, got {len(arrays)}")
        return {
            port.name: np.asarray(array, order="C")
            for port, array in zip(self.inputs, arrays, strict=True)
        }


def open_session(
    model: Path | bytes, *, threads: int = 1, library: Path | None = None, optimize: bool = True
) -> Session:
    """Load a model.

    Args:
        model: an ONNX file, or the bytes of one.
        threads: threads inside an operator.
        library: our operators; None: ONNX Runtime as it is, which inlines the function bodies.
        optimize: all of ONNX Runtime's graph optimisations, or none.

    Raises:
        ModelFileError: no such file, or ONNX Runtime cannot load the file or the library.
    """
    name = "the model" if isinstance(model, bytes) else str(model)
    if isinstance(model, Path) and not model.is_file():
        raise ModelFileError(f"{name}: no such ONNX file")
    options = _options(threads, optimize)
    if library is not None:
        _register(options, library)
    try:
        inference = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,  # there is nothing to fall back to, and it would print
        )
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{name}: holds names that are not UTF-8") from error
    except _LOAD_ERRORS as error:
        raise ModelFileError(
            f"{name}: ONNX Runtime {onnxruntime.__version__} cannot load it: {_first_line(error)}"
        ) from error
    return Session(inference, name=name, threads=threads, library=library is not None)


def _options(threads: int, optimize: bool) -> onnxruntime.SessionOptions:
    level = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ONLY_FATAL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _register(options: onnxruntime.SessionOptions, library: Path) -> None:
    if not library.is_file():
        raise ModelFileError(
            f"{library}: no such operator library",
            hint="`pruneaug export` copies it beside the model",
        )
    try:
        options.register_custom_ops_library(str(library.resolve()))
    except _LOAD_ERRORS as error:
        raise ModelFileError(
            f"{library}: not a library of operators for ONNX Runtime "
            f"{onnxruntime.__version__}: {_first_line(error)}"
        ) from error


def _port(item: onnxruntime.NodeArg) -> Port:
    if item.type not in _DTYPES:
        raise ModelFileError(f"input or output {item.name!r} has the unsupported type {item.type}")
    return Port(item.name, tuple(item.shape), np.dtype(_DTYPES[item.type]))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
