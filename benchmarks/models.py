"""How fast whole networks are: our files against dense ONNX Runtime, one JSON object per line.

    python benchmarks/models.py --networks resnet18-64,mlp-b16 --sparsity 0.9 --threads 1 \
        --jsonl models.jsonl

Random weights and masks in all prunable layers (but the first of a convolutional network), both
files in ONNX Runtime at ORT_ENABLE_ALL, taking turns in this process. To export once and time
often::

    python benchmarks/models.py --networks all --sparsity 0.75,0.9 --files /tmp/models --prepare
    python benchmarks/models.py --networks resnet20-32 --sparsity 0.9 --files /tmp/models

A model of your own, pruned for real: ``--exported runs/digits-cnn`` (a finished run, or an exported
file that has its dense one beside it).
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
from peers import Setup, no_peers, peer_columns, read_peers
from prediction import Predictors
from random_models import Case, ModelFiles, write_files, write_peer_file
from whole import Row, check_answers, describe_regions, find_exported, time_files

from pruneaug_cli.errors import UsageError
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.registry import nearest


def main() -> None:
    """Measure every network at every sparsity, and every exported model."""
    with refusing("models.py"):
        options = _parser().parse_args()
        check_common(options)
        cases = _cases(options)
        exported = [find_exported(path) for path in options.exported]
        if not cases and not exported:
            raise UsageError("nothing to measure", hint="--networks all, or --exported runs/NAME")
        if options.prepare and options.files is None:
            raise UsageError("--prepare: writes files and stops, so it needs --files DIR")
        options.peers = read_peers(options.peers)
        options.predictors = (
            Predictors(options.threads, options.predict) if options.predict else None
        )
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="pruneaug-") as temporary:
            options.folder = options.files or Path(temporary)
            write_rows(_rows(options, cases, exported), options.jsonl)


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


def _cases(options: argparse.Namespace) -> list[Case]:
    """Every network under every block and sparsity asked for, then in dense regions."""
    networks = [] if options.networks is None else read_networks(options.networks)
    sparsities = read_list(options.sparsity, "--sparsity", read_sparsity)
    blocks = read_blocks(options.block, "--block")
    wanted = [*sparsities, *([0.0] if options.dense_regions else [])]
    return [
        Case(network, block, sparsity)
        for network in networks
        for block in blocks or [network.block]
        for sparsity in dict.fromkeys(wanted)
    ]


def _rows(
    options: argparse.Namespace, cases: list[Case], exported: list[ModelFiles]
) -> Iterator[Row]:
    library = BACKENDS.create("native").operator_library()
    for case in cases:
        files = write_files(case, options.folder, library)
        names = {"network": case.network.name, "block": str(case.block)}
        row: Row = names | {"sparsity": case.sparsity}
        if options.prepare:
            yield row | _prepared(case, files, options)
        else:
            check_answers(files, case.network.input_shape, library)
            row |= _measured(options, files, case.network.input_shape, library)
            if options.predictors is not None and case.sparsity > 0.0:
                row |= options.predictors.columns(case, files)
            yield row | peer_columns(case, files, float(row["dense_s"]), _setup(options))
    for files in [] if options.prepare else exported:
        row = _measured(options, files, None, library)
        names = {"network": str(files.sparse), "block": None, "sparsity": row["removed"]}
        yield names | row | no_peers("only networks of the benchmark have files for peers")


def _setup(options: argparse.Namespace) -> Setup:
    return Setup(options.peers, options.folder, options.threads, options.seconds)


def _prepared(case: Case, files: ModelFiles, options: argparse.Namespace) -> Row:
    peer_cases = [case, case.unstructured] if options.peers and case.sparsity > 0.0 else []
    peers = [str(write_peer_file(peer_case, options.folder)) for peer_case in peer_cases]
    return {"sparse": str(files.sparse), "dense": str(files.dense), "peer_files": peers}


def _measured(
    options: argparse.Namespace,
    files: ModelFiles,
    input_shape: tuple[int, ...] | None,
    library: Path,
) -> Row:
    timed = time_files(
        files, input_shape, library,
        threads=options.threads, seconds=options.seconds, stock=options.stock,
    )  # fmt: skip
    return timed | describe_regions(files.sparse, library) | {"predicted_s": None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="models.py", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", help=f"all, or of: {', '.join(NETWORKS)}")
    parser.add_argument(
        "--exported", type=Path, nargs="+", default=[], help="finished runs, or exported files"
    )
    parser.add_argument("--sparsity", default="0.9", help="one or more, such as 0.75,0.9")
    parser.add_argument("--block", help="one or more, such as 8x1; default: one per network")
    parser.add_argument(
        "--dense-regions", action="store_true", help="also the dense network in our regions"
    )
    parser.add_argument("--stock", action="store_true", help="also our file without our library")
    parser.add_argument(
        "--predict", type=float, metavar="SECONDS",
        help="also profile the layers for so long, and predict the latency",
    )  # fmt: skip
    parser.add_argument("--peers", help="also other engines: deepsparse,openvino")
    parser.add_argument("--files", type=Path, help="keep the models here; take those there")
    parser.add_argument("--prepare", action="store_true", help="only write the models")
    add_common(parser, seconds=5.0)
    return parser


if __name__ == "__main__":
    main()
