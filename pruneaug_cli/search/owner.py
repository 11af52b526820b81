"""Who runs a trial: a process by machine, number and start, and whether it is gone.

A process that died on this machine is noticed at once. What runs elsewhere, or in another
container, has another machine in its name and is judged by its heartbeat (``search/study.py``).
"""

import os
import platform
from pathlib import Path


def this_process() -> str:
    """``MACHINE/NUMBER/START`` of the calling process."""
    return "/".join((_machine(), str(os.getpid()), _start(os.getpid()) or ""))


def is_gone(owner: str) -> bool:
    """Whether ``owner`` was a process of this machine, and has ended."""
    machine, number, start = owner.rsplit("/", 2)
    if machine != _machine():
        return False
    found = _start(int(number))
    return found is None or found != start


def _machine() -> str:
    """This boot of this machine, and the namespace that process numbers belong to."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and namespace.exists():
        return f"{boot.read_text().strip()} {namespace.readlink()}"
    return platform.node()


def _start(number: int) -> str | None:
    """When a process began, in ticks since the boot; empty where this cannot be known.

    None when there is no such process. A number is given anew some time, a start never.
    """
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{number}/stat").read_text()
        except OSError:
            return None
        state, *fields = text.rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]  # a zombie has ended; start: field 22
    if os.name != "posix":
        return ""  # nobody can be asked: heartbeats must do
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it is there, and another user's
    return ""
