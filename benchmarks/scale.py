"""Time and memory of a search as models grow: ResNet-50's geometry, one JSON object per line.

    python benchmarks/scale.py --layers 10,20,35,50 --jsonl scale.jsonl

Random weights, random images of 224 x 224, metric: the error of the output (``scale_task.py``).
Every number of layers is a process of its own, which takes the steps of ``pruneaug search``:
candidates and prices, evidence, layer database, then the search itself with the default strategy.
Peak memory is the largest sum of resident memory of that process and its children, sampled from
``/proc``; memory that they share counts in each. ``cpu_s``, processor time of all of them, holds
where other programs take their part of the machine; ``seconds`` does not. Prices are of the layers
alone, profiled here first: the latency of the whole network is not what this is about.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from options import read_list, refusing, write_rows
from safetensors.torch import save_file
from scale_task import ScaleTask

from pruneaug_cli.app.database import gather_evidence, make_database
from pruneaug_cli.app.prepared import PreparedModel, prepare_recipe
from pruneaug_cli.app.pricing import price
from pruneaug_cli.app.profile import run_profile
from pruneaug_cli.app.recipe_reader import read_recipe
from pruneaug_cli.app.requests import ProfileRequest
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.app.search import search_run
from pruneaug_cli.core import DENSE, LayerChoice
from pruneaug_cli.errors import UsageError
from pruneaug_cli.platforms import LatencyTable, NetworkMeasurement, read_profile, write_profile
from pruneaug_cli.progress import silent

FOLDER = Path(__file__).resolve().parent
SHAPES = FOLDER / "shapes" / "resnet50-224.txt"
BLOCKS, SPARSITIES = ("8x1", "32x1"), (0.5, 0.95)
_EVERY_S = 0.1
_MOST_LAYERS = 54

Row = dict[str, object]


def main() -> None:
    """Measure every number of layers."""
    with refusing("scale.py"):
        options = _parser().parse_args()
        counts = read_list(options.layers, "--layers", _read_count)
        if options.trials < 1 or options.workers < 1:
            raise UsageError("--trials, --workers: expected at least 1")
        if not options.seconds > 0.0:
            raise UsageError(f"--seconds: expected more than 0, got {options.seconds:g}")
        if options.child is not None:
            _search(counts[0], options.child, options.trials, options.workers)
            return
        write_rows(_rows(options, counts), options.jsonl)


def _rows(options: argparse.Namespace, counts: list[int]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="pruneaug-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _profile(folder, options.seconds)
        for count in counts:
            command = [
                sys.executable, str(Path(__file__).resolve()), "--child", str(folder),
                "--layers", str(count), "--trials", str(options.trials),
                "--workers", str(options.workers),
            ]  # fmt: skip
            yield {"layers": count, "workers": options.workers, **measured(command)}


def measured(command: list[str]) -> Row:
    """Run a command; its lines, each the end of a step, become columns of seconds and peak bytes.

    A line is a JSON object with ``step``, ``cpu_s`` since the beginning, and further columns.

    Raises:
        UsageError: it failed.
    """
    row: Row = {"peak_bytes": 0}
    steps: list[Row] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        peak = _Peak(process.pid)
        started, cpu_s = time.monotonic(), 0.0
        for line in process.stdout or ():
            news = json.loads(line)
            now = time.monotonic()
            step = {**news, "cpu_s": news["cpu_s"] - cpu_s, "seconds": now - started}
            steps.append({**step, "peak_bytes": peak.take()})
            started, cpu_s = now, news["cpu_s"]
        peak.stop()
    if process.returncode != 0:
        raise UsageError(f"a search failed with exit code {process.returncode}")
    row["peak_bytes"] = max((int(str(step["peak_bytes"])) for step in steps), default=0)
    return {**row, "steps": steps}


class _Peak(threading.Thread):
    """Watches the resident memory of a process and of its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._most, self._stopped = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._stopped.wait(_EVERY_S):
            self._most = max(self._most, resident_bytes(self._pid))

    def take(self) -> int:
        """The peak since the last time."""
        most, self._most = max(self._most, resident_bytes(self._pid)), 0
        return most

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self.join()


def resident_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """Resident memory of a process and its descendants; those that are gone count nothing."""
    held = _status(proc / str(pid))
    children = 0
    for path in (proc / str(pid) / "task").glob("*/children"):
        try:
            words = path.read_text("utf-8").split()
        except OSError:
            continue
        children += sum(resident_bytes(int(word), proc) for word in words)
    return held + children


def _status(folder: Path) -> int:
    try:
        lines = (folder / "status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(found[0]) * 1024 if found else 0


def _profile(folder: Path, seconds: float) -> None:
    path = folder / "profile.json"
    if not path.exists():
        run_profile(
            ProfileRequest(
                "scale", shapes=SHAPES, out=path, budget_s=seconds, blocks=BLOCKS,
                sparsities=SPARSITIES,
            )
        )  # fmt: skip


def _search(count: int, folder: Path, trials: int, workers: int) -> None:
    """Take the steps of a search, and tell on standard output when each is done."""
    run = RunDirectory(folder / f"layers-{count}")
    settings = [f"search.workers={workers}", f"search.trials={trials}", "finetune.epochs=0"]
    overrides = {
        "task": f"{FOLDER / 'scale_task.py'}:layers_{count}", "goal.max_drop": 0.1,
        "platform": str(folder / "profile.json"), "checkpoint": str(_weights(folder)),
    }  # fmt: skip
    recipe = read_recipe(None, settings=settings, overrides=overrides)
    prepared = prepare_recipe(recipe)
    _price_by_layers(folder / "profile.json", prepared)
    pricing = price(prepared, recipe, run, silent)
    choices = pricing.candidates.choices
    options = sum(map(len, choices.values()))
    _tell("candidates", options=options, largest=_largest(prepared, choices))
    names = [name for name, found in choices.items() if len(found) > 1]
    gather_evidence(run, recipe.search, prepared, names, silent)
    _tell("evidence")
    make_database(run, recipe, prepared, pricing.candidates, silent)
    _tell("database", bytes=sum(path.stat().st_size for path in run.database.iterdir()))
    alone = recipe.model_copy(update={"search": recipe.search.model_copy(update={"workers": 1})})
    found = search_run(run, alone, prepared, None, silent)
    _tell("trials", trials=found["trials"], metric=found["sparse"]["metric"])


def _weights(folder: Path) -> Path:
    """The random weights as a checkpoint."""
    path = folder / "weights.safetensors"
    if not path.exists():
        save_file(dict(ScaleTask(2).build_model().state_dict()), path)
    return path


def _price_by_layers(path: Path, prepared: PreparedModel) -> None:
    """Say in the profile that the network takes what its layers take alone."""
    profile = read_profile(path)
    digest = prepared.network_digest()
    if profile.network(digest) is None:
        table = LatencyTable(profile)
        dense_s = sum(
            layer.uses * table.latency_s(layer.geometry, DENSE).latency_s
            for layer in prepared.layers
        )
        network = NetworkMeasurement(digest, dense_s, 0.0, 0.0, {}, (dense_s,))
        write_profile(profile.with_network(network), path)


def _largest(prepared: PreparedModel, choices: Mapping[str, Sequence[LayerChoice]]) -> str:
    """The widest weight matrix that may be pruned."""
    matrices = [layer.geometry.matrix for layer in prepared.layers if len(choices[layer.name]) > 1]
    return str(max(matrices, key=lambda matrix: (matrix.cols, matrix.rows)))


def _tell(step: str, **columns: object) -> None:
    cpu_s = sum(os.times()[:4])  # with the children's that have ended
    print(json.dumps({"step": step, "cpu_s": cpu_s, **columns}), flush=True)


def _read_count(text: str) -> int:
    if not (text.isdecimal() and 2 <= int(text) <= _MOST_LAYERS):
        raise ValueError(f"expected numbers from 2 to {_MOST_LAYERS}, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scale.py", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default="10,20,35,50", help="how many may be pruned")
    parser.add_argument("--trials", type=int, default=50, help="of the default strategy")
    parser.add_argument("--workers", type=int, default=2, help="that reconstruct layers")
    parser.add_argument("--seconds", type=float, default=60.0, help="of profiling, once")
    parser.add_argument("--folder", type=Path, help="keep what is made here; go on from there")
    parser.add_argument("--jsonl", type=Path, help="write the rows here too, one object per line")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
