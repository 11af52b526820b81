"""Evidence gathered once, the layer database, accuracy of stitched models, price of options."""

from pruneaug_cli.evaluation.batch_norm import BatchNormCorrection, reestimate_batch_norm
from pruneaug_cli.evaluation.build import build_database
from pruneaug_cli.evaluation.database import DatabaseEntry, LayerDatabase, open_database
from pruneaug_cli.evaluation.early import EarlyStop, tallies
from pruneaug_cli.evaluation.evidence import (
    Gradients,
    collect_evidence,
    collect_gradients,
    groups_of_layers,
)
from pruneaug_cli.evaluation.evidence_store import EvidenceFile, StoredEvidence
from pruneaug_cli.evaluation.options import price_options
from pruneaug_cli.evaluation.stitch import StitchedEvaluator, stitch

__all__ = [
    "BatchNormCorrection",
    "DatabaseEntry",
    "EarlyStop",
    "EvidenceFile",
    "Gradients",
    "LayerDatabase",
    "StitchedEvaluator",
    "StoredEvidence",
    "build_database",
    "collect_evidence",
    "collect_gradients",
    "groups_of_layers",
    "open_database",
    "price_options",
    "reestimate_batch_norm",
    "stitch",
    "tallies",
]
