"""A plan: one choice per layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pruneaug_cli.core.choice import DENSE, LayerChoice


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One choice per prunable layer, usually in the order of the model's layers.

    Two plans are equal when they choose the same for the same layers, in whatever order.
    """

    choices: tuple[tuple[str, LayerChoice], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.choices]
        if len(set(names)) != len(names):
            raise ValueError("a plan names each layer once")

    @classmethod
    def of(cls, choices: Mapping[str, LayerChoice]) -> "Plan":
        """Make a plan from a mapping, keeping its order."""
        return cls(tuple(choices.items()))

    @classmethod
    def dense(cls, layers: Mapping[str, object] | list[str] | tuple[str, ...]) -> "Plan":
        """The plan that leaves every layer as it is."""
        return cls(tuple((name, DENSE) for name in layers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and dict(self.choices) == dict(other.choices)

    def __hash__(self) -> int:
        return hash(frozenset(self.choices))

    def __getitem__(self, layer: str) -> LayerChoice:
        return dict(self.choices)[layer]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.choices)

    def __len__(self) -> int:
        return len(self.choices)

    def items(self) -> Iterator[tuple[str, LayerChoice]]:
        """Layer names with their choices."""
        return iter(self.choices)

    def to_json(self) -> dict[str, object]:
        """``{layer: "dense" | {"block", "sparsity"}}``."""
        return {name: choice.to_json() for name, choice in self.choices}

    @classmethod
    def from_json(cls, document: object) -> "Plan":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: a layer is malformed; the message starts with ``layers.NAME:``.
        """
        if not isinstance(document, dict):
            raise ValueError(f"'layers' must be an object, got {type(document).__name__}")
        choices = {}
        for name, choice in document.items():
            try:
                choices[str(name)] = LayerChoice.from_json(choice)
            except ValueError as error:
                raise ValueError(f"layers.{name}: {error}") from error
        return cls.of(choices)
