"""The ONNX Runtime operators: they compute regions, win over the function body, and never crash."""

import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import region_model
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.program import (
    Add,
    Conv,
    Epilogue,
    GlobalAveragePool,
    Linear,
    Planes,
    RegionProgram,
    Rows,
    Weight,
)
from pruneaug_cli.kernels.reference import ReferenceBackend
from pruneaug_cli.runtime import open_session


def sparse_weight(rows, cols, random):
    grid = BlockGrid(MatrixShape(rows, cols), BlockShape(4, 1))
    mask = BlockMask(grid, random.random(grid.shape) < 0.4)
    return Weight("w", BsrMatrix.pack(random.standard_normal((rows, cols), np.float32), mask))


def linear_program(random, features=6, outputs=5):
    bias = random.standard_normal(outputs, np.float32)
    return RegionProgram(
        (Rows(features),),
        (Linear(0, 0, Epilogue(bias=0, activation=RELU)),),
        (1,),
        (sparse_weight(outputs, features, random),),
        (bias,),
    )


def conv_program(random):
    """Two inputs, a residual, and outputs of both kinds."""
    return RegionProgram(
        (Planes(3, 6, 5), Planes(4, 6, 5)),
        (
            Conv(0, 0, (3, 3), pads=(1, 1, 1, 1), epilogue=Epilogue(residual=1)),
            Add(2, 1, RELU),
            GlobalAveragePool(3),
        ),
        (3, 4),
        (sparse_weight(4, 27, random),),
        (),
    )


@pytest.fixture
def random():
    return np.random.default_rng(5)


def model_of(program, *, batch="N", rank=2):
    """The region's model with a free batch; rows may have more leading sizes than one."""
    model = region_model(program)
    for value in (*model.graph.input, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        sizes[0].Clear()
        sizes[0].dim_param = batch
        for _ in range(rank - 2):
            sizes.insert(0, onnx.TensorShapeProto.Dimension(dim_param="M"))
    return model


def open_bytes(model, library, **options):
    return open_session(model.SerializeToString(), library=library, **options)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_region_with_two_inputs_and_outputs_equals_the_reference(
    library, random, samples, threads
):
    program = conv_program(random)
    inputs = [random.standard_normal((samples, c, 6, 5), np.float32) for c in (3, 4)]
    session = open_bytes(model_of(program), library, threads=threads)
    results = session.run(inputs)
    assert [result.shape for result in results] == [(samples, 4, 6, 5), (samples, 4)]
    expected = ReferenceBackend().run(program, inputs)
    # 27 products and two sums per output: 29 roundings of values of magnitude below 16
    for result, truth in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, truth, rtol=0, atol=2 * 29 * 16 * 2.0**-24)


@pytest.mark.parametrize("shape", [(6,), (2, 6), (2, 3, 6), (2, 0, 6)])
def test_rows_keep_their_leading_sizes(library, random, shape):
    program = linear_program(random)
    model = region_model(program)
    for value, last in ((model.graph.input[0], 6), (model.graph.output[0], 5)):
        sizes = [*shape[:-1], last]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, sizes))
    (result,) = open_bytes(model, library).run([np.ones(shape, np.float32)])
    assert result.shape == (*shape[:-1], 5)
    row = ReferenceBackend().run(program, [np.ones((1, 6), np.float32)])[0]
    np.testing.assert_allclose(result, np.broadcast_to(row[0], result.shape), rtol=1e-5)


def test_no_samples_give_no_results(library, random):
    inputs = [np.ones((0, c, 6, 5), np.float32) for c in (3, 4)]
    results = open_bytes(model_of(conv_program(random)), library).run(inputs)
    assert [result.shape for result in results] == [(0, 4, 6, 5), (0, 4)]


def test_our_kernel_wins_when_registered_and_the_function_body_runs_without(library, random):
    program = linear_program(random, features=6, outputs=6)
    model = model_of(program)
    body = model.functions[0]
    del body.node[:]
    seven = helper.make_node("Constant", [], ["seven"], value_float=7.0)
    body.node.extend([seven, helper.make_node("Mul", [body.input[2], "seven"], body.output)])
    x = np.ones((2, 6), np.float32)
    (stock,) = open_bytes(model, None).run([x])
    np.testing.assert_array_equal(stock, np.full((2, 6), 7.0, np.float32))
    (ours,) = open_bytes(model, library).run([x])
    np.testing.assert_allclose(ours, ReferenceBackend().run(program, [x])[0], rtol=1e-5)


def test_every_op_name_of_a_file_is_registered(library, random):
    model = model_of(linear_program(random))
    for name in ("Region0", "Region63"):
        model.graph.node[0].op_type = model.functions[0].name = name
        assert open_bytes(model, library).run([np.ones((1, 6), np.float32)])[0].shape == (1, 5)


def test_sessions_may_be_made_and_run_on_many_threads(library, random):
    program = conv_program(random)
    inputs = [random.standard_normal((2, c, 6, 5), np.float32) for c in (3, 4)]
    content = model_of(program).SerializeToString()
    shared = open_session(content, library=library)
    truth = shared.run(inputs)[0]
    results = []

    def work():
        own = open_session(content, library=library)
        results.extend(session.run(inputs)[0] for session in (own, shared) for _ in range(10))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 80
    for result in results:
        np.testing.assert_array_equal(result, truth)


def set_program(model, integers):
    model.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("program", integers))


def drop_program(model):
    del model.graph.node[0].attribute[:]


def empty_program(model):
    attribute = onnx.AttributeProto(name="program", type=onnx.AttributeProto.INTS)
    model.graph.node[0].attribute[0].CopyFrom(attribute)


def free_masks(model):
    masks = model.graph.initializer[1]
    model.graph.input.append(
        helper.make_tensor_value_info(masks.name, TensorProto.UINT8, list(masks.dims))
    )
    del model.graph.initializer[1]


def second_input(model):
    model.graph.node[0].input.append("x0")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_program, "pruneaug: node 'Region0': expected an attribute 'program' of integers"),
        (lambda m: set_program(m, [0.5]), "pruneaug: node 'Region0': "),
        (lambda m: set_program(m, [2] * 40), "pruneaug: node 'Region0': "),
        (empty_program, "pruneaug: node 'Region0': "),
        (free_masks, "node 'Region0': input 1 (masks) must be an initializer of the model"),
        (
            second_input,
            "has 1 inputs and 1 outputs, the node 2 (after values and masks) and 1",
        ),
    ],
    ids=["no-program", "floats", "version", "empty", "free-masks", "inputs"],
)
def test_a_node_that_makes_no_sense_is_refused_at_load_by_name(library, random, spoil, message):
    model = model_of(linear_program(random))
    spoil(model)
    del model.functions[:]  # or ONNX Runtime would check the body first
    with pytest.raises(ModelFileError) as error:
        open_bytes(model, library)
    assert message in str(error.value)


def test_float64_inputs_are_refused_by_onnx_runtime(library, random):
    model = model_of(linear_program(random))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    del model.functions[:]
    with pytest.raises(ModelFileError, match=r"tensor\(double\).* of operator \(Region0\)"):
        open_bytes(model, library)


def test_inputs_of_another_shape_are_refused_when_run(library, random):
    model = model_of(conv_program(random))
    for value in model.graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, list("abcd")))
    session = open_bytes(model, library)
    good, other = (np.ones((2, c, 6, 5), np.float32) for c in (3, 4))
    with pytest.raises(
        ValueError, match=r"region input 0: expected shape \(N, 3, 6, 5\), got \(2, 3, 6, 4\)"
    ):
        session.run([np.ones((2, 3, 6, 4), np.float32), other])
    with pytest.raises(ValueError, match="region input 1 has 1 samples, input 0 has 2"):
        session.run([good, other[:1]])


def test_rows_of_another_length_are_refused_when_run(library, random):
    model = model_of(linear_program(random))
    value = model.graph.input[0]
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, None))
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.ClearField("shape")
    session = open_bytes(model, library)
    with pytest.raises(
        ValueError, match=r"region input 0: expected shape \(\.\.\., 6\), got \(2, 7\)"
    ):
        session.run([np.ones((2, 7), np.float32)])
    with pytest.raises(ValueError, match=r"expected shape \(\.\.\., 6\), got \(\)"):
        session.run([np.ones((), np.float32)])
    with pytest.raises(ValueError, match="region input 0: expected at most 8 dimensions, got 9"):
        session.run([np.ones((1,) * 8 + (6,), np.float32)])
