"""Which modules hold weights, and why one stays dense, as far as shows without running it."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from pruneaug_cli.layers.matrices import MatrixModule, conv_padding


def weighted_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that hold a weight of two dimensions or more themselves, each once, by name."""
    for name, module in model.named_modules():
        # the parameters of a computed weight may be hidden in a child module
        if isinstance(module, MatrixModule) or any(
            parameter.ndim >= 2 for parameter in module.parameters(recurse=False)
        ):
            yield name, module


def why_ineligible(module: nn.Module) -> str | None:
    """Say why no block of this module can be removed; None when blocks can."""
    if not isinstance(module, MatrixModule):
        return f"weights of {type(module).__name__} are not supported"
    kind = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
    if _computes_otherwise(module, kind):
        return f"a {kind.__name__} with a forward of its own"
    if "weight" not in dict(module.named_parameters(recurse=False)):
        return "its weight is computed, not stored"
    if module.weight.dtype != torch.float32:
        return f"its weight is {str(module.weight.dtype).removeprefix('torch.')}, not float32"
    if not module.weight.is_contiguous():
        return "its weight's memory is not contiguous"
    return _why_ineligible_conv(module) if isinstance(module, nn.Conv2d) else None


def sharing_weights(modules: Mapping[str, nn.Module]) -> set[str]:
    """Names of the modules one of whose weights another of them holds too."""
    owners: dict[int, list[str]] = {}
    for name, module in modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}


def _why_ineligible_conv(module: nn.Conv2d) -> str | None:
    if module.groups != 1:
        depthwise = module.groups == module.in_channels
        return "depthwise convolution" if depthwise else f"convolution in {module.groups} groups"
    if module.padding_mode != "zeros":
        return f"padding mode {module.padding_mode!r}, not 'zeros'"
    try:
        conv_padding(module)
    except ValueError as error:
        return str(error)
    return None


def _computes_otherwise(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a subclass, or the object itself, replaces what the class computes."""
    return any(
        getattr(type(module), name, None) is not getattr(kind, name, None) or name in vars(module)
        for name in ("forward", "_conv_forward")
    )
