"""A block for every layer by a simple rule, and a search for the network's sparsity alone.

Each rule looks at the blocks a layer has; the network's sparsity becomes one per layer as in the
direct space (``direct.py``), of which these strategies search a line. ``unstructured`` is the rule
"1x1": layers that were not offered it stay dense.

References:
    The baselines of "PruneAug", IEEE Trans. Computers 73(11), 2024, as far as the first author's
    earlier public prototypes show them.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from pruneaug_cli.core import BlockShape
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.search.problem import SearchProblem
from pruneaug_cli.search.strategies.contract import Draw, Proposal, Space
from pruneaug_cli.search.strategies.direct import (
    DENSE_WORD,
    SPARSITY,
    block_key,
    direct_space,
    plans_of_blocks,
)
from pruneaug_cli.search.strategies.path import Priced, next_on_path, path_of
from pruneaug_cli.search.trial import Trial

Rank = Callable[[BlockShape], tuple[float, ...]]
Blocks = tuple[tuple[str, str], ...]
"""Per layer the parameter that names its block, and the block's name or that of dense."""

RULES: dict[str, Rank] = {
    "smallest": lambda block: (block.size, block.cols),
    "largest": lambda block: (-block.size, block.cols),
    "squarest": lambda block: (abs(math.log(block.rows / block.cols)), block.size, block.cols),
    "tallest": lambda block: (-block.rows / block.cols, block.size),
    "widest": lambda block: (-block.cols / block.rows, block.size),
}
"""The block of least rank is taken."""

ELEMENT = BlockShape(1, 1)


class PickerStrategy:
    """The block that a rule picks in every layer.

    Args:
        name: of the rule in ``RULES``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def space(self, problem: SearchProblem) -> Space:
        """The direct space."""
        return direct_space(problem)

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The next sparsity."""
        del draw
        blocks = tuple(
            (block_key(layer), _least(names, RULES[self._name]))
            for layer, names in _offered(problem).items()
        )
        return _next(problem, blocks, trials, self._name)


class RandomBlockStrategy:
    """A random block in every layer, drawn once: later trials keep the first one's."""

    def space(self, problem: SearchProblem) -> Space:
        """The direct space."""
        return direct_space(problem)

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The next sparsity."""
        offered = _offered(problem)
        first = next((trial.parameters for trial in trials if trial.parameters), None)
        if first is not None:
            blocks = tuple((block_key(layer), str(first[block_key(layer)])) for layer in offered)
        else:
            blocks = tuple(
                (block_key(layer), names[int(draw.rng.integers(len(names)))])
                for layer, names in offered.items()
            )
        return _next(problem, blocks, trials, "random-block")


class UnstructuredStrategy:
    """Single weights: blocks of 1x1 wherever they are offered."""

    def space(self, problem: SearchProblem) -> Space:
        """The direct space."""
        return direct_space(problem)

    def propose(
        self, problem: SearchProblem, trials: Sequence[Trial], draw: Draw
    ) -> Proposal | None:
        """The next sparsity.

        Raises:
            UnsupportedError: no layer was offered blocks of 1x1.
        """
        del draw
        blocks = tuple(
            (block_key(layer), str(ELEMENT) if str(ELEMENT) in names else DENSE_WORD)
            for layer, names in _offered(problem).items()
        )
        if all(name == DENSE_WORD for _, name in blocks):
            raise UnsupportedError(
                "strategy 'unstructured': no layer has options with blocks of 1x1",
                hint="time them too: pruneaug profile --task TASK --platform NAME --block 1x1",
            )
        return _next(problem, blocks, trials, "unstructured")


def _next(
    problem: SearchProblem, blocks: Blocks, trials: Sequence[Trial], origin: str
) -> Proposal | None:
    plan = next_on_path(problem, _path(problem, blocks), trials)
    if plan is None:
        return None
    sparsities = [choice.sparsity for _, choice in plan.items()]
    # the mean of equal numbers may be rounded beyond them, out of the space
    mean = min(math.fsum(sparsities) / len(sparsities), max(sparsities))
    return Proposal(plan, origin, {**dict(blocks), SPARSITY: mean})


@lru_cache(maxsize=1)
def _path(problem: SearchProblem, blocks: Blocks) -> tuple[Priced, ...]:
    return path_of(problem, plans_of_blocks(problem, dict(blocks)))


def _offered(problem: SearchProblem) -> dict[str, list[str]]:
    """Per layer the names of its blocks; that of dense where there are none."""
    return {
        layer: sorted({str(o.choice.block) for o in row if o.choice.block}) or [DENSE_WORD]
        for layer, row in problem.options.items()
    }


def _least(names: Sequence[str], rank: Rank) -> str:
    if names[0] == DENSE_WORD:
        return DENSE_WORD
    return str(min(map(BlockShape.parse, names), key=rank))
