"""The ONNX file, both ways: plan regions, write them, read them back."""

from pruneaug_cli.export.planner import OutsideNode
from pruneaug_cli.export.read import RegionRecord, SparseModel, count_sparsity, read_model
from pruneaug_cli.export.region import region_model
from pruneaug_cli.export.write import ExportedFile, TargetLibrary, export_dense, export_sparse

__all__ = [
    "ExportedFile",
    "OutsideNode",
    "RegionRecord",
    "SparseModel",
    "TargetLibrary",
    "count_sparsity",
    "export_dense",
    "export_sparse",
    "read_model",
    "region_model",
]
