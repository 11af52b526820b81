"""``pruneaug doctor``: what this machine can do."""

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from pruneaug_cli.app.requests import DoctorRequest
from pruneaug_cli.app.results import Check, DoctorResult
from pruneaug_cli.errors import PruneaugError
from pruneaug_cli.export import region_model
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.kernels.native import Compiler
from pruneaug_cli.kernels.native.targets import TARGETS, why_not_built
from pruneaug_cli.kernels.program import Linear, RegionProgram, Rows, Weight
from pruneaug_cli.platforms import list_profiles
from pruneaug_cli.profiling import host_facts, usable_cores
from pruneaug_cli.progress import Progress, Step, silent
from pruneaug_cli.runtime import open_session

_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "optuna", "ziglang")
_EXTRAS = {"scikit-learn": "demo"}
_EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
_FREE_BYTES = 2 * 2**30


def run_doctor(request: DoctorRequest, progress: Progress = silent) -> DoctorResult:
    """Look at the processor, the packages, the compiler and the kernels; change nothing."""
    del request
    facts = host_facts()
    checks = [
        Check("processor", "ok", f"{facts['cpu']}, {facts['isa']}, {usable_cores()} cores"),
        *(_package(name) for name in _PACKAGES),
        *(_extra(name, extra) for name, extra in _EXTRAS.items()),
        _disk(),
        _profiles(),
        _compiler(Compiler()),
        _emulator(),
    ]
    for index, name in enumerate(BACKENDS):
        progress(Step("kernels", index, len(list(BACKENDS)), name))
        checks.append(_backend(name))
    checks.append(_operators())
    return DoctorResult(tuple(checks))


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "failed", "not installed", f"pip install {name}")


def _extra(name: str, extra: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "missing", "not installed", f"pip install 'pruneaug[{extra}]'")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    if free < _FREE_BYTES:
        return Check("disk", "failed", f"{free / 1e9:.1f} GB free here", "a run may need 2 GB")
    return Check("disk", "ok", f"{free / 1e9:.0f} GB free here")


def _profiles() -> Check:
    found = list_profiles()
    if not found:
        hint = "pruneaug profile --task builtin:digits-cnn --platform NAME"
        return Check("profiles", "missing", "none found", hint)
    return Check("profiles", "ok", ", ".join(found))


def _compiler(compiler: Compiler) -> Check:
    """Which compiler builds the kernels, and for which machines."""
    if reason := compiler.why_unavailable():
        return Check("compiler", "failed", reason, "pip install ziglang, or set PRUNEAUG_CC")
    built = [name for name in TARGETS if not why_not_built(TARGETS[name], compiler.command)]
    return Check("compiler", "ok", f"{compiler.version()}; builds for {', '.join(built)}")


def _emulator() -> Check:
    """Only the tests of kernels for other processors need one."""
    found = [name for name in _EMULATORS if shutil.which(name)]
    if not found:
        hint = "apt-get install qemu-user-static (only the tests of other processors need it)"
        return Check("emulator", "missing", "no qemu-aarch64", hint)
    return Check("emulator", "ok", found[0])


def _backend(name: str) -> Check:
    reason = BACKENDS.create(name).why_unavailable()
    if reason is not None:
        return Check(f"kernels: {name}", "failed", reason, "see the README on compilers")
    return Check(f"kernels: {name}", "ok", "works")


def _operators() -> Check:
    """Multiply by two in a session of ONNX Runtime with our library."""
    name = "operators in ONNX Runtime"
    doubled = Weight("double", 2.0 * np.eye(8, dtype=np.float32))
    program = RegionProgram((Rows(8),), (Linear(0, 0),), (1,), (doubled,), ())
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    try:
        library = BACKENDS.create("native").operator_library()
        isa = BACKENDS.create("native").fingerprint()["isa"]
        session = open_session(region_model(program).SerializeToString(), library=library)
        (answer,) = session.run([x])
    except PruneaugError as error:
        return Check(name, "failed", str(error), error.hint)
    if not np.array_equal(answer, 2.0 * x):
        return Check(name, "failed", "a product came out wrong")
    return Check(name, "ok", f"{library.name}, {isa}")
