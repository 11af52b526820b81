"""Our engine with its static decisions as knobs, and what could be decided otherwise.

The product has no knobs: edits of its C sources turn constants into variables of the library, which
:func:`build` compiles like the engine. An edit whose text is not there (once) is refused, and a
test makes every edit: who changes such a line moves the edit along.
"""

import ctypes
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.kernels.native.compiler import SOURCES, Compiler

Op = Literal["Conv", "Linear"]

_KNOB = '__attribute__((visibility("default"))) int knob_'


@dataclass(frozen=True, slots=True)
class Edit:
    """Text of one source file, and what stands there instead."""

    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> None:
        """Make the edit in a folder of sources.

        Raises:
            UnsupportedError: the text is not there exactly once.
        """
        path = folder / self.file
        text = path.read_text("utf-8")
        if text.count(self.old) != 1:
            raise UnsupportedError(
                f"{self.file}: {self.old!r} is there {text.count(self.old)} times, expected once",
                hint="move the edit in benchmarks/alternatives.py along with the source",
            )
        path.write_text(text.replace(self.old, self.new), "utf-8")


def _as_knobs(**constants: str) -> str:
    """Variables that begin with a constant's value; what follows reads them in its place."""
    lines = (
        f"{_KNOB}{knob} = {name};\n#define {name} knob_{knob}\n" for knob, name in constants.items()
    )
    return "".join(lines)


_FETCH = """    switch (knob_fetch) {
    case 1: return tiles_near;
    case 2: return tiles_crossing;
    case 3: return tiles_far;
    case 4: return tiles_weights;
    case 5: return tiles_none;
    }
"""
_MORE_TILES = """#define PA_FETCH FAR_WEIGHTS
#define PA_TILES tiles_weights
#include "product_tiles.h"
#define PA_FETCH NO_INPUT
#define PA_TILES tiles_none
#include "product_tiles.h"
"""
_FAR = "    if (p->strips->floats > NEAR_WEIGHTS"
_LAST_ROWS = "/* The last rows of a matrix whose strip pads. */"
_WIDEST = "widest[9] = {0, 6, 6, 6, 6, 0, 4, 0, 3};"
_NARROW = "widest[9] = {0, 6, 6, 4, 3, 0, 2, 0, 1};"

EDITS: Sequence[Edit] = (
    Edit("product.c", "FAR_WEIGHTS = 2 };", "FAR_WEIGHTS = 2, NO_INPUT = 4 };\n"
         f"{_KNOB}fetch;\n{_KNOB}low;\n" + _as_knobs(block="BLOCK_BYTES", ahead="AHEAD")),
    Edit("product.c", "__builtin_prefetch(soon + i);",
         "if (!(fetch & NO_INPUT)) __builtin_prefetch(soon + i);"),
    Edit("product.c", f"#if PA_ACCUMULATORS >= 24\nstatic const int {_WIDEST}",
         f"{_MORE_TILES}#if PA_ACCUMULATORS >= 24\n{_KNOB}{_WIDEST}"),
    Edit("product.c", f"static const int {_NARROW}", f"{_KNOB}{_NARROW}"),
    Edit("product.c", "widest[height] - 1) / widest[height]",
         "knob_widest[height] - 1) / knob_widest[height]"),
    Edit("product.c", "if (PA_ACCUMULATORS < 24 && rows",
         "if ((PA_ACCUMULATORS < 24 || knob_low) && rows"),
    Edit("product.c", _FAR, _FETCH + _FAR),
    Edit("linear.c", '#include "vector.h"\n', f'#include "vector.h"\n{_KNOB}channels;\n'),
    Edit("linear.c", "if (height >= PA_LANES) return 0;",
         "if (height >= PA_LANES) return knob_channels ? PA_LANES : 0;"),
    Edit("tokens.c", _LAST_ROWS, _as_knobs(
        weights="AHEAD", rows="MOST_AS_ROWS", quads="MOST_QUADS", tiles="PASS",
        far="FAR_FLOATS",
    ) + _LAST_ROWS),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alternative:
    """One decision made otherwise, for layers of one kind.

    Attributes:
        name: of the decision.
        op: kind of layer.
        knob: a variable of the library.
        value: instead of its first.
        index: of an array.
        packs: weights are packed otherwise, so that it needs sessions of its own.
    """

    name: str
    op: Op
    knob: str
    value: int
    index: int = 0
    packs: bool = field(default=False, kw_only=True)


ALTERNATIVES: Sequence[Alternative] = (
    Alternative("tiles 4 x 6", "Conv", "low", 1, packs=True),
    Alternative("tiles 8 x 2", "Conv", "widest", 2, 8),
    Alternative("blocks 96 KiB", "Conv", "block", 96 << 10),
    Alternative("blocks 384 KiB", "Conv", "block", 384 << 10),
    Alternative("blocks 768 KiB", "Conv", "block", 768 << 10),
    Alternative("one block", "Conv", "block", 1 << 30),
    Alternative("fetch aligned input", "Conv", "fetch", 1),
    Alternative("fetch crossing input", "Conv", "fetch", 2),
    Alternative("fetch crossing input, weights", "Conv", "fetch", 3),
    Alternative("fetch aligned input, weights", "Conv", "fetch", 4),
    Alternative("fetch nothing", "Conv", "fetch", 5),
    Alternative("fetch 3 entries ahead", "Conv", "ahead", 3),
    Alternative("fetch 12 entries ahead", "Conv", "ahead", 12),
    Alternative("channel-major", "Linear", "channels", 1, packs=True),
    Alternative("passes of 24 samples", "Linear", "tiles", 2),
    Alternative("passes of 48 samples", "Linear", "tiles", 4),
    Alternative("passes of 72 samples", "Linear", "tiles", 6),
    Alternative("one pass", "Linear", "tiles", 1 << 20),
    Alternative("outputs fetched", "Linear", "far", 0),
    Alternative("outputs not fetched", "Linear", "far", 1 << 30),
    Alternative("never packed", "Linear", "rows", 1 << 20),
    Alternative("packed from 8 samples", "Linear", "rows", 7),
    Alternative("tiles of 8 samples", "Linear", "quads", 2),
    Alternative("weights 256 ahead", "Linear", "weights", 256),
    Alternative("weights 2048 ahead", "Linear", "weights", 2048),
)


def write_sources(folder: Path) -> Path:
    """The engine's sources with knobs, in ``folder/src``."""
    sources = Path(shutil.copytree(SOURCES, folder / "src"))
    for edit in EDITS:
        edit.apply(sources)
    return sources


def build() -> Path:
    """The library with knobs, from the cache when it was built before."""
    with tempfile.TemporaryDirectory(prefix="pruneaug-") as folder:
        return Compiler(sources=write_sources(Path(folder))).build()


class Knobs:
    """The variables of a library that :func:`build` made; at first as in the engine."""

    def __init__(self, library: Path) -> None:
        self._functions = ctypes.CDLL(str(library))

    @contextmanager
    def turned(self, alternative: Alternative | None) -> Iterator[None]:
        """Decide otherwise while the block runs; None: as the engine does."""
        if alternative is None:
            yield
            return
        room = ctypes.c_int * (alternative.index + 1)
        knob = room.in_dll(self._functions, f"knob_{alternative.knob}")
        usual = knob[alternative.index]
        knob[alternative.index] = alternative.value
        try:
            yield
        finally:
            knob[alternative.index] = usual
