"""Evidence gathered once, the layer database, accuracy of stitched models, price of options."""

from pruneaug_cli.evaluation.batch_norm import reestimate_batch_norm
from pruneaug_cli.evaluation.build import build_database
from pruneaug_cli.evaluation.database import DatabaseEntry, LayerDatabase, open_database
from pruneaug_cli.evaluation.evidence import (
    collect_evidence,
    collect_gradients,
    stored_evidence,
    with_gradients,
)
from pruneaug_cli.evaluation.options import price_options
from pruneaug_cli.evaluation.stitch import StitchedEvaluator, stitch

__all__ = [
    "DatabaseEntry",
    "LayerDatabase",
    "StitchedEvaluator",
    "build_database",
    "collect_evidence",
    "collect_gradients",
    "open_database",
    "price_options",
    "reestimate_batch_norm",
    "stitch",
    "stored_evidence",
    "with_gradients",
]
