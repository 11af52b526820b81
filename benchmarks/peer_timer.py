"""Runs in a peer's own environment: times a peer's engine beside dense ONNX Runtime.

    python peer_timer.py ENGINE MODEL ANCHOR SHAPE THREADS SECONDS

MODEL is the file the peer runs, ANCHOR the dense file that ONNX Runtime runs here and in the
benchmark's own process. Prints one JSON object: version, peer_s, anchor_s, max_abs_diff. Nothing of
pruneaug is imported: the environment holds the peer, ONNX Runtime and NumPy only.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime

SAMPLE_S = 1e-2
Call = Callable[[], object]


def anchor(path: str, x: np.ndarray, threads: int) -> tuple[Call, np.ndarray]:
    """ONNX Runtime on the dense file, as pruneaug_cli/runtime/session.py opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    binding = session.io_binding()
    binding.bind_cpu_input(name, x)
    binding.bind_output(result)
    return lambda: session.run_with_iobinding(binding), session.run(None, {name: x})[0]


def deepsparse(path: str, x: np.ndarray, threads: int) -> tuple[Call, np.ndarray, str]:
    """DeepSparse: one stream, latency."""
    import deepsparse as package

    engine = package.Engine(model=path, batch_size=x.shape[0], num_cores=threads, num_streams=1)
    return lambda: engine.run([x], val_inp=False), engine.run([x])[0], package.__version__


def openvino(path: str, x: np.ndarray, threads: int) -> tuple[Call, np.ndarray, str]:
    """OpenVINO: one stream, float32, input shared."""
    import openvino as package

    core = package.Core()
    model = core.read_model(path)
    model.reshape(list(x.shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(package.Tensor(x, shared_memory=True))
    request.infer()
    return request.infer, np.array(request.get_output_tensor().data), package.__version__


def alternate(calls: Sequence[Call], seconds: float) -> list[float]:
    """Median wall-clock seconds of each call, in turns; engines have threads of their own."""
    batches = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        batches.append(max(1, round(SAMPLE_S / max(time.perf_counter() - start, 1e-7))))
    samples: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[0]) < 15:
        for call, batch, taken in zip(calls, batches, samples, strict=True):
            call()  # brings back into the caches what the other has taken
            start = time.perf_counter()
            for _ in range(batch):
                call()
            taken.append((time.perf_counter() - start) / batch)
    return [statistics.median(taken) for taken in samples]


def main() -> None:
    """Time and print."""
    engine, model, dense, shape, threads, seconds = sys.argv[1:]
    x = np.random.default_rng(0).standard_normal([int(n) for n in shape.split("x")], np.float32)
    open_engine = {"deepsparse": deepsparse, "openvino": openvino}[engine]
    call, answer, version = open_engine(model, x, int(threads))
    peer_call, expected = anchor(dense, x, int(threads))
    peer_s, anchor_s = alternate([call, peer_call], float(seconds))
    difference = float(np.abs(answer - expected).max())
    row = {"version": version.split("-")[0], "peer_s": peer_s, "anchor_s": anchor_s}
    print(json.dumps(row | {"max_abs_diff": difference}))


if __name__ == "__main__":
    main()
