"""Builds the library from ``src/``, for this machine or another, once.

The compiler is the one in the ziglang wheel, or the command in ``PRUNEAUG_CC``. The result lies in
``$XDG_CACHE_HOME/pruneaug/kernels`` (``~/.cache`` without it) under a key of everything that shaped
it: compiler version, flags, every source, and the machine's instruction set when it is built for
this machine. A build goes to a private folder and is renamed into place, so a reader never sees
half a file; of several processes that want to build, one does and the others wait.

Several variants of the engine fit in one library because each is compiled with its names changed
(:func:`_names`): ``pa_pack`` becomes ``pa_avx2_pack``. The sources say nothing of it.
"""

import fcntl
import functools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from pruneaug_cli.errors import ToolchainError, UnsupportedError
from pruneaug_cli.files import digest_bytes
from pruneaug_cli.kernels.native.targets import (
    NATIVE,
    find_target,
    machine_flags,
    shared_flags,
    variant_flags,
    why_not_built,
)

SOURCES = Path(__file__).parent / "src"
_SHARED = ("dispatch.c", "ort_op.c")  # compiled once; all else once per variant
_FLAGS = (
    "-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno",
    "-ffp-contract=fast",  # multiply-adds round once: nearer to the exact sum, and twice as fast
    "-fno-sanitize=undefined",  # zig's default
    "-pthread",
)  # fmt: skip
_NAME = re.compile(r"\bpa_\w+")
_BUILD_LIMIT_S = 600.0


class Compiler:
    """A C compiler, a target, and a folder of what it built.

    Args:
        command: the compiler and its first arguments; None: ``PRUNEAUG_CC``, else ziglang.
        cache: the folder; None: the user's cache folder.
        target: what to build for (``targets.py``).
        sources: another folder of C files in place of the engine's, for experiments.

    Raises:
        UnsupportedError: nobody knows the target.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        cache: Path | None = None,
        target: str = NATIVE,
        sources: Path = SOURCES,
    ) -> None:
        self._command = tuple(command) if command is not None else None
        self._cache = cache
        self._sources = sources
        self.target = find_target(target)

    def for_target(self, target: str) -> "Compiler":
        """The same compiler and folder, another target.

        Raises:
            UnsupportedError: nobody knows the target.
        """
        return Compiler(self._command, self._cache, target, self._sources)

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

    def key(self) -> str:
        """Digest of all that shapes the library; where the compiler is installed does not."""
        here = _instruction_set() if self.target.name == NATIVE else self.target.name
        steps = [*self._compile_steps(Path()), self._link_step(Path(), [])]
        flags = (word for step in steps for word in step[1:])
        words = (word.replace(str(self._sources), "src") for word in flags)
        texts = (self.version(), here, *words)
        files = (
            part
            for path in _files(self._sources)
            for part in (path.name.encode(), path.read_bytes())
        )
        return digest_bytes(*(text.encode() for text in texts), *files)[:16]

    def build(self) -> Path:
        """Return the library, compiling it when it is not in the cache.

        Raises:
            ToolchainError: there is no compiler, or it rejected a source; its message and all that
                it read are kept in ``failed-KEY/`` in the cache, and the hint is the command to
                repeat.
            UnsupportedError: the compiler cannot build for the target.
        """
        if reason := self.why_unavailable():
            raise ToolchainError(
                reason, hint="pip install ziglang, or set PRUNEAUG_CC to a C compiler"
            )
        if reason := why_not_built(self.target, self.command):
            raise UnsupportedError(reason, hint="unset PRUNEAUG_CC to cross-compile with ziglang")
        key = self.key()
        label = "" if self.target.name == NATIVE else f"{self.target.name}-"
        library = self.cache / f"pruneaug_ops-{label}{key}.so"
        if not library.exists():
            self._build_once(library, key)
        return library

    def _build_once(self, library: Path, key: str) -> None:
        """Compile unless another process, for which this one waits, has done so meanwhile."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the file, also when the process dies
            if library.exists():
                return
            folder = Path(tempfile.mkdtemp(prefix=".build-", dir=self.cache))
            try:
                self._build_in(folder).replace(library)
            except _RejectedError as error:
                raise self._evidence(error, folder, self.cache / f"failed-{key}") from error
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _build_in(self, folder: Path) -> Path:
        for variant in self.target.variants:
            (folder / f"{variant.name}.h").write_text(
                _names(variant.name, self._sources), encoding="utf-8"
            )
        steps = self._compile_steps(folder)
        environment = dict(self._environment_items())
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(lambda step: _require(step, environment), steps))
        link = self._link_step(folder, [step[-1] for step in steps])
        _require(link, environment)
        return Path(link[-1])

    def _compile_steps(self, folder: Path) -> list[list[str]]:
        """One command per source and variant, the longest first; each ends with what it makes."""
        common = [*self.command, *machine_flags(self.target, self.command), *_FLAGS, "-c"]
        files = _files(self._sources)
        shared = [path for path in files if path.name in _SHARED]
        engine = [path for path in files if path.suffix == ".c" and path not in shared]
        names = "".join(f"V({variant.name})" for variant in self.target.variants)
        steps = []
        for path in sorted(engine, key=lambda path: -path.stat().st_size):
            for variant in self.target.variants:
                flags = variant_flags(variant, self.target, self.command)
                header = str(folder / f"{variant.name}.h")
                made = str(folder / f"{path.stem}-{variant.name}.o")
                steps.append([*common, *flags, "-include", header, str(path), "-o", made])
        for path in shared:
            flags = (*shared_flags(self.command), f"-DPA_VARIANTS={names}")
            steps.append([*common, *flags, str(path), "-o", str(folder / f"{path.stem}.o")])
        return steps

    def _link_step(self, folder: Path, objects: Sequence[str]) -> list[str]:
        flags = (*machine_flags(self.target, self.command), "-shared", "-pthread")
        made = str(folder / "library.so")
        return [*self.command, *flags, *objects, "-lm", "-o", made]

    def _evidence(self, error: "_RejectedError", folder: Path, kept: Path) -> ToolchainError:
        """Keep what was compiled and what the compiler said."""
        shutil.rmtree(kept, ignore_errors=True)
        folder.rename(kept)
        repeat = shlex.join(error.step).replace(str(folder), str(kept))
        (kept / "errors.txt").write_text(f"{repeat}\n\n{error.said}", encoding="utf-8")
        lines = error.said.strip().splitlines()
        first = next(
            (line for line in lines if "error" in line), lines[0] if lines else "no output"
        )
        return ToolchainError(
            f"{self.command[0]} rejected the kernels (all of it: {kept / 'errors.txt'}): {first}",
            hint=f"repeat with: {repeat}",
        )

    def _environment_items(self) -> tuple[tuple[str, str], ...]:
        """Zig keeps a cache of its own: inside ours, unless the user chose a place."""
        zig = str(self.cache / "zig")
        ours = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
        return tuple(sorted({**ours, **os.environ}.items()))


class _RejectedError(Exception):
    """A command of a build that failed, and what it said."""

    def __init__(self, step: Sequence[str], said: str) -> None:
        super().__init__(said)
        self.step, self.said = step, said


def _require(step: Sequence[str], environment: dict[str, str]) -> None:
    done = _run(list(step), environment)
    if done.returncode != 0 or not Path(step[-1]).exists():
        raise _RejectedError(step, done.stderr)


def _names(variant: str, sources: Path = SOURCES) -> str:
    """A header that gives everything called ``pa_…`` in the sources a name of this variant.

    Types and static functions are renamed with the rest: within one variant nothing changes.
    """
    words = {word for path in _files(sources) for word in _NAME.findall(path.read_text("utf-8"))}
    lines = (f"#define {word} pa_{variant}_{word.removeprefix('pa_')}" for word in sorted(words))
    return "\n".join(["#define PA_EXPORT", *lines, ""])


def _files(sources: Path) -> list[Path]:
    return sorted(path for path in sources.iterdir() if path.suffix in (".c", ".h"))


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
