"""The native back end: C kernels, built for this machine on first use."""

from pruneaug_cli.kernels.native.backend import NativeBackend
from pruneaug_cli.kernels.native.compiler import Compiler

__all__ = ["Compiler", "NativeBackend"]
