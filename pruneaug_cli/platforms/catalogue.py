"""Where profiles are found: by path; or by name in ./platforms, the user's folder, the project's.

The user's folder is ``$XDG_DATA_HOME/pruneaug/platforms`` (``~/.local/share/…`` by default). The
project's own profiles are in ``platforms/`` beside the package; a wheel puts them into
``share/pruneaug/platforms`` of the environment.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pruneaug_cli.errors import ProfileError
from pruneaug_cli.registry import nearest


def profile_folders() -> tuple[Path, ...]:
    """The folders searched for a name, first match wins."""
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    project = Path(__file__).parents[2] / "platforms"
    installed = Path(sys.prefix) / "share" / "pruneaug" / "platforms"
    return (Path("platforms"), Path(data) / "pruneaug" / "platforms", project, installed)


def list_profiles(folders: Sequence[Path] | None = None) -> dict[str, Path]:
    """Every profile that can be named, with its file, sorted by name."""
    found: dict[str, Path] = {}
    for folder in profile_folders() if folders is None else folders:
        for path in sorted(folder.glob("*.json")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_profile(name_or_path: str, folders: Sequence[Path] | None = None) -> Path:
    """The file of a profile.

    Args:
        name_or_path: a name such as ``cascade-lake-avx512-1t``; or, when it ends in ``.json`` or
            has a separator, a path.
        folders: where names are looked up; None: :func:`profile_folders`.

    Raises:
        ProfileError: there is no such file or name; the nearest name is the hint.
    """
    path = Path(name_or_path)
    if path.suffix == ".json" or len(path.parts) > 1:
        if not path.is_file():
            raise ProfileError(f"{path}: no such profile file", hint=_make_one(path.stem))
        return path
    known = list_profiles(folders)
    if name_or_path not in known:
        hint = nearest(name_or_path, known) if known else _make_one(name_or_path)
        raise ProfileError(f"unknown profile {name_or_path!r}", hint=hint)
    return known[name_or_path]


def _make_one(name: str) -> str:
    return f"measure this machine with: pruneaug profile --task TASK --platform {name}"
