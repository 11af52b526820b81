"""What a recipe allows each layer: three levels, the last match wins, field by field.

``defaults`` hold for every layer, ``types`` for layers of one kind (``conv``, ``linear``),
``names`` for layers whose name matches a glob, in the order they are written. A field that a later
match leaves out keeps what an earlier one said.
"""

from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from pruneaug_cli.core.choice import LayerChoice
from pruneaug_cli.core.geometry import Op
from pruneaug_cli.core.shapes import BlockShape


def as_tuple(value: object) -> object:
    """Let a YAML list stand for a tuple; anything else is left for the validator to refuse."""
    return tuple(value) if isinstance(value, list) else value


def _parse_block(value: object) -> object:
    if isinstance(value, BlockShape):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected ROWSxCOLS such as 8x1, got {value!r}")
    return BlockShape.parse(value)


Block = Annotated[
    BlockShape,
    BeforeValidator(_parse_block),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]*x[1-9][0-9]*$"}),
]
Blocks = Annotated[tuple[Block, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Sparsity = Annotated[float, Field(ge=0.0, lt=1.0)]


class LayerRule(BaseModel):
    """What one layer may become; ``None``: not restricted.

    Attributes:
        dense: ``True`` fixes the layer: it is not pruned.
        blocks: the only block shapes it may get.
        min_sparsity: least fraction of blocks removed, where any are; the layer may always stay
            dense.
        max_sparsity: largest fraction of blocks removed. Both bounds are candidates themselves,
            where they are measured and the search is given no list of sparsities.

    Example:
        >>> rule = LayerRule(blocks=(BlockShape(8, 1),), max_sparsity=0.5)
        >>> rule.allows(LayerChoice(BlockShape(8, 1), 0.5)), rule.allows(LayerChoice(None))
        (True, True)
        >>> rule.allows(LayerChoice(BlockShape(4, 1), 0.5))
        False
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dense: bool | None = Field(default=None, description="true: the layer is not pruned")
    blocks: Blocks | None = Field(default=None, description="the only block shapes allowed")
    min_sparsity: Sparsity | None = Field(
        default=None, description="least fraction of blocks removed, where any are"
    )
    max_sparsity: Sparsity | None = Field(
        default=None, description="largest fraction of blocks removed"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.dense and len(self.model_dump(exclude_none=True)) > 1:
            raise ValueError("a dense layer has no blocks and no sparsity to bound")
        low, high = self.min_sparsity or 0.0, self.max_sparsity
        if high is not None and low > high:
            raise ValueError(f"min_sparsity {low:g} is above max_sparsity {high:g}")
        return self

    def allows(self, choice: LayerChoice) -> bool:
        """Whether the layer may become this."""
        if self.dense or choice.is_dense:
            return choice.is_dense
        if self.blocks is not None and choice.block not in self.blocks:
            return False
        high = 1.0 if self.max_sparsity is None else self.max_sparsity
        return (self.min_sparsity or 0.0) <= choice.sparsity <= high


class LayerRules(BaseModel):
    """The ``layers`` section of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    defaults: LayerRule = Field(default=LayerRule(), description="for every layer")
    types: dict[Op, LayerRule] = Field(default={}, description="by kind of layer")
    names: dict[str, LayerRule] = Field(
        default={}, description="by glob of the layer's name, in order"
    )

    def rules_for(self, name: str, kind: Op) -> LayerRule:
        """The rule of one layer: for each field, the last match that says something.

        A later rule that asks for blocks or bounds undoes an earlier ``dense: true``.

        Example:
            >>> rules = LayerRules(
            ...     defaults=LayerRule(max_sparsity=0.9), names={"stem*": LayerRule(dense=True)}
            ... )
            >>> rules.rules_for("stem.conv", "conv").dense
            True
            >>> rules.rules_for("fc", "linear").max_sparsity
            0.9
        """
        matches = [self.defaults]
        matches += [rule for type_, rule in self.types.items() if type_ == kind]
        matches += [rule for glob, rule in self.names.items() if fnmatchcase(name, glob)]
        merged: dict[str, object] = {}
        for rule in matches:
            merged = _override(merged, rule)
        return LayerRule.model_validate(merged)


def _override(merged: dict[str, object], rule: LayerRule) -> dict[str, object]:
    """Lay ``rule`` over what earlier matches said; dense and bounded exclude each other."""
    said = {name: getattr(rule, name) for name in LayerRule.model_fields}
    said = {name: value for name, value in said.items() if value is not None}
    if said.get("dense"):
        return said
    if said:
        merged = {name: value for name, value in merged.items() if name != "dense"}
    return {**merged, **said}
