"""One file, every ONNX Runtime since 1.17: the function body and the library give one answer.

``PRUNEAUG_OLD_PYTHON`` names a Python that has another release, 1.17.3 say; CONTRIBUTING.md tells
how to make it.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest

from pruneaug_cli.export import region_model
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.kernels.program import Planes, RegionProgram, Subsample
from pruneaug_cli.kernels.reference import ReferenceBackend
from tests.native.programs import BLOCKS, network, numbers

_RUN = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    import numpy as np
    import onnxruntime

    worst, library = {}, sys.argv[2]
    for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
        data = np.load(path.with_suffix(".npz"))
        for way in ("function body", "not optimised", "library"):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            if way == "not optimised":
                level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                options.graph_optimization_level = level
            if way == "library":
                options.register_custom_ops_library(library)
            session = onnxruntime.InferenceSession(str(path), options)
            found = session.run(None, {"x0": data["x0"]})
            expected = [data[f"y{index}"] for index in range(len(found))]
            apart = max(
                float(abs(a - b).max() / (1 + abs(b).max())) for a, b in zip(found, expected)
            )
            worst[f"{path.stem}: {way}"] = apart
    print(json.dumps({"release": onnxruntime.__version__, "worst": worst}))
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every instruction and activation in every block, and the reference's answers."""
    made = tmp_path_factory.mktemp("regions")
    rng = np.random.default_rng(6)
    for block in BLOCKS:
        program = network(rng, block)
        x = numbers(rng, 2, 3, 16, 16)
        expected = ReferenceBackend().run(program, [x])
        onnx.save(region_model(program, batch=2), made / f"{block}.onnx")
        answers = {f"y{index}": array for index, array in enumerate(expected)}
        np.savez(made / f"{block}.npz", x0=x, **answers)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("which", ["the release here", "another release"])
def test_function_body_and_library_give_the_answers_of_the_reference(folder, which):
    backend = NativeBackend()
    if reason := backend.why_unavailable():
        pytest.skip(reason)
    python = (
        sys.executable if which == "the release here" else os.environ.get("PRUNEAUG_OLD_PYTHON")
    )
    if not python:
        pytest.skip("PRUNEAUG_OLD_PYTHON names no Python with another ONNX Runtime")
    done = subprocess.run(  # noqa: S603 - our own text
        [python, "-c", _RUN, str(folder), str(backend.operator_library())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["worst"]) == 3 * len(BLOCKS)
    # 25 instructions of at most 108 terms each: 2 * 25 * sqrt(108) * eps with room for the norm
    beyond = {name: apart for name, apart in found["worst"].items() if not apart <= 1e-4}
    assert not beyond, found["release"]


def test_constants_of_a_body_say_how_many_they_are():
    """ONNX Runtime 1.17 takes ``value_ints`` in a function for a tensor without axes."""
    program = RegionProgram((Planes(2, 4, 4),), (Subsample(0, (2, 2), 1, 1),), (1,), (), ())
    body = region_model(program).functions[0].node
    constants = {n.output[0]: n.attribute[0] for n in body if n.op_type == "Constant"}
    (pad,) = (node for node in body if node.op_type == "Pad")
    assert list(constants[pad.input[1]].t.dims) == [8]
    assert not [name for name, value in constants.items() if value.name == "value_ints"]
