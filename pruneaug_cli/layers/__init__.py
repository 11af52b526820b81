"""A model seen as named weight matrices: views, trace, inputs. The model itself stays as it is."""

from pruneaug_cli.layers.matrices import (
    MatrixModule,
    conv_padding,
    input_columns,
    matrix_arrays,
    module_of,
    set_matrix,
    weight_matrix,
)
from pruneaug_cli.layers.observe import observe_inputs, record_inputs
from pruneaug_cli.layers.trace import ModelTrace, PrunableLayer, SkippedLayer, trace_model

__all__ = [
    "MatrixModule",
    "ModelTrace",
    "PrunableLayer",
    "SkippedLayer",
    "conv_padding",
    "input_columns",
    "matrix_arrays",
    "module_of",
    "observe_inputs",
    "record_inputs",
    "set_matrix",
    "trace_model",
    "weight_matrix",
]
