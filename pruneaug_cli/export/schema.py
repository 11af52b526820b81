"""What a region looks like in an ONNX file: domain, op names, versions, metadata keys.

A region is one node of op type ``Region<i>`` in the domain ``pruneaug``::

    inputs      values (float32, 1-D initializer), masks (uint8, 1-D initializer), region inputs
    attributes  program (INTS, see kernels/encoding.py), layers (STRINGS, one per weight)
    outputs     float32, one per output of the program

Each op type is used once and comes with a model-local function of the same domain and name, whose
body is the same sub-graph in standard ops (:mod:`pruneaug_cli.export.lowering`). A runtime that
knows the op (our library) runs it; any other inlines the function and folds it to the dense graph.

``metadata_props`` carry, under the prefix ``pruneaug.``, what the reader needs to know; the
caller's own keys (plan, recipe digest, platform fingerprint) stand beside them. ``library`` names
the file that runs the regions on the machine that exported; ``target_library`` the one for
``target`` (``kernels/native/targets.py``): the same file where that machine can load it.

History (``pruneaug.schema_version``):
    1: first version.
"""

SCHEMA_VERSION = "1"
DOMAIN = "pruneaug"
DOMAIN_VERSION = 1
MAX_REGIONS = 64  # op types the library registers: a function is unique by domain and name
ONNX_OPSET = 20
IR_VERSION = 9  # the oldest that may import opset 20: ONNX Runtime 1.17 reads no newer one

METADATA_PREFIX = "pruneaug."
RESERVED_KEYS = (
    "schema_version", "version", "layers", "outside", "library", "library_digest",
    "target", "target_library", "target_library_digest",
)  # fmt: skip


def region_op(index: int) -> str:
    """Op type and function name of region ``index`` of a file."""
    if not 0 <= index < MAX_REGIONS:
        raise ValueError(f"a file holds regions 0 to {MAX_REGIONS - 1}, not {index}")
    return f"Region{index}"
