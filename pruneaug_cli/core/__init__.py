"""Values, NumPy only: shapes, geometry, grid, mask, block-sparse matrix, choice, option, plan."""

from pruneaug_cli.core.bsr import BsrMatrix
from pruneaug_cli.core.choice import DENSE, LayerChoice
from pruneaug_cli.core.evaluation import Evaluation
from pruneaug_cli.core.geometry import ConvGeometry, Geometry, LinearGeometry, parse_geometry
from pruneaug_cli.core.grid import BlockGrid, BoolMatrix, FloatMatrix
from pruneaug_cli.core.mask import BlockMask, keep_best, removed_blocks
from pruneaug_cli.core.option import Option, undominated
from pruneaug_cli.core.pareto import pareto_front
from pruneaug_cli.core.partial import Partial
from pruneaug_cli.core.plan import Plan
from pruneaug_cli.core.shapes import BlockShape, MatrixShape

__all__ = [
    "DENSE",
    "BlockGrid",
    "BlockMask",
    "BlockShape",
    "BoolMatrix",
    "BsrMatrix",
    "ConvGeometry",
    "Evaluation",
    "FloatMatrix",
    "Geometry",
    "LayerChoice",
    "LinearGeometry",
    "MatrixShape",
    "Option",
    "Partial",
    "Plan",
    "keep_best",
    "pareto_front",
    "parse_geometry",
    "removed_blocks",
    "undominated",
]
