"""How much each block matters, which stay, and what the others become. Pure functions, no torch."""

from pruneaug_cli.criteria.catalogue import CRITERIA
from pruneaug_cli.criteria.criterion import Criterion, root_mean_square
from pruneaug_cli.criteria.evidence import EvidenceSource, LayerEvidence
from pruneaug_cli.criteria.harm import HarmMeasure, loss_rise, output_error
from pruneaug_cli.criteria.path import OBS, PruningMethod, prune_path, require_criterion
from pruneaug_cli.criteria.reconstruct import (
    Reconstruction,
    ReconstructionSettings,
    gradual,
    least_squares,
)

__all__ = [
    "CRITERIA",
    "OBS",
    "Criterion",
    "EvidenceSource",
    "HarmMeasure",
    "LayerEvidence",
    "PruningMethod",
    "Reconstruction",
    "ReconstructionSettings",
    "gradual",
    "least_squares",
    "loss_rise",
    "output_error",
    "prune_path",
    "require_criterion",
    "root_mean_square",
]
