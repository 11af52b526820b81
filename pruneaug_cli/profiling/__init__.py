"""Measuring a platform: what machine it is, how long layers take on it, a profile of both."""

from pruneaug_cli.profiling.cells import DEFAULT_BLOCKS, DEFAULT_SPARSITIES
from pruneaug_cli.profiling.host import host_facts, usable_cores
from pruneaug_cli.profiling.in_place import layer_shares
from pruneaug_cli.profiling.measure import profile_platform, why_not_extend
from pruneaug_cli.profiling.timer import LayerTimer, SessionTimer

__all__ = [
    "DEFAULT_BLOCKS",
    "DEFAULT_SPARSITIES",
    "LayerTimer",
    "SessionTimer",
    "host_facts",
    "layer_shares",
    "profile_platform",
    "usable_cores",
    "why_not_extend",
]
