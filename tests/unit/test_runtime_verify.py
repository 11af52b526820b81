"""Verification: a right file passes, a wrong one is refused; rounding is told from error."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.errors import ModelFileError, VerificationError
from pruneaug_cli.export import region_model
from pruneaug_cli.kernels.program import Epilogue, Linear, RegionProgram, Rows, Weight
from pruneaug_cli.runtime import verify_export
from pruneaug_cli.runtime.verify import rounding_bound

ROUNDOFF = 2.0**-24


@pytest.fixture
def case(tmp_path):
    """A block-sparse Linear in a file: the path, an input, what it should answer."""
    random = np.random.default_rng(0)
    grid = BlockGrid(MatrixShape(6, 14), BlockShape(4, 1))
    mask = BlockMask(grid, random.random(grid.shape) < 0.5)
    weight = mask.apply(random.standard_normal((6, 14)).astype(np.float32))
    bias = random.standard_normal(6).astype(np.float32)
    program = RegionProgram(
        (Rows(14),),
        (Linear(0, 0, Epilogue(bias=0)),),
        (1,),
        (Weight("fc", BsrMatrix.pack(weight, mask)),),
        (bias,),
    )
    model = region_model(program, batch=3)
    helper.set_model_props(
        model,
        {
            "pruneaug.schema_version": "1",
            "pruneaug.layers": json.dumps(["fc"]),
            "pruneaug.outside": "[]",
        },
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    x = random.standard_normal((3, 14)).astype(np.float32)
    return path, x, x @ weight.T + bias


def test_a_right_file_passes_and_says_how_close_it_is(case):
    path, x, y = case
    result = verify_export(path, inputs=[x], expected=[y], library=None)
    assert result.max_abs_diff_library is None
    assert result.max_abs_diff_stock <= result.tolerance
    assert result.tolerance == pytest.approx(rounding_bound(path) * np.abs(y).max())


def test_the_bound_follows_the_formula(case):
    path, _, _ = case
    assert rounding_bound(path) == pytest.approx(2 * 8 * ROUNDOFF * (1 + np.sqrt(14 + 2)))


def test_the_bound_counts_products_in_standard_operators(tmp_path):
    tensors = [
        onnx.numpy_helper.from_array(np.zeros((4, 2, 3, 3), np.float32), "w"),
        onnx.numpy_helper.from_array(np.zeros((5, 4), np.float32), "v"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], tensors)
    onnx.save(helper.make_model(graph), tmp_path / "dense.onnx")
    expected = 2 * 8 * ROUNDOFF * (1 + np.sqrt(2 * 9 + 2) + np.sqrt(5 + 2))
    assert rounding_bound(tmp_path / "dense.onnx") == pytest.approx(expected)


def test_a_wrong_output_is_refused_with_how_far_off_it_is(case):
    path, x, y = case
    wrong = y.copy()
    wrong[1, 2] += 0.25
    with pytest.raises(VerificationError) as error:
        verify_export(path, inputs=[x], expected=[wrong], library=None)
    message = str(error.value)
    assert message.startswith(f"{path}: output 'y0' differs from the model's by 0.25 in ONNX Runt")
    assert "rounding explains at most " in message
    assert error.value.hint is not None
    assert "please report it" in error.value.hint


def test_a_nan_is_no_rounding(case):
    path, x, y = case
    with pytest.raises(VerificationError, match="differs from the model's by nan"):
        verify_export(path, inputs=[np.full_like(x, np.nan)], expected=[y], library=None)


def test_another_shape_is_refused(case):
    path, x, y = case
    with pytest.raises(
        VerificationError, match=r"output 'y0' has shape \(3, 6\) .* the model's has \(3, 5\)"
    ):
        verify_export(path, inputs=[x], expected=[y[:, :5]], library=None)
    with pytest.raises(VerificationError, match="the file has 1 outputs, the model 2"):
        verify_export(path, inputs=[x], expected=[y, y], library=None)


def test_a_file_the_checker_refuses_is_no_model(case):
    path, x, y = case
    model = onnx.load(path)
    model.graph.node[0].input[2] = "nowhere"
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"model\.onnx: not a valid ONNX model: "):
        verify_export(path, inputs=[x], expected=[y], library=None)
