"""What machine this is, as text for a profile: enough to judge a latency, nothing that names it."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

_ISAS = (("avx512f", "avx512"), ("avx2", "avx2"), ("sse2", "sse"), ("asimd", "neon"))
_CPU0 = Path("/sys/devices/system/cpu/cpu0")


def host_facts() -> dict[str, str]:
    """CPU and instruction set, cores, caches, governor, system and library versions.

    What the system does not tell is left out, except ``cpu`` and ``isa``, which are always there.
    """
    facts = cpu_facts(_read(Path("/proc/cpuinfo")), architecture=platform.machine())
    facts |= {
        "cores": str(usable_cores()),
        "caches": _caches(_CPU0 / "cache"),
        "governor": _read(_CPU0 / "cpufreq" / "scaling_governor"),
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "torch": version("torch"),
    }
    return {name: value for name, value in facts.items() if value}


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_facts(cpuinfo: str, *, architecture: str) -> dict[str, str]:
    r"""Read the first processor of ``/proc/cpuinfo``.

    ``cpu`` is the marketing name; ``cpu_id`` the numbers that identify the design where the name
    hides it, as virtual machines do: vendor, family, model, stepping.

    Example:
        >>> cpu_facts("model name : Some CPU\nflags : sse2 avx2", architecture="x86_64")
        {'cpu': 'Some CPU', 'isa': 'avx2'}
    """
    fields = _fields(cpuinfo.split("\n\n", 1)[0])
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    isa = next((name for flag, name in _ISAS if flag in flags), architecture)
    ids = [fields.get(key) for key in ("vendor_id", "cpu family", "model", "stepping")]
    arm = [fields.get(key) for key in ("CPU implementer", "CPU part", "CPU variant")]
    numbers = "-".join(number for number in (ids if ids[0] else arm) if number)
    facts = {"cpu": fields.get("model name") or platform.processor() or architecture, "isa": isa}
    return facts | ({"cpu_id": numbers} if numbers else {})


def _fields(block: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _caches(folder: Path) -> str:
    levels = []
    for index in sorted(folder.glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(_read(index / "type"), "")
        levels.append(f"L{_read(index / 'level')}{kind} {_read(index / 'size')}")
    return ", ".join(levels)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
