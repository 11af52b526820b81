"""Region programs, their encoding, and the back ends that run them."""

from pruneaug_cli.kernels.backend import Backend
from pruneaug_cli.kernels.native.backend import NativeBackend
from pruneaug_cli.kernels.reference import ReferenceBackend
from pruneaug_cli.registry import Registry

BACKENDS: Registry[Backend] = Registry(
    "kernel back end", {"reference": ReferenceBackend, "native": NativeBackend}
)

__all__ = ["BACKENDS", "Backend"]
