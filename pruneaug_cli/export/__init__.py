"""The ONNX file, both ways: plan regions, write them, read them back."""

from pruneaug_cli.export.region import region_model

__all__ = ["region_model"]
