"""Files: atomic, versioned, the same bytes for the same content."""

import os
from pathlib import Path

import numpy as np
import pytest

from pruneaug_cli import files
from pruneaug_cli.errors import InputError, PlanError
from pruneaug_cli.registry import Registry


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    files.write_json(path, {"schema_version": 1})
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        files.write_json(path, {"schema_version": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    names = ".a.safetensors.x1_abcde", ".b.safetensors.x2_abcde", ".gitignore", "a.safetensors"
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / names[1]).touch()  # its writer may live
    files.remove_leftovers(tmp_path)
    files.remove_leftovers(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_json_is_sorted_and_ends_with_a_newline() -> None:
    assert files.dump_json({"b": 1, "a": [2]}) == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such plan file"),
        (b"\xff\xfe", "cannot be read as a plan"),
        (b"{", "not JSON"),
        (b"[]", r"expected a plan \(a JSON object\), got list"),
        (b"{}", "plan schema None is not the supported 1"),
        (b'{"schema_version": 2}', "plan schema 2 is not the supported 1"),
    ],
)
def test_a_bad_document_is_refused_with_its_path(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError, match=r"p\.json: " + message):
        files.read_json(path, kind="plan", version=1, error=PlanError)


def test_digests_separate_parts() -> None:
    assert files.digest_text("ab", "c") != files.digest_text("a", "bc")
    ones = np.ones(4, dtype=np.float32)
    assert files.digest_array(ones) != files.digest_array(ones.reshape(2, 2))
    assert files.digest_array(ones) == files.digest_array(ones.copy())


def test_the_nearest_name_is_the_hint() -> None:
    registry: Registry[object] = Registry("strategy", {"knapsack": object, "tpe": object})
    with pytest.raises(Exception, match="unknown strategy 'knapsak'") as caught:
        registry.create("knapsak")
    assert caught.value.hint == "did you mean 'knapsack'?"  # type: ignore[attr-defined]
    assert caught.value.exit_code == 4  # type: ignore[attr-defined]


def test_a_factory_can_be_a_dotted_path() -> None:
    registry: Registry[object] = Registry("thing", {"grid": "collections:OrderedDict"})
    assert registry.create("grid") == {}


def test_unreadable_files_name_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a recipe"):
        files.read_text(tmp_path, kind="recipe")
