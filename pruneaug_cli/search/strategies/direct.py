"""The direct space: a block for every layer and one sparsity for the network.

The network's sparsity becomes one per layer by an equal allowance of harm, as a global threshold
over scores does: each layer takes the sparsest option of its block whose harm is within the
allowance, and the allowance is the largest for which the mean sparsity of the layers does not
exceed the network's.

References:
    "PruneAug: Bridging DNN Pruning and Inference Latency on Diverse Sparse Platforms Using
    Automatic Layerwise Block Pruning", IEEE Trans. Computers 73(11), 2024: block dimensions and
    network sparsity searched jointly. There a threshold over the scores of all blocks shares the
    sparsity out; here harms of whole layers do, because the search sees no scores.
"""

import math
from collections.abc import Mapping, Sequence

from pruneaug_cli.core import DENSE, LayerChoice, Option, Plan
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.strategies.contract import Category, Draw, Proposal, Real, Space
from pruneaug_cli.search.trial import Parameters, Trial

DENSE_WORD = "dense"
SPARSITY = "sparsity"
_BLOCK = "block:"
_PATIENCE = 8  # suggestions that repeat known plans before a random point is taken instead


class TpeStrategy:
    """TPE over the direct space."""

    def space(self, problem: SearchProblem) -> Space:
        """A block per layer and the network's sparsity."""
        return direct_space(problem)

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """What TPE suggests; a random point when it keeps suggesting what is known."""
        if draw.attempt >= _PATIENCE:
            return _proposal(problem, draw.uniformly(direct_space(problem)), "random")
        return _proposal(problem, draw.tpe(direct_space(problem), problem, trials), "tpe")


class Nsga2Strategy:
    """NSGA-II over the direct space: latency and drop, under the question's constraint."""

    def space(self, problem: SearchProblem) -> Space:
        """A block per layer and the network's sparsity."""
        return direct_space(problem)

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """A child of the present generation; a random point when children are all known."""
        if draw.attempt >= _PATIENCE:
            return _proposal(problem, draw.uniformly(direct_space(problem)), "random")
        return _proposal(problem, draw.nsga2(direct_space(problem), problem, trials), "nsga2")


class RandomStrategy:
    """Random points of the direct space."""

    def space(self, problem: SearchProblem) -> Space:
        """A block per layer and the network's sparsity."""
        return direct_space(problem)

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """A random point."""
        del trials
        return _proposal(problem, draw.uniformly(direct_space(problem)), "random")


def direct_space(problem: SearchProblem) -> Space:
    """A block (or dense) per layer, and the network's sparsity."""
    space: dict[str, Real | Category] = {
        block_key(layer): Category((DENSE_WORD, *_by_block(options)))
        for layer, options in problem.options.items()
    }
    sparsest = max(o.choice.sparsity for options in problem.options.values() for o in options)
    return space | {SPARSITY: Real(0.0, sparsest)}


def block_key(layer: str) -> str:
    """The parameter that names a layer's block."""
    return f"{_BLOCK}{layer}"


def decode(problem: SearchProblem, parameters: Parameters) -> Plan:
    """The plan at a point of the direct space."""
    ladders = _ladders(problem, parameters)
    limit = float(parameters[SPARSITY]) * len(ladders)
    allowances = _allowances(ladders)
    low, high = 0, len(allowances)  # the first `low` allowances keep within the limit
    while low < high:
        middle = (low + high) // 2
        chosen = _within(ladders, allowances[middle])
        if math.fsum(choice.sparsity for choice in chosen.values()) <= limit * (1.0 + 1e-12):
            low = middle + 1
        else:
            high = middle
    return Plan.of(_within(ladders, allowances[low - 1] if low else -1.0))


def plans_of_blocks(problem: SearchProblem, blocks: Mapping[str, str]) -> list[Plan]:
    """Every plan of the direct space in these blocks, from dense to sparsest.

    Args:
        problem: whose plans.
        blocks: name of the block, or of dense, by :func:`block_key`.
    """
    ladders = _ladders(problem, blocks)
    return [Plan.of(_within(ladders, allowance)) for allowance in (-1.0, *_allowances(ladders))]


def _ladders(problem: SearchProblem, parameters: Parameters) -> dict[str, list[Option]]:
    """Per layer the options of the block that is named for it; none for dense."""
    return {
        layer: _by_block(options).get(str(parameters[block_key(layer)]), [])
        for layer, options in problem.options.items()
    }


def _allowances(ladders: Mapping[str, list[Option]]) -> list[float]:
    return sorted({option.harm for ladder in ladders.values() for option in ladder})


def _within(ladders: Mapping[str, list[Option]], allowance: float) -> dict[str, LayerChoice]:
    """Per layer the sparsest choice whose harm is within the allowance, or dense."""
    return {
        layer: max(
            (option.choice for option in ladder if option.harm <= allowance),
            key=lambda choice: choice.sparsity,
            default=DENSE,
        )
        for layer, ladder in ladders.items()
    }


def _by_block(options: tuple[Option, ...]) -> dict[str, list[Option]]:
    blocks: dict[str, list[Option]] = {}
    for option in sorted(options, key=lambda option: option.choice.sort_key):
        if option.choice.block is not None:
            blocks.setdefault(str(option.choice.block), []).append(option)
    return blocks


def _proposal(problem: SearchProblem, parameters: Parameters, origin: str) -> Proposal:
    return Proposal(decode(problem, parameters), origin, parameters)
