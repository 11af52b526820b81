"""What better decisions for single layers would be worth: the engine against its alternatives.

    python benchmarks/choices.py --networks resnet18-64,mlp-b16 --sparsity 0.9 --jsonl OUT

Every alternative (``alternatives.py``) decides one thing otherwise, for all layers. It runs a
network of ``models.py`` in ONNX Runtime in turns with the engine as it is, and the time of every
step is recorded. Half of the rounds choose, for the layers of one geometry, block and epilogue
together, the decision with the least time; the other half say what the choice is worth, so that
luck does not count. The last row of a network is the whole: ``gain`` is the share of all steps'
time that the choices save, ``ratios`` the time of each alternative, taken for all layers, over the
engine's; ``the same again`` is the engine against itself: noise.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from alternatives import ALTERNATIVES, Alternative, Knobs, build
from models import read_networks
from options import read_list, read_sparsity, refusing, write_rows
from random_models import Case, write_files

from pruneaug_cli.errors import UsageError
from pruneaug_cli.export import read_model
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.kernels.native.library import Library, StepTimes, Watch
from pruneaug_cli.kernels.program import RegionProgram
from pruneaug_cli.kernels.steps import step_name
from pruneaug_cli.runtime import open_session

AGAIN = "the same again"  # the engine against itself: noise
LEAST_GAIN = 0.02  # less is not told from noise
_RUNS = 2
_NUMBER = re.compile(r"(^|for )\d+ ")  # of an instruction

Seconds = dict[str, list[float]]
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Compared:
    """An alternative and the engine, run right after one another.

    Attributes:
        usual_s: seconds of the engine by step, one per round.
        other_s: the alternative's.
    """

    usual_s: Seconds
    other_s: Seconds

    def ratios(self, step: str) -> npt.NDArray[np.float64]:
        """The alternative's time over the engine's, round by round."""
        return np.array(self.other_s[step]) / np.array(self.usual_s[step])

    def whole(self) -> float:
        """All steps together: the median over the rounds."""
        other, usual = (np.sum(list(times.values()), 0) for times in (self.other_s, self.usual_s))
        return float(np.median(other / usual))


def compare(
    case: Case, model: Path, alternatives: Sequence[Alternative], *, threads: int, rounds: int
) -> dict[str, Compared]:
    """Times by alternative; ``AGAIN`` is the engine itself.

    Says on stderr whose answers have other bits than the engine's.
    """
    programs = [record.program for record in read_model(model).regions]
    path = build()
    knobs, usual = Knobs(path), open_session(model, threads=threads, library=path)
    arrays = [np.random.default_rng(0).standard_normal(case.network.input_shape, np.float32)]
    usual_call, expected = usual.bound_call(arrays), usual.run(arrays)
    calls = {AGAIN: usual_call}
    for alternative in alternatives:
        session = usual
        with knobs.turned(alternative):
            if alternative.packs:
                session = open_session(model, threads=threads, library=path)
            if not all(map(np.array_equal, session.run(arrays), expected)):
                print(f"{case.stem}: {alternative.name}: other bits", file=sys.stderr)
        calls[alternative.name] = session.bound_call(arrays)
    compared = {name: Compared({}, {}) for name in calls}
    turns = {AGAIN: None, **{item.name: item for item in alternatives}}
    random = np.random.default_rng(0)
    with Library(path).watch() as watch:
        for _ in range(rounds):
            # in another order each time: what ran before leaves its weights in the caches
            for name in random.permutation(list(turns)):
                pair = [(None, usual_call, compared[name].usual_s)]
                pair.append((turns[name], calls[name], compared[name].other_s))
                for index in random.permutation(2):
                    alternative, call, seconds = pair[index]
                    with knobs.turned(alternative):
                        _record(seconds, call, watch, programs)
    return compared


def _record(
    seconds: Seconds, call: Callable[[], object], watch: Watch, programs: Sequence[RegionProgram]
) -> None:
    """Add a round: the median of a few runs, after one that brings weights into the caches."""
    call()
    watch.clear()
    for _ in range(_RUNS):
        call()
    for step, step_s in _by_step(programs, watch.times()).items():
        seconds.setdefault(step, []).append(step_s)


def choose(compared: Mapping[str, Compared]) -> dict[str, tuple[str | None, float]]:
    """Per step what to decide (None: as the engine does), and what of its time is left then.

    Every second round chooses: the least median that is clearly less, in three rounds of four. The
    others say what is left.

    Example:
        >>> choose({"other": Compared({"a": [1.0] * 4}, {"a": [0.5] * 4})})
        {'a': ('other', 0.5)}
    """
    chosen: dict[str, tuple[str | None, float]] = {}
    for step in next(iter(compared.values())).usual_s:
        ratios = {name: times.ratios(step) for name, times in compared.items()}
        best = min(ratios, key=lambda name: float(np.median(ratios[name][::2])))
        middle, upper = np.quantile(ratios[best][::2], (0.5, 0.75))
        clear = middle <= 1.0 - LEAST_GAIN and upper < 1.0
        chosen[step] = (best, float(np.median(ratios[best][1::2]))) if clear else (None, 1.0)
    return chosen


def rows(case: Case, compared: Mapping[str, Compared]) -> Iterator[Row]:
    """A row per step, the longest first, then the whole."""
    names: Row = {
        "network": case.network.name, "block": str(case.block), "sparsity": case.sparsity,
    }  # fmt: skip
    usual_s = {step: float(np.median(times)) for step, times in compared[AGAIN].usual_s.items()}
    whole_s = sum(usual_s.values())
    chosen = choose({name: times for name, times in compared.items() if name != AGAIN})
    for step in sorted(usual_s, key=lambda step: -usual_s[step]):
        best, ratio = chosen[step]
        share = usual_s[step] / whole_s
        yield names | {
            "step": step, "seconds": usual_s[step], "share": share, "chosen": best, "ratio": ratio
        }  # fmt: skip
    saved_s = sum(usual_s[step] * (1.0 - ratio) for step, (_, ratio) in chosen.items())
    yield names | {
        "step": None, "seconds": whole_s, "gain": saved_s / whole_s,
        "ratios": {name: times.whole() for name, times in compared.items()},
    }  # fmt: skip


def _by_step(programs: Sequence[RegionProgram], regions: Sequence[StepTimes]) -> dict[str, float]:
    found: dict[str, float] = {}
    for program, times in zip(programs, regions, strict=True):
        typical_s = np.median(times.seconds, axis=0)
        for (kind, number), seconds in zip(times.steps, typical_s, strict=True):
            step = _NUMBER.sub(r"\1", step_name(program, kind, number))
            found[step] = found.get(step, 0.0) + float(seconds)
    return found


def main() -> None:
    """Compare in every network."""
    with refusing("choices.py"):
        options = _parser().parse_args()
        if options.threads < 1:
            raise UsageError(f"--threads: expected at least 1, got {options.threads}")
        if options.rounds < 2:
            raise UsageError(f"--rounds: expected at least 2, got {options.rounds}")
        write_rows(_measured(options), options.jsonl)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="choices.py", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", required=True, help="all, or as in models.py")
    parser.add_argument("--sparsity", default="0.9", help="one or more, such as 0.75,0.9")
    parser.add_argument("--threads", type=int, default=1, help="of every session (default: 1)")
    parser.add_argument("--rounds", type=int, default=16, help="turns of each alternative")
    parser.add_argument("--files", type=Path, help="keep the models here; take those there")
    parser.add_argument("--jsonl", type=Path, help="write the rows here too")
    return parser


def _measured(options: argparse.Namespace) -> Iterator[Row]:
    networks = read_networks(options.networks)
    sparsities = read_list(options.sparsity, "--sparsity", read_sparsity)
    library = BACKENDS.create("native").operator_library()
    with tempfile.TemporaryDirectory(prefix="pruneaug-") as temporary:
        for network in networks:
            for sparsity in sparsities:
                case = Case(network, network.block, sparsity)
                model = write_files(case, options.files or Path(temporary), library).sparse
                compared = compare(
                    case, model, _alternatives(model),
                    threads=options.threads, rounds=options.rounds,
                )  # fmt: skip
                yield from rows(case, compared)


def _alternatives(model: Path) -> list[Alternative]:
    """Those for layers of a kind that the model has several of."""
    regions = read_model(model).regions
    kinds = Counter(type(op).__name__ for region in regions for op in region.program.instructions)
    return [item for item in ALTERNATIVES if kinds[item.op] > 1]


if __name__ == "__main__":
    main()
