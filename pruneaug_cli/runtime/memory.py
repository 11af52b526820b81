"""What the regions of an exported file take in memory while a session holds it."""

from dataclasses import dataclass
from pathlib import Path

from pruneaug_cli.export import read_model
from pruneaug_cli.kernels.encoding import encode
from pruneaug_cli.kernels.native.library import Library


@dataclass(frozen=True, slots=True)
class RegionMemory:
    """Bytes of all regions of a file.

    Attributes:
        weights_bytes: packed weights and indices, from the session's creation on.
        buffers_bytes: what one run works in, for one sample; runs at the same time have their own.
    """

    weights_bytes: int
    buffers_bytes: int


def region_memory(path: Path, library: Path) -> RegionMemory:
    """Create the regions of a file as a session does, and ask them.

    Args:
        path: an exported file.
        library: the operator library for this machine.

    Raises:
        ModelFileError: as :func:`pruneaug_cli.export.read_model`.
        OSError: the library is not for this machine.
        ValueError: the library refuses a region; no session could be created either.
    """
    engine = Library(library)
    weights = buffers = 0
    for record in read_model(path).regions:
        with engine.open_region(encode(record.program)) as region:
            held, needed = region.memory_bytes
        weights, buffers = weights + held, buffers + needed
    return RegionMemory(weights, buffers)
