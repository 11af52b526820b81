"""Builds the library from ``src/`` for this machine, once.

The compiler is the one in the ziglang wheel, or the command in ``PRUNEAUG_CC``. The result lies in
``$XDG_CACHE_HOME/pruneaug/kernels`` (``~/.cache`` without it) under a key of everything that shaped
it: compiler version, flags, the machine's instruction set, every source. A build goes to a private
folder and is renamed into place, so two processes may build at once and a reader never sees half
a file.
"""

import functools
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pruneaug_cli.errors import ToolchainError
from pruneaug_cli.files import digest_bytes

SOURCES = Path(__file__).parent / "src"
_FLAGS = (
    "-std=gnu11", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-math-errno",
    "-ffp-contract=fast",  # multiply-adds round once: nearer to the exact sum, and twice as fast
    "-fno-sanitize=undefined",  # zig's default
    "-pthread",
)  # fmt: skip
_BUILD_LIMIT_S = 600.0


class Compiler:
    """A C compiler and a folder of what it built.

    Args:
        command: the compiler and its first arguments; None: ``PRUNEAUG_CC``, else ziglang.
        cache: the folder; None: the user's cache folder.
    """

    def __init__(self, command: Sequence[str] | None = None, cache: Path | None = None) -> None:
        self._command = tuple(command) if command is not None else None
        self._cache = cache

    @property
    def command(self) -> tuple[str, ...]:
        """The compiler and its first arguments."""
        if self._command is not None:
            return self._command
        named = os.environ.get("PRUNEAUG_CC", "")
        return tuple(shlex.split(named)) or (sys.executable, "-m", "ziglang", "cc")

    @property
    def cache(self) -> Path:
        """Where libraries are kept."""
        if self._cache is not None:
            return self._cache
        base = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(base) if base else Path.home() / ".cache") / "pruneaug" / "kernels"

    def why_unavailable(self) -> str | None:
        """Why there is no compiler; None when there is one."""
        if "ziglang" in self.command and find_spec("ziglang") is None:
            return "the package 'ziglang' is not installed and PRUNEAUG_CC is not set"
        try:
            self.version()
        except ToolchainError as error:
            return str(error)
        return None

    def version(self) -> str:
        """First line of what the compiler says about itself.

        Raises:
            ToolchainError: it does not start.
        """
        return _version(self.command, self._environment_items())

    def flags(self) -> tuple[str, ...]:
        """Every flag of a build."""
        if platform.machine().lower() in ("x86_64", "amd64", "i686"):
            return (*_FLAGS, "-march=native", "-mprefer-vector-width=512")
        return (*_FLAGS, "-mcpu=native")

    def key(self) -> str:
        """Digest of all that shapes the library."""
        texts = (self.version(), *self.command, *self.flags(), _instruction_set())
        files = (part for path in _files() for part in (path.name.encode(), path.read_bytes()))
        return digest_bytes(*(text.encode() for text in texts), *files)[:16]

    def build(self) -> Path:
        """Return the library, compiling it when it is not in the cache.

        Raises:
            ToolchainError: there is no compiler, or it rejected a source; its message is kept in
                ``errors.txt`` beside the sources, and the hint is the command to repeat.
        """
        if reason := self.why_unavailable():
            raise ToolchainError(
                reason, hint="pip install ziglang, or set PRUNEAUG_CC to a C compiler"
            )
        key = self.key()
        library = self.cache / f"pruneaug_ops-{key}.so"
        if not library.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".build-", dir=self.cache) as folder:
                made = Path(folder) / library.name
                self._compile(made, evidence=self.cache / f"failed-{key}.txt")
                made.replace(library)
        return library

    def _compile(self, target: Path, evidence: Path) -> None:
        sources = [str(path) for path in _files() if path.suffix == ".c"]
        argv = [*self.command, *self.flags(), *sources, "-o", str(target), "-lm"]
        done = _run(argv, dict(self._environment_items()))
        if done.returncode == 0 and target.exists():
            return
        repeat = shlex.join([*argv[:-2], str(evidence.with_suffix(".so")), argv[-1]])
        evidence.write_text(f"{repeat}\n\n{done.stderr}", encoding="utf-8")
        lines = done.stderr.strip().splitlines()
        first = next(
            (line for line in lines if "error" in line), lines[0] if lines else "no output"
        )
        raise ToolchainError(
            f"{self.command[0]} rejected the kernels (all of it: {evidence}): {first}",
            hint=f"repeat with: {repeat}",
        )

    def _environment_items(self) -> tuple[tuple[str, str], ...]:
        """Zig keeps a cache of its own: inside ours, unless the user chose a place."""
        zig = str(self.cache / "zig")
        ours = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
        return tuple(sorted({**ours, **os.environ}.items()))


def _files() -> list[Path]:
    return sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h"))


@functools.lru_cache(maxsize=8)
def _version(command: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> str:
    done = _run([*command, "--version"], dict(environment))
    if done.returncode != 0 or not done.stdout.strip():
        raise ToolchainError(f"the C compiler {shlex.join(command)} does not start")
    return done.stdout.splitlines()[0].strip()


@functools.lru_cache(maxsize=1)
def _instruction_set() -> str:
    """What ``-march=native`` depends on: the processor's model and features."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "flags", "Features", "CPU part")
    lines = (line for line in text.split("\n\n", 1)[0].splitlines() if line.startswith(kept))
    return "\n".join(" ".join(line.split()) for line in lines)


def _run(argv: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(  # noqa: S603 - the user's own compiler
            argv, env=environment, capture_output=True, text=True, check=False,
            timeout=_BUILD_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"the C compiler {argv[0]} failed: {error}") from error
