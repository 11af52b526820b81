"""Files that survive a crash and repeat byte for byte.

Writing is atomic: the text goes to a private name in the same folder and is renamed into place,
so a reader sees the old file or the new one, never half of it; what a killed writer leaves behind
:func:`remove_leftovers` clears away. JSON is sorted, indented by two
and ends with a newline. Every document carries ``schema_version``.
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pruneaug_cli.errors import InputError

JsonObject = dict[str, Any]

_LEFTOVER_S = 600.0
"""Of this age a temporary file has no writer any more: the largest are written in seconds."""
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")
"""What ``tempfile.mkstemp`` makes of the prefix below."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, atomically; makes the folder when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed, once they are ten minutes old."""
    oldest = time.time() - _LEFTOVER_S
    for path in folder.glob(".*"):
        with suppress(FileNotFoundError):  # a living writer has just renamed it
            if _TEMPORARY.fullmatch(path.name) and path.stat().st_mtime < oldest:
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def dump_json(document: Mapping[str, Any]) -> str:
    """Render a document: keys sorted, two spaces, a final newline, no NaN."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace ``path`` by a JSON document, atomically."""
    write_text(path, dump_json(document))


def read_text(path: Path, *, kind: str, error: type[InputError] = InputError) -> str:
    """Read a UTF-8 file.

    Args:
        path: the file.
        kind: what the file should be, for the message (``"plan"``).
        error: the class to raise.

    Raises:
        InputError: (or ``error``) the file is missing, a folder, or not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as cause:
        raise error(f"{path}: no such {kind} file") from cause
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: cannot be read as a {kind}: {cause}") from cause


def read_json(
    path: Path, *, kind: str, version: int, error: type[InputError] = InputError, hint: str = ""
) -> JsonObject:
    """Read a JSON object and check its ``schema_version``.

    Raises:
        InputError: (or ``error``) unreadable, not JSON, not an object, or of another version.
    """
    text = read_text(path, kind=kind, error=error)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as cause:
        raise error(f"{path}: not JSON: {cause}") from cause
    if not isinstance(document, dict):
        found = type(document).__name__
        raise error(f"{path}: expected a {kind} (a JSON object), got {found}")
    found_version = document.get("schema_version")
    if found_version != version:
        raise error(
            f"{path}: {kind} schema {found_version!r} is not the supported {version}",
            hint=hint or None,
        )
    return document


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 of length-prefixed parts, in hexadecimal (so no two lists of parts collide)."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def digest_text(*parts: str) -> str:
    """SHA-256 of texts; see :func:`digest_bytes`."""
    return digest_bytes(*(part.encode("utf-8") for part in parts))


def digest_array(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's dtype, shape and bytes in C order."""
    content = np.ascontiguousarray(array)
    return digest_bytes(str(content.dtype).encode(), str(content.shape).encode(), content.tobytes())


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
