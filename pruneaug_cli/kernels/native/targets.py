"""What a library can be built for: which builds of the engine it holds, and their flags.

A library is the operators and the dispatcher, compiled once for the oldest processor of the target,
and one or more *variants* of the engine, each compiled for its own instruction set. The dispatcher
(``src/dispatch.c``) picks a variant when the library is loaded.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.registry import nearest

NATIVE = "native"
_GLIBC = "2.27"  # what the wheels of ONNX Runtime 1.17 need: no older system can run the operators


@dataclass(frozen=True, slots=True)
class Variant:
    """One build of the engine.

    Attributes:
        name: stands in its symbols (``pa_NAME_region_create``); what ``PRUNEAUG_ISA`` takes.
        cpu: the processor it is compiled for, as compilers spell it; None: the one that compiles.
    """

    name: str
    cpu: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine a library is built for.

    Attributes:
        name: what ``pruneaug export --target`` takes.
        machine: processor family, as in ``platform.machine()``; empty: the one that compiles.
        variants: builds of the engine, the best first.
    """

    name: str
    machine: str
    variants: tuple[Variant, ...]


_SSE = Variant("sse", "x86-64")
_AVX2 = Variant("avx2", "x86-64-v3")
_AVX512 = Variant("avx512", "x86-64-v4")

TARGETS = {
    target.name: target
    for target in (
        Target(NATIVE, "", (Variant(NATIVE, None),)),
        Target("x86-64", "x86_64", (_AVX512, _AVX2, _SSE)),
        Target("x86-64-v3", "x86_64", (_AVX2,)),
        Target("x86-64-v4", "x86_64", (_AVX512,)),
        Target("aarch64-linux-gnu", "aarch64", (Variant("neon", "generic"),)),
    )
}


def find_target(name: str) -> Target:
    """The target of this name.

    Raises:
        UnsupportedError: there is none; the hint lists those there are.
    """
    if name not in TARGETS:
        hint = nearest(name, TARGETS)
        known = f"known: {', '.join(TARGETS)}"
        raise UnsupportedError(
            f"unknown target {name!r}", hint=hint if hint == known else f"{hint} {known}"
        )
    return TARGETS[name]


def why_not_built(target: Target, command: Sequence[str]) -> str | None:
    """Why this compiler cannot build for a target; None when it can.

    Zig's compiler brings headers and libraries of every target; any other is taken to build for the
    machine it runs on.
    """
    if target.machine in ("", host_machine()) or is_zig(command):
        return None
    return f"{command[0]} builds for {host_machine()} only, not for {target.name}"


def machine_flags(target: Target, command: Sequence[str]) -> tuple[str, ...]:
    """Flags of every step, linking too: which kind of machine."""
    if target.name == NATIVE or not is_zig(command):
        return ()
    return ("-target", f"{target.machine}-linux-gnu.{_GLIBC}")


def shared_flags(command: Sequence[str]) -> tuple[str, ...]:
    """Flags that choose the oldest processor of the machine, for what all variants share."""
    return ("-mcpu=baseline",) if is_zig(command) else ()  # others do so by themselves


def variant_flags(variant: Variant, target: Target, command: Sequence[str]) -> tuple[str, ...]:
    """Flags that choose the processor of one variant."""
    x86 = (target.machine or host_machine()) in ("x86_64", "i686")
    option = "-march" if x86 and not is_zig(command) else "-mcpu"
    cpu = variant.cpu or "native"
    if is_zig(command):
        cpu = cpu.replace("-", "_")
    wide = ("-mprefer-vector-width=512",) if x86 else ()
    return (f"{option}={cpu}", *wide)


def is_zig(command: Sequence[str]) -> bool:
    """Whether a compiler command is zig's."""
    return any(PurePath(part).name in ("zig", "ziglang") for part in command)


def host_machine() -> str:
    """Processor family of this machine: x86_64, aarch64, …."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
