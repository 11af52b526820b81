"""Opens damaged models in ONNX Runtime, in a process of its own.

Run as ``python -m tests.native.models LIBRARY SEED COUNT OUT``.

Each model is written to OUT before it is opened, so that after a crash the file is the one to
repeat with. Prints how many were refused by us, refused by ONNX Runtime, and ran, as JSON.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pruneaug_cli.errors import ModelFileError
from pruneaug_cli.export import region_model
from pruneaug_cli.runtime import open_session
from tests.native.fuzz import damage_program
from tests.native.programs import convolution, network, product

_TYPES = (TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.DOUBLE)
_MOST_FLOATS = 1 << 20


def damaged_model(rng: np.random.Generator, good: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with one to three changes; mostly of what is ours, the region node and its data."""
    model = onnx.ModelProto()
    model.CopyFrom(good)
    if rng.random() < 0.8:
        del model.functions[:]  # else ONNX Runtime checks the body first
    for _ in range(rng.integers(1, 4)):
        rng.choice(_CHANGES)(rng, model)
    return model


def _change_program(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "program" and attribute.ints:
            changed = damage_program(rng, np.array(attribute.ints, np.int64))
            attribute.CopyFrom(helper.make_attribute("program", changed.tolist() or [0]))


def _change_attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = model.graph.node[0]
    values = ("text", 3, 2.5, [1.5, 2.5], ["a", "b"], [2])
    name = str(rng.choice(["program", "layers", "other"]))
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if rng.random() < 0.8:
        node.attribute.append(helper.make_attribute(name, values[rng.integers(len(values))]))


def _change_blob(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    index = int(rng.integers(len(model.graph.initializer)))
    blob = model.graph.initializer[index]
    array = numpy_helper.to_array(blob).reshape(-1).copy()
    match rng.integers(4):
        case 0:
            array = array[: rng.integers(array.size + 1)]
        case 1:
            array = np.concatenate([array, array])
        case 2:
            array = array.astype(helper.tensor_dtype_to_np_dtype(int(rng.choice(_TYPES))))
        case _:
            raw = array.view(np.uint8)
            if raw.size:
                raw[rng.integers(raw.size)] ^= np.uint8(1 << rng.integers(8))
    shape = (1, -1) if rng.random() < 0.2 and array.size else (-1,)
    blob.CopyFrom(numpy_helper.from_array(array.reshape(shape), blob.name))


def _change_ports(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = model.graph.node[0]
    names = [*node.input, "", "nowhere"]
    match rng.integers(5):
        case 0 if node.input:
            node.input.pop(int(rng.integers(len(node.input))))
        case 1:
            node.input.append(str(rng.choice(names)))
        case 2 if node.input:
            node.input[int(rng.integers(len(node.input)))] = str(rng.choice(names))
        case 3 if len(node.output) > 1:
            node.output.pop()
        case _:
            node.output.append("more")


def _change_shape(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    port = model.graph.input[int(rng.integers(len(model.graph.input)))]
    rank = int(rng.integers(10))
    sizes = [int(rng.integers(9)) if rng.random() < 0.5 else f"d{axis}" for axis in range(rank)]
    kind = TensorProto.FLOAT if rng.random() < 0.9 else int(rng.choice(_TYPES))
    port.CopyFrom(helper.make_tensor_value_info(port.name, kind, sizes))
    del model.graph.value_info[:]


def _change_bytes(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Flip bits of the node as it lies in a file; what does not parse any more stays as it was."""
    content = bytearray(model.graph.node[0].SerializeToString())
    for _ in range(rng.integers(1, 4)):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    try:
        node = onnx.NodeProto.FromString(bytes(content))
    except Exception:  # noqa: BLE001 - protobuf's own error class differs between its versions
        return
    if node.domain == "pruneaug":  # what ONNX Runtime does with its own operators is its affair
        model.graph.node[0].CopyFrom(node)


_CHANGES = (
    _change_program, _change_program, _change_program, _change_attribute, _change_blob,
    _change_blob, _change_ports, _change_shape, _change_bytes,
)  # fmt: skip


def outcome(rng: np.random.Generator, path: Path, library: Path) -> str:
    try:
        session = open_session(path, library=library)
    except ModelFileError as error:
        if "pruneaug: " not in str(error):  # "pruneaug:Region0" is ONNX Runtime speaking of us
            return "refused by ONNX Runtime"
        return "refused by us" if "pruneaug: node '" in str(error) else "names no node"
    arrays = []
    for port in session.inputs:
        shape = [size if isinstance(size, int) else int(rng.integers(1, 4)) for size in port.shape]
        arrays.append(rng.standard_normal(shape).astype(port.dtype))
    if sum(array.size for array in arrays) > _MOST_FLOATS:
        return "too large to run"
    try:
        session.run(arrays)
    except ValueError as error:
        return "refused to run" if str(error) else "says nothing"
    return "ran"


def main() -> None:
    library, seed, count, out = Path(sys.argv[1]), *map(int, sys.argv[2:4]), Path(sys.argv[4])
    rng = np.random.default_rng(seed)
    good = [region_model(network(rng, "4x1"))]
    good += [region_model(make(rng)) for make in (convolution, product) for _ in range(4)]
    counts: Counter[str] = Counter()
    for _ in range(count):
        model = damaged_model(rng, good[rng.integers(len(good))])
        out.write_bytes(model.SerializeToString())
        counts[outcome(rng, out, library)] += 1
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main()
