"""Whatever happens to a file, reading it ends in a model or in a ModelFileError."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, BsrMatrix, MatrixShape
from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import count_sparsity, read_model, region_model
from pruneaug_cli.export.schema import METADATA_PREFIX, SCHEMA_VERSION
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.program import (
    Conv,
    Epilogue,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Planes,
    RegionProgram,
    Weight,
)

FUZZ = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _file() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    grid = BlockGrid(MatrixShape(6, 27), BlockShape(4, 2))
    mask = BlockMask(grid, rng.random(grid.shape) < 0.5)
    sparse = BsrMatrix.pack(rng.standard_normal((6, 27), dtype=np.float32), mask)
    dense = rng.standard_normal((2, 6), dtype=np.float32)
    program = RegionProgram(
        (Planes(3, 5, 5),),
        (
            Conv(0, 0, (3, 3), (2, 2), (1, 1, 1, 1), epilogue=Epilogue(0, None, RELU)),
            MaxPool(1, (2, 2), (1, 1)),
            GlobalAveragePool(2),
            Linear(3, 1),
        ),
        (4,),
        (Weight("conv", sparse), Weight("fc", dense)),
        (np.ones(6, np.float32),),
    )
    model = region_model(program)
    facts = {"schema_version": SCHEMA_VERSION, "layers": '["conv", "fc"]', "outside": "[]"}
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_PREFIX + key, value
    return model


MODEL = _file()
CONTENT = MODEL.SerializeToString(deterministic=True)
INTEGERS = len(next(a for a in MODEL.graph.node[0].attribute if a.name == "program").ints)


def _read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(ModelFileError):
        read_model(path)
        count_sparsity(path)


def test_the_file_itself_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    assert read_model(path).regions[0].layers == ("conv", "fc")
    assert count_sparsity(path)["fc"] == 0.0


@FUZZ
@given(
    index=st.integers(0, INTEGERS - 1),
    value=st.sampled_from([-(2**63), -2, -1, 0, 1, 2, 3, 7, 1000, 2**31, 2**63 - 1]),
)
def test_any_number_of_a_program_may_be_wrong(tmp_path: Path, index: int, value: int) -> None:
    model = onnx.ModelProto.FromString(CONTENT)
    attribute = next(a for a in model.graph.node[0].attribute if a.name == "program")
    attribute.ints[index] = value
    _read(tmp_path / "model.onnx", model.SerializeToString())


@FUZZ
@given(position=st.integers(0, len(CONTENT) - 1), value=st.integers(0, 255))
def test_any_byte_may_be_wrong(tmp_path: Path, position: int, value: int) -> None:
    content = bytearray(CONTENT)
    content[position] = value
    _read(tmp_path / "model.onnx", bytes(content))


@FUZZ
@given(size=st.integers(0, len(CONTENT) - 1))
def test_a_file_may_end_anywhere(tmp_path: Path, size: int) -> None:
    _read(tmp_path / "model.onnx", CONTENT[:size])


@pytest.mark.parametrize("name", ["values", "masks"])
def test_a_blob_in_another_file_is_refused(tmp_path: Path, name: str) -> None:
    """A hostile file must not make us open paths of its choice."""
    model = onnx.ModelProto.FromString(CONTENT)
    blob = next(t for t in model.graph.initializer if t.name.endswith(name))
    blob.ClearField("raw_data")
    blob.data_location = onnx.TensorProto.EXTERNAL
    entry = blob.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="lies in another file, expected it in this one"):
        read_model(path)
