"""Exported files: what is in them, what is refused when writing, what is refused when reading."""

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from pruneaug_cli.core import BlockGrid, BlockMask, BlockShape, MatrixShape, keep_best
from pruneaug_cli.errors import (
    InputError,
    ModelFileError,
    PlanError,
    UnsupportedError,
    VerificationError,
)
from pruneaug_cli.export import (
    ExportedFile,
    OutsideNode,
    count_sparsity,
    export_dense,
    export_sparse,
    read_model,
)
from pruneaug_cli.export.matching import planned_weights
from pruneaug_cli.kernels.activation import RELU
from pruneaug_cli.kernels.program import Epilogue, Linear, Rows, Weight

BLOCK = BlockShape(8, 1)
FIRST = 512


class Mlp(nn.Module):
    """Two layers in one region, an Elu outside, one dense layer after it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FIRST, 256)
        self.second = nn.Linear(256, 256)
        self.last = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.first(x))
        hidden = hidden + self.second(hidden)
        return self.last(functional.elu(hidden))


@dataclass(frozen=True)
class Case:
    model: Mlp
    masks: dict[str, BlockMask]
    library: Path
    dense: ExportedFile
    sparse: ExportedFile


def prune(model: nn.Module, layers: list[str], sparsity: float) -> dict[str, BlockMask]:
    rng = np.random.default_rng(7)
    masks = {}
    for name in layers:
        weight = model.get_parameter(f"{name}.weight")
        grid = BlockGrid(MatrixShape(*weight.shape), BLOCK)
        masks[name] = BlockMask(grid, keep_best(rng.random(grid.shape), sparsity))
        with torch.no_grad():
            weight.mul_(torch.from_numpy(masks[name].elements()))
    return masks


def export_again(case: Case, path: Path, **changes: object) -> ExportedFile:
    given: dict[str, object] = {
        "masks": case.masks,
        "layers": ["first", "second", "last"],
        "library": case.library,
        "metadata": {"plan": "{}", "recipe_digest": "abc"},
    }
    return export_sparse(case.model, (torch.zeros(1, FIRST),), {}, path, **(given | changes))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("export")
    model = Mlp()
    masks = prune(model, ["first", "second"], 0.9)
    library = tmp_path_factory.mktemp("cache") / "pruneaug_ops-test.so"
    library.write_bytes(b"a library")
    dense = export_dense(model, (torch.zeros(1, FIRST),), {}, folder / "dense.onnx")
    unfinished = Case(model, masks, library, dense, dense)
    sparse = export_again(unfinished, folder / "sparse.onnx")
    return Case(model, masks, library, dense, sparse)


def test_the_file_is_as_small_as_its_density(case: Case) -> None:
    """Values, one bit per block, biases: the planned layers leave nothing else behind."""
    stored = sum(mask.blocks * BLOCK.size for mask in case.masks.values())
    total = sum(mask.grid.matrix.size for mask in case.masks.values())
    density = stored / total
    assert case.sparse.size_bytes <= (1.05 * density + 0.02) * case.dense.size_bytes


def test_the_file_passes_the_full_check(case: Case) -> None:
    onnx.checker.check_model(onnx.load(case.sparse.path), full_check=True)


def test_the_file_says_what_it_holds(case: Case) -> None:
    found = read_model(case.sparse.path)
    (first,) = found.regions
    assert (first.node, first.layers) == ("Region0", ("first", "second"))
    assert first.program.inputs == (Rows(FIRST),)
    assert first.program.instructions == (
        Linear(0, 0, Epilogue(bias=0, activation=RELU)),
        Linear(1, 1, Epilogue(bias=1, residual=1)),
    )
    assert found.metadata["plan"] == "{}"
    assert found.metadata["recipe_digest"] == "abc"
    assert found.metadata["library"] == case.library.name


def test_the_blobs_hold_the_weights_of_the_model(case: Case) -> None:
    first = read_model(case.sparse.path).regions[0]
    for weight in first.program.weights:
        expected = case.model.get_parameter(f"{weight.name}.weight").detach().numpy()
        np.testing.assert_array_equal(weight.dense(), expected)


def test_sparsity_is_counted_from_the_bits(case: Case) -> None:
    assert count_sparsity(case.sparse.path) == {
        "first": case.masks["first"].sparsity,
        "second": case.masks["second"].sparsity,
        "last": 0.0,
    }


def test_what_stays_outside_is_told_and_kept_in_the_file(case: Case) -> None:
    elu, last = case.sparse.outside
    assert elu == OutsideNode("Elu", elu.name, "Elu has no kernel")
    assert (last.op, last.reason) == ("Gemm", "no sparse layer in its part of the graph")
    assert read_model(case.sparse.path).outside == case.sparse.outside


def test_the_library_lies_beside_the_model(case: Case) -> None:
    assert case.sparse.library == case.sparse.path.parent / case.library.name
    assert case.sparse.library.read_bytes() == b"a library"


def test_the_same_model_gives_the_same_bytes(case: Case, tmp_path: Path) -> None:
    again = export_again(case, tmp_path / "again.onnx")
    assert again.digest == case.sparse.digest


def test_nothing_of_this_machine_is_in_the_files(case: Case) -> None:
    for path in (case.sparse.path, case.dense.path):
        content = path.read_bytes()
        assert str(Path(__file__).parent).encode() not in content
        assert b"pkg.torch" not in content


def test_dense_layers_get_regions_when_asked_for(case: Case, tmp_path: Path) -> None:
    """What a profile's calibration measures: the whole network dense on our kernels."""
    file = export_again(case, tmp_path / "dense.onnx", masks={}, dense_regions=True)
    assert file.regions == 2
    assert set(count_sparsity(file.path).values()) == {0.0}


def match(case: Case, layers: list[str], **masks: BlockMask) -> dict[ir.Value, Weight]:
    """The planned layers in the dense graph, of a model with one layer more than that."""
    graph, model = ir.load(case.dense.path).graph, copy.deepcopy(case.model)
    model.spare = nn.Linear(4, 4)
    return planned_weights(graph, model, layers, masks)


def test_a_layer_that_is_not_in_the_graph_is_named(case: Case) -> None:
    message = r"layer 'spare': its weight is not in the exported graph \(1 of 2 planned layers"
    with pytest.raises(UnsupportedError, match=message):
        match(case, ["first", "spare"])


def test_weights_in_removed_blocks_are_refused(case: Case) -> None:
    kept = case.masks["first"].kept.copy()
    kept[0, np.flatnonzero(kept[0])[0]] = False
    mask = BlockMask(case.masks["first"].grid, kept)
    with pytest.raises(VerificationError, match=r"layer 'first': 8 weights of removed blocks"):
        match(case, ["first"], first=mask)


def test_a_mask_of_another_layer_is_refused(case: Case) -> None:
    message = r"layer 'last': the mask is for a 256x512 matrix, not 10x256"
    with pytest.raises(PlanError, match=message):
        match(case, ["last"], last=case.masks["first"])


def test_a_weight_that_lost_its_name_is_found_by_its_values(case: Case) -> None:
    """The exporter transposes a weight into a nameless constant when the input has three axes."""
    model = onnx.load(case.dense.path)
    for tensor in model.graph.initializer:
        if tensor.name == "second.weight":
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(array.T.copy(), "val_3"))
    for node in model.graph.node:
        if "second.weight" in node.input:
            node.op_type, node.input[1] = "MatMul", "val_3"
            del node.attribute[:], node.input[2:]
    found = planned_weights(ir.from_proto(model).graph, case.model, ["first", "second"], case.masks)
    assert {value.name: weight.name for value, weight in found.items()} == {
        "first.weight": "first",
        "val_3": "second",
    }


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    case: Case, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "m.onnx"
    with pytest.raises(InputError, match=rf"{path}: cannot be written: "):
        export_again(case, path)
    with pytest.raises(InputError, match=rf"{tmp_path}: cannot be written: a folder"):
        export_again(case, tmp_path)


def test_a_missing_library_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.so: cannot be read as an operator library"):
        export_again(case, tmp_path / "m.onnx", library=tmp_path / "none.so")


class Branches(nn.Module):
    """Takes another way for other data: no graph says that."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


def test_what_torch_cannot_export_is_refused_with_its_reason(tmp_path: Path) -> None:
    message = r"torch cannot export Branches to ONNX: GuardOnDataDependentSymNode: Could not guard"
    with pytest.raises(UnsupportedError, match=message) as error:
        export_dense(Branches(), (torch.zeros(2, 3),), {}, tmp_path / "m.onnx")
    assert error.value.hint is not None
    assert "torch.onnx.export" in error.value.hint


class OneBatch(nn.Module):
    """Only the batch it was written for."""

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor) -> torch.Tensor:
        return (x + shift).reshape(3, 4)


def test_a_model_of_one_batch_size_keeps_it(tmp_path: Path) -> None:
    inputs = (torch.zeros(3, 4),), {"shift": torch.zeros(3, 4)}
    file = export_dense(OneBatch(), *inputs, tmp_path / "m.onnx")
    shape = onnx.load(file.path).graph.input[0].type.tensor_type.shape
    assert not file.dynamic_batch
    assert [size.dim_value for size in shape.dim] == [3, 4]


def test_exporting_is_silent_and_leaves_the_model_as_it_was(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    model[1].eval()
    level = logging.getLogger("torch.onnx").level
    file = export_dense(model, (torch.zeros(1, 4),), {}, tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    assert file.dynamic_batch
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert logging.getLogger("torch.onnx").level == level


def test_metadata_keys_of_our_own_are_not_taken(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'layers' is written by export itself"):
        export_again(case, tmp_path / "m.onnx", metadata={"layers": "x"})


Damage = Callable[[onnx.ModelProto], None]


def _attribute(model: onnx.ModelProto, name: str) -> onnx.AttributeProto:
    return next(a for a in _region(model).attribute if a.name == name)


def _region(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.domain == "pruneaug")


def _blob(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def set_metadata(key: str, value: str) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        entry = next(e for e in model.metadata_props if e.key == f"pruneaug.{key}")
        entry.value = value

    return damage


def set_program(index: int, value: int) -> Damage:
    return lambda model: _attribute(model, "program").ints.__setitem__(index, value)


def flip_a_mask_bit(model: onnx.ModelProto) -> None:
    blob = _blob(model, "Region0.masks")
    blob.raw_data = bytes([blob.raw_data[0] ^ 128]) + blob.raw_data[1:]


def shorten_values(model: onnx.ModelProto) -> None:
    blob = _blob(model, "Region0.values")
    blob.dims[0] -= 1
    blob.raw_data = blob.raw_data[:-4]


def retype_masks(model: onnx.ModelProto) -> None:
    _blob(model, "Region0.masks").data_type = onnx.TensorProto.INT8


def feed_values(model: onnx.ModelProto) -> None:
    _region(model).input[0] = "x"


def drop_a_layer_name(model: onnx.ModelProto) -> None:
    del _attribute(model, "layers").strings[0]


def drop_program(model: onnx.ModelProto) -> None:
    _attribute(model, "program").name = "programme"


def drop_functions(model: onnx.ModelProto) -> None:
    del model.functions[:]


def rename_op(model: onnx.ModelProto) -> None:
    _region(model).op_type = "Region64"


def add_an_output(model: onnx.ModelProto) -> None:
    _region(model).output.append("more")


def drop_inputs(model: onnx.ModelProto) -> None:
    del _region(model).input[2:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            set_metadata("schema_version", "9"),
            "version 9, expected a block-sparse model of version",
        ),
        (set_metadata("outside", "3"), "metadata: 'outside' should be a list of dict, got '3'"),
        (set_metadata("outside", '[{"a": 1}]'), "metadata: "),
        (set_metadata("layers", "[1"), "metadata: "),
        (set_program(0, 1), r"node 'Region0': program version 1 is not the supported 2: export"),
        (set_program(4, 4), r"node 'Region0': program ends after"),
        (set_program(6, 7), r"node 'Region0': unknown kind of input 7"),
        (flip_a_mask_bit, r"node 'Region0': weight0: mask keeps \d+ blocks, the record says"),
        (shorten_values, r"node 'Region0': bias: values lie outside the blob of"),
        (retype_masks, r"'Region0.masks' should be a vector of UINT8, got element type 3 of"),
        (feed_values, r"node 'Region0': input 'x' is not an initializer"),
        (drop_a_layer_name, r"the node has 1 layer names, its program 2"),
        (drop_program, r"expected one attribute 'program' of type INTS"),
        (drop_functions, r"there is no function 'Region0' for runtimes without our library"),
        (rename_op, r"unknown op 'Region64', expected Region0 to Region63"),
        (add_an_output, r"the node has 2 outputs, its program 1"),
        (drop_inputs, r"expected values, masks and inputs, got 2 inputs"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(
    case: Case, tmp_path: Path, damage: Damage, message: str
) -> None:
    model = onnx.load(case.sparse.path)
    damage(model)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=message) as error:
        read_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_files_of_another_kind_are_refused(case: Case, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(case.sparse.path.read_bytes()[:-100])
    text = tmp_path / "text.onnx"
    text.write_text(json.dumps({"no": "model"}))
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    for path, message in [
        (case.dense.path, "a model without block-sparse regions, expected a block-sparse model"),
        (cut, "not an ONNX file, or cut short"),
        (text, "not an ONNX file, or cut short"),
        (empty, "expected an ONNX model, found no nodes"),
        (tmp_path / "none.onnx", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ]:
        with pytest.raises(ModelFileError, match=message):
            read_model(path)
