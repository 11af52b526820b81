"""One-shot quality of ways to prune and reconstruct layers, one JSON object per line.

    python benchmarks/reconstruct.py --task my_task.py --checkpoint weights.safetensors \\
        --blocks 4x1,8x1,16x1,8x9 --sparsities 0.5,0.75 --jsonl reconstruct.jsonl

Every layer but the first gets the same block and sparsity; batch norm is re-estimated, nothing is
trained. ``once``: least squares once, on a mask by the inputs' energy; ``gradual``: energy again
after every round of least squares; ``obs``: the rise of the harm, with the inverse on the kept
columns in narrow layers; ``obs-exact``: in all layers; ``obs-whole``: with the whole inverse.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from options import read_list, read_sparsity, refusing, write_rows

from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.core import BlockGrid, BlockShape, MatrixShape
from pruneaug_cli.criteria import PruningMethod, ReconstructionSettings, prune_path
from pruneaug_cli.errors import UsageError
from pruneaug_cli.evaluation import collect_evidence, reestimate_batch_norm
from pruneaug_cli.layers import matrix_arrays, set_matrix

METHODS = {
    "magnitude": PruningMethod("magnitude"),
    "once": PruningMethod("hessian-diagonal"),
    "gradual": PruningMethod("gradual"),
    "obs-whole": PruningMethod(reconstruction=ReconstructionSettings(exact_columns=0)),
    "obs": PruningMethod(),
    "obs-exact": PruningMethod(reconstruction=ReconstructionSettings(exact_columns=2**31)),
}

Row = dict[str, object]


def main() -> None:
    """Measure every method with every block."""
    with refusing("reconstruct.py"):
        options = _parser().parse_args()
        blocks = read_list(options.blocks, "--blocks", BlockShape.parse)
        sparsities = sorted(read_list(options.sparsities, "--sparsities", read_sparsity))
        if options.threads < 1:
            raise UsageError(f"--threads: expected at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
        checkpoint = None if options.checkpoint is None else str(options.checkpoint)
        overrides = {"task": options.task, "checkpoint": checkpoint}
        prepared = prepare_recipe(read_recipe(None, settings=(), overrides=overrides))
        write_rows(_rows(prepared, blocks, sparsities), options.jsonl)


def _rows(
    prepared: PreparedModel, blocks: list[BlockShape], sparsities: list[float]
) -> Iterator[Row]:
    names, model = prepared.names[1:], prepared.model
    batches = list(prepared.task.calibration_batches())
    evidence = collect_evidence(model, names, batches)
    yield {"method": "dense", "metric": prepared.task.quick_evaluate(model, "cpu")}
    dense = {name: value.clone() for name, value in model.state_dict().items()}
    weights = matrix_arrays(model, names)
    for block in blocks:
        for name, method in METHODS.items():
            started = time.process_time()
            found = {
                layer: prune_path(
                    weights[layer], evidence[layer], _grid(weights[layer].shape, block),
                    sparsities, method,
                )
                for layer in names
            }  # fmt: skip
            seconds = time.process_time() - started
            for index, sparsity in enumerate(sparsities):
                for layer in names:
                    set_matrix(model, layer, found[layer][index].weight)
                before = prepared.task.quick_evaluate(model, "cpu")
                reestimate_batch_norm(model, batches, "cpu")
                yield {
                    "method": name, "block": str(block), "sparsity": sparsity,
                    "harm": _mean([found[layer][index].harm for layer in names]),
                    "metric_as_pruned": before,
                    "metric": prepared.task.quick_evaluate(model, "cpu"), "cpu_s": seconds,
                }  # fmt: skip
                model.load_state_dict(dense)


def _grid(shape: tuple[int, ...], block: BlockShape) -> BlockGrid:
    return BlockGrid(MatrixShape(*shape), block)


def _mean(harms: list[float]) -> float:
    return math.fsum(harms) / len(harms)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reconstruct.py", description=__doc__.splitlines()[0])
    parser.add_argument("--task", required=True, help="as for pruneaug search")
    parser.add_argument("--checkpoint", type=Path, help="a built-in task brings its own")
    parser.add_argument("--blocks", default="4x1,8x1,16x1", help="one or more")
    parser.add_argument("--sparsities", default="0.5,0.75", help="one or more")
    parser.add_argument("--threads", type=int, default=1, help="of evaluations (default: 1)")
    parser.add_argument("--jsonl", type=Path, help="write the rows here too, one object per line")
    return parser


if __name__ == "__main__":
    main()
