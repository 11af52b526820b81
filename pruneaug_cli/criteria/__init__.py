"""How much each block matters, which stay, and what the others become. Pure functions, no torch."""

from pruneaug_cli.criteria.criterion import Criterion, root_mean_square
from pruneaug_cli.criteria.evidence import LayerEvidence
from pruneaug_cli.criteria.hessian import HessianDiagonal
from pruneaug_cli.criteria.magnitude import Magnitude
from pruneaug_cli.criteria.reconstruct import (
    Reconstruction,
    ReconstructionSettings,
    gradual,
    least_squares,
    output_error,
)
from pruneaug_cli.criteria.taylor import Taylor
from pruneaug_cli.registry import Registry

CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    {
        "magnitude": Magnitude,
        "taylor": Taylor,
        "hessian-diagonal": HessianDiagonal,
    },
)

__all__ = [
    "CRITERIA",
    "Criterion",
    "LayerEvidence",
    "Reconstruction",
    "ReconstructionSettings",
    "gradual",
    "least_squares",
    "output_error",
    "root_mean_square",
]
