"""Look at the inputs of layers while a model runs; the hooks remove themselves."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from pruneaug_cli.layers.matrices import module_of


@contextmanager
def observe_inputs(
    model: nn.Module, names: Iterable[str], observe: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Call ``observe(name, input)`` before every run of the named layers, in order of execution.

    The tensor is the layer's own input, detached: a later operation in place may change it, so
    use it at once, or copy it. The hooks go when the ``with`` block ends, however it ends.
    """

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given: Tensor = args[0] if args else kwargs["input"]
            observe(name, given.detach())

        return before

    with ExitStack() as hooks:
        for name in names:
            module = module_of(model, name)
            handle = module.register_forward_pre_hook(watch(name), with_kwargs=True)
            hooks.callback(handle.remove)
        yield


@contextmanager
def record_inputs(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect copies of the inputs of the named layers: name → one tensor per call.

    Example:
        with record_inputs(model, ["fc"]) as inputs:
            model(images)
        inputs["fc"][0]
    """
    names = tuple(names)
    recorded: dict[str, list[Tensor]] = {name: [] for name in names}
    with observe_inputs(model, names, lambda name, x: recorded[name].append(x.clone())):
        yield recorded
