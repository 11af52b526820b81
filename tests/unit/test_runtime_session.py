"""Sessions, the bench and the module wrapper, on small models in standard operators."""

import time

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pruneaug_cli.errors import ModelFileError, UnsupportedError
from pruneaug_cli.runtime import OnnxModule, bench_models, example_arrays, open_session


def linear_model(weight, *, batch="N", name="y", dtype=TensorProto.FLOAT):
    """y = x @ weight.T, with the batch size given or free."""
    rows, cols = weight.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], [name], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", dtype, [batch, cols])],
        [helper.make_tensor_value_info(name, dtype, [batch, rows])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def scalar_output_model():
    """A fixed batch of 2, reduced to one number."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def weight():
    return np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def saved(tmp_path):
    def save(model, name="model.onnx"):
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return save


def test_the_threads_of_a_session_rest_between_runs(saved):
    weight = np.ones((512, 512), np.float32)
    session = open_session(saved(linear_model(weight)), threads=2)
    session.run([np.ones((512, 512), np.float32)])
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.02


def test_a_session_tells_its_inputs_and_runs(saved, weight):
    session = open_session(saved(linear_model(weight)))
    (port,) = session.inputs
    assert (port.name, port.shape, port.dtype) == ("x", ("N", 3), np.float32)
    assert port.fixed_batch is None
    x = np.ones((4, 3), np.float32)
    np.testing.assert_array_equal(session.run([x])[0], x @ weight.T)


def test_a_model_can_be_opened_from_its_bytes(weight):
    session = open_session(linear_model(weight, batch=5).SerializeToString(), threads=2)
    assert session.inputs[0].fixed_batch == 5
    assert (session.name, session.threads, session.library) == ("the model", 2, False)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.onnx: no such ONNX file"):
        open_session(tmp_path / "none.onnx")


def test_a_damaged_file_is_refused_in_one_line(saved, weight):
    path = saved(linear_model(weight))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelFileError, match=r"model\.onnx: ONNX Runtime \S+ cannot load it") as e:
        open_session(path)
    assert "\n" not in str(e.value)


def test_a_missing_library_is_refused_with_where_it_comes_from(saved, weight, tmp_path):
    with pytest.raises(ModelFileError, match=r"ops\.so: no such operator library") as error:
        open_session(saved(linear_model(weight)), library=tmp_path / "ops.so")
    assert error.value.hint == "`pruneaug export` copies it beside the model"


def test_a_library_that_is_none_is_refused(saved, weight, tmp_path):
    library = tmp_path / "ops.so"
    library.write_text("not a library")
    with pytest.raises(ModelFileError, match=r"ops\.so: not a library of operators"):
        open_session(saved(linear_model(weight)), library=library)


def test_arrays_that_do_not_fit_are_a_programming_error(saved, weight):
    session = open_session(saved(linear_model(weight)))
    with pytest.raises(ValueError, match="takes 1 inputs, got 2"):
        session.run([np.ones((1, 3), np.float32)] * 2)
    with pytest.raises(ValueError, match="invalid dimensions"):
        session.run([np.ones((1, 4), np.float32)])


def test_the_bench_compares_medians_and_outputs(saved, weight):
    one = saved(linear_model(weight), "one.onnx")
    other = saved(linear_model(weight + np.float32(1)), "other.onnx")
    result = bench_models(one, other, seconds=0.0)
    (x,) = example_arrays(open_session(one).inputs, seed=0)
    # the weights differ by 1 everywhere, so every output differs by the sum of the input
    assert result.max_abs_diff == pytest.approx(abs(float(x.sum())), rel=1e-5)
    assert [timing.path for timing in result.models] == [one, other]
    assert all(timing.samples >= 15 and timing.latency_s > 0 for timing in result.models)
    fast, slow = result.models
    assert result.speedup == slow.latency_s / fast.latency_s


def test_models_with_other_inputs_are_not_compared(saved, weight):
    one, other = (
        saved(linear_model(weight), "a.onnx"),
        saved(linear_model(weight.T.copy()), "b.onnx"),
    )
    with pytest.raises(ModelFileError, match=r"inputs float32\(\?x3\) against float32\(\?x2\)"):
        bench_models(one, other, seconds=0.0)


def test_a_file_of_another_fixed_batch_is_not_timed(saved, weight):
    path = saved(linear_model(weight, batch=4))
    assert bench_models(path, path, seconds=0.0, batch=4).speedup > 0
    with pytest.raises(ModelFileError, match="input 'x' has the fixed batch 4; asked for 16"):
        bench_models(path, path, seconds=0.0, batch=16)


def test_free_sizes_are_the_batch(saved, weight):
    (x,) = example_arrays(open_session(saved(linear_model(weight))).inputs, seed=0, batch=5)
    assert x.shape == (5, 3)


def test_example_inputs_are_the_same_for_the_same_seed(saved, weight):
    ports = open_session(saved(linear_model(weight, batch=4))).inputs
    (one,), (same,), (other,) = (example_arrays(ports, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (4, 3)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("given", [1, 3, 4, 9])
def test_a_file_with_a_fixed_batch_takes_any_batch(saved, weight, given):
    module = OnnxModule(open_session(saved(linear_model(weight, batch=4)))).eval()
    x = torch.arange(given * 3, dtype=torch.float32).reshape(given, 3)
    torch.testing.assert_close(module(x), x @ torch.from_numpy(weight).T, rtol=0, atol=0)


def test_inputs_may_be_given_by_name(saved, weight):
    module = OnnxModule(open_session(saved(linear_model(weight))))
    x = torch.ones(2, 3)
    torch.testing.assert_close(module(x=x), module(x))
    with pytest.raises(ValueError, match=r"takes x; got 0 by position and \['z'\] by name"):
        module(z=x)


def test_a_fixed_batch_that_an_output_lacks_cannot_be_cut(saved):
    module = OnnxModule(open_session(saved(scalar_output_model())))
    assert module(torch.ones(2, 3)).item() == 6.0
    with pytest.raises(UnsupportedError, match=r"fixed batch size 2 .* a batch of 4 cannot be cut"):
        module(torch.ones(4, 3))
