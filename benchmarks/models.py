"""How fast whole networks are: our files against dense ONNX Runtime, one JSON object per line.

    python benchmarks/models.py --networks resnet18-64,mlp-b16 --sparsity 0.9 --threads 1 \
        --jsonl models.jsonl

Random weights and masks in all prunable layers (but the first of a convolutional network), both
files in ONNX Runtime at ORT_ENABLE_ALL, taking turns in this process. To export once and time
often::

    python benchmarks/models.py --networks all --sparsity 0.75,0.9 --files /tmp/models --prepare
    python benchmarks/models.py --networks resnet20-32 --sparsity 0.9 --files /tmp/models
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from networks import NETWORKS, Network
from options import (
    add_common,
    check_common,
    read_blocks,
    read_list,
    read_sparsity,
    refusing,
    write_rows,
)
from random_models import ModelFiles, write_files
from whole import Row, describe_regions, time_files

from pruneaug_cli.errors import UsageError
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.registry import nearest


def main() -> None:
    """Measure every network at every sparsity."""
    with refusing("models.py"):
        options = _parser().parse_args()
        check_common(options)
        networks = read_networks(options.networks)
        sparsities = read_list(options.sparsity, "--sparsity", read_sparsity)
        options.blocks = read_blocks(options.block, "--block")
        if options.prepare and options.files is None:
            raise UsageError("--prepare: writes files and stops, so it needs --files DIR")
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="pruneaug-") as temporary:
            options.folder = options.files or Path(temporary)
            write_rows(_rows(options, networks, sparsities), options.jsonl)


def read_networks(text: str) -> list[Network]:
    """Read ``resnet20-32,mlp-b1`` or ``all``.

    Raises:
        UsageError: there is no such network.
    """
    names = list(NETWORKS) if text == "all" else text.split(",")
    for name in names:
        if name not in NETWORKS:
            raise UsageError(f"--networks: no network {name!r}", hint=nearest(name, NETWORKS))
    return [NETWORKS[name] for name in names]


def _rows(
    options: argparse.Namespace, networks: list[Network], sparsities: list[float]
) -> Iterator[Row]:
    library = BACKENDS.create("native").operator_library()
    wanted = [*sparsities, *([0.0] if options.dense_regions else [])]
    for network in networks:
        for block in options.blocks or [network.block]:
            for sparsity in wanted:
                files = write_files(network, block, sparsity, options.folder, library)
                row: Row = {"network": network.name, "block": str(block), "sparsity": sparsity}
                if options.prepare:
                    yield row | _names(files)
                else:
                    yield row | _measured(options, network, files, library)


def _names(files: ModelFiles) -> Row:
    return {"sparse": str(files.sparse), "dense": str(files.dense)}


def _measured(
    options: argparse.Namespace, network: Network, files: ModelFiles, library: Path
) -> Row:
    timed = time_files(
        files, network.input_shape, library,
        threads=options.threads, seconds=options.seconds, stock=options.stock,
    )  # fmt: skip
    parts = describe_regions(files.sparse, library)
    return timed | parts | {"predicted_s": None, "threads": options.threads}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="models.py", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", required=True, help=f"all, or of: {', '.join(NETWORKS)}")
    parser.add_argument("--sparsity", default="0.9", help="one or more, such as 0.75,0.9")
    parser.add_argument("--block", help="one or more, such as 8x1; default: one per network")
    parser.add_argument(
        "--dense-regions", action="store_true", help="also the dense network in our regions"
    )
    parser.add_argument("--stock", action="store_true", help="also our file without our library")
    parser.add_argument("--files", type=Path, help="keep the models here; take those there")
    parser.add_argument("--prepare", action="store_true", help="only write the models")
    add_common(parser, seconds=5.0)
    return parser


if __name__ == "__main__":
    main()
