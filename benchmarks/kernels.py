"""How fast one layer is: our kernels against dense ONNX Runtime, one JSON object per line.

    python benchmarks/kernels.py --shapes benchmarks/shapes/single-layers.txt \
        --blocks 8x1,32x1 --sparsities 0.5,0.9 --threads 1 --jsonl kernels.jsonl

``--via`` says what is timed: a layer inside a region (``ctypes``) or a node of its own in ONNX
Runtime (``onnxruntime``); see ``single.py``. From which sparsity on a layer gains::

    python benchmarks/kernels.py --shapes benchmarks/shapes/*-*.txt --blocks 8x1,32x1 \
        --via onnxruntime --break-even
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from options import (
    add_common,
    check_common,
    read_blocks,
    read_list,
    read_sparsity,
    refusing,
    write_rows,
)
from shapes import read_shapes
from single import REFERENCES, VIAS, Setup, time_layer

from pruneaug_cli.core import BlockShape, Geometry
from pruneaug_cli.errors import UsageError
from pruneaug_cli.kernels.native import NativeBackend
from pruneaug_cli.registry import nearest

LADDER = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Sparsities that ``--break-even`` tries, in order."""

EARLY = 0.1
"""The share of geometries that gain at this sparsity is what the summary counts."""

Row = dict[str, object]


def main() -> None:
    """Measure every geometry with every block and sparsity, or find where each breaks even."""
    with refusing("kernels.py"):
        options = _parser().parse_args()
        torch.set_num_threads(1)
        check_common(options)
        geometries = list(dict.fromkeys(g for path in options.shapes for g in read_shapes(path)))
        blocks = read_blocks(options.blocks, "--blocks")
        sparsities = read_list(options.sparsities, "--sparsities", read_sparsity)
        setup = Setup(options.via, _references(options.reference), options.threads, options.seconds)
        if setup.via == "ctypes" and setup.threads != 1:
            raise UsageError(
                f"--threads: --via ctypes runs on one thread, got {setup.threads}",
                hint="--via onnxruntime has the runtime's threads",
            )
        if options.break_even:
            write_rows(_break_even(geometries, blocks, setup), options.jsonl)
        else:
            write_rows(_rows(geometries, blocks, sparsities, setup), options.jsonl)


def _references(text: str | None) -> tuple[str, ...]:
    names = () if text is None else tuple(text.split(","))
    for name in names:
        if name not in REFERENCES:
            raise UsageError(f"--reference: no library {name!r}", hint=nearest(name, REFERENCES))
    return names


def _rows(
    geometries: Sequence[Geometry],
    blocks: Sequence[BlockShape],
    sparsities: Sequence[float],
    setup: Setup,
) -> Iterator[Row]:
    backend = NativeBackend()
    for geometry in geometries:
        for block in blocks:
            for sparsity in sparsities:
                yield measure(backend, geometry, block, sparsity, setup)


def measure(
    backend: NativeBackend, geometry: Geometry, block: BlockShape, sparsity: float, setup: Setup
) -> Row:
    """One row; ``efficiency`` is 1 where time is proportional to the weights that stay."""
    timing = time_layer(backend, geometry, block, sparsity, setup)
    density = 1.0 - sparsity
    row: Row = {
        "op": geometry.op, "geometry": str(geometry), "block": str(block), "sparsity": sparsity,
        "dense_s": timing.dense_s, "sparse_s": timing.sparse_s, "speedup": timing.speedup,
        "efficiency": timing.speedup * density,
        "gflops": 2e-9 * geometry.macs * density / timing.sparse_s,
        "threads": setup.threads, "via": setup.via, "isa": backend.library.isa,
    }  # fmt: skip
    row |= {f"{name}_s": seconds for name, seconds in timing.references.items()}
    return row | ({"notes": timing.notes} if timing.notes else {})


def _break_even(
    geometries: Sequence[Geometry], blocks: Sequence[BlockShape], setup: Setup
) -> Iterator[Row]:
    """One row per geometry: the first sparsity of ``LADDER`` at which its best block gains."""
    backend = NativeBackend()
    early = 0
    for geometry in geometries:
        speedups: Row = {}
        found: tuple[float, BlockShape] | None = None
        for sparsity in LADDER:
            timed = {
                block: time_layer(backend, geometry, block, sparsity, setup).speedup
                for block in blocks
            }
            best = max(timed, key=timed.__getitem__)
            speedups[f"{sparsity:g}"] = timed[best]
            if timed[best] > 1.0:
                found = sparsity, best
                break
        early += found is not None and found[0] <= EARLY
        yield {
            "op": geometry.op, "geometry": str(geometry),
            "break_even": found and found[0], "block": found and str(found[1]),
            "speedups": speedups, "threads": setup.threads, "via": setup.via,
        }  # fmt: skip
    share = early / len(geometries)
    summary = f"{early} of {len(geometries)} geometries ({share:.0%}) gain at {EARLY:.0%}"
    print(summary, file=sys.stderr)
    yield {"geometries": len(geometries), "early": early, "share": share, "at": EARLY}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kernels.py", description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=Path, nargs="+", required=True)
    parser.add_argument("--blocks", default="8x1,32x1")
    parser.add_argument("--sparsities", default="0.5,0.9")
    parser.add_argument("--via", choices=VIAS, default="ctypes", help="what is timed")
    parser.add_argument("--reference", help="also these, one thread of each: scipy,torch")
    parser.add_argument(
        "--break-even", action="store_true", help="the least sparsity at which each layer gains"
    )
    add_common(parser, seconds=0.5)
    return parser


if __name__ == "__main__":
    main()
