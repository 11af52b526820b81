"""pruneaug: from a trained PyTorch checkpoint to a block-sparse ONNX model that runs faster."""

__version__ = "0.1.0"
