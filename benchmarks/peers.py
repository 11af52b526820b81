"""Other engines on the same networks: DeepSparse (sparse) and OpenVINO (dense).

Each lives in a virtual environment of its own under the user's cache folder, made when it is
first asked for, never a dependency. It runs in a process of its own, in turns with ONNX Runtime on
the dense file; the ratio of the two, times what the dense file takes in our process, is what the
peer takes. DeepSparse's licence allows evaluation, so it is used here and nowhere else; its
analytics are switched off. It reads opset 19 at the most, so its files are written by torch's
older exporter.
"""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from random_models import Case, ModelFiles, write_peer_file

from pruneaug_cli.errors import UsageError
from pruneaug_cli.registry import nearest

_TIMER = Path(__file__).with_name("peer_timer.py")
_ENVIRONMENT = {"NM_DISABLE_ANALYTICS": "1", "PYTHONPATH": ""}
COLUMNS = ("deepsparse_s", "deepsparse_unstructured_s", "openvino_s")
_INSTALL_S, _RUN_S = 1200, 600


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine: its name in ``peer_timer.py``, and what pip installs for it."""

    name: str
    requirements: tuple[str, ...]


PEERS = {
    "deepsparse": Peer("deepsparse", ("deepsparse==1.8.0",)),
    "openvino": Peer("openvino", ("openvino",)),
}


@dataclass(frozen=True, slots=True)
class PeerTiming:
    """What a peer did.

    Attributes:
        ratio: its median over that of dense ONNX Runtime in the same process; None: it did not run.
        note: its version, or why it did not run.
    """

    ratio: float | None
    note: str

    def seconds(self, dense_s: float) -> float | None:
        """What it takes where the dense file takes ``dense_s``."""
        return None if self.ratio is None else self.ratio * dense_s


def read_peers(text: str | None) -> list[Peer]:
    """Read ``deepsparse,openvino``.

    Raises:
        UsageError: there is no such peer.
    """
    names = [] if text is None else text.split(",")
    for name in names:
        if name not in PEERS:
            raise UsageError(f"--peers: no peer {name!r}", hint=nearest(name, PEERS))
    return [PEERS[name] for name in names]


@dataclass(frozen=True, slots=True)
class Setup:
    """Which peers to time, where their files go, with how many threads, for how long."""

    peers: list[Peer]
    folder: Path
    threads: int
    seconds: float


def peer_columns(case: Case, files: ModelFiles, dense_s: float, setup: Setup) -> dict[str, object]:
    """What the peers take on this network: seconds, or null with the reason in ``peers``.

    DeepSparse runs the same weights, and other ones of the same sparsity without structure;
    OpenVINO the dense file, whose zeros it does not look for.
    """
    wanted = {peer.name for peer in setup.peers}
    row: dict[str, object] = {}
    notes = {}
    for column, file in zip(COLUMNS, _peer_files(case, files, setup), strict=True):
        peer = PEERS[column.partition("_")[0]]
        timing = PeerTiming(None, "not asked for: see --peers")
        if peer.name in wanted:
            timing = time_peer(
                peer, file(), files.dense, case.network.input_shape,
                threads=setup.threads, seconds=setup.seconds,
            )  # fmt: skip
        row[column] = timing.seconds(dense_s)
        notes[column] = timing.note
    return row | {"peers": notes}


def _peer_files(case: Case, files: ModelFiles, setup: Setup) -> Iterator[Callable[[], Path]]:
    """How to get the file of each column."""
    yield lambda: write_peer_file(case, setup.folder)
    yield lambda: write_peer_file(case.unstructured, setup.folder)
    yield lambda: files.dense


def no_peers(reason: str) -> dict[str, object]:
    """The same columns for a model that no peer runs."""
    return {**dict.fromkeys(COLUMNS), "peers": dict.fromkeys(COLUMNS, reason)}


def time_peer(
    peer: Peer, model: Path, dense: Path, shape: tuple[int, ...], *, threads: int, seconds: float
) -> PeerTiming:
    """Time a peer on ``model`` beside ONNX Runtime on ``dense``; a failure is an answer too."""
    try:
        python = _python(peer)
        words = ("x".join(map(str, shape)), str(threads), str(seconds))
        printed = _run(
            [str(python), str(_TIMER), peer.name, str(model), str(dense), *words], _RUN_S
        )
        found = json.loads(printed.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return PeerTiming(None, f"{peer.name}: {_reason(error)}")
    return PeerTiming(found["peer_s"] / found["anchor_s"], f"{peer.name} {found['version']}")


def _python(peer: Peer) -> Path:
    """The interpreter of a peer's environment, made when it is not there."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = (Path(base) if base else Path.home() / ".cache") / "pruneaug" / "peers"
    folder = cache / f"{peer.name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").is_file():
        print(f"installing {' '.join(peer.requirements)} into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        anchor = f"onnxruntime=={version('onnxruntime')}"
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([str(python), *install, *peer.requirements, anchor], _INSTALL_S)
        (folder / "complete").touch()
    return python


def _run(words: list[str], seconds: int) -> str:
    return subprocess.run(  # noqa: S603 - interpreters and files of ours
        words, capture_output=True, text=True, check=True, timeout=seconds,
        env={**os.environ, **_ENVIRONMENT},
    ).stdout  # fmt: skip


def _reason(error: Exception) -> str:
    """The last line a process said, or what went wrong with it."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = (said or str(error)).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
