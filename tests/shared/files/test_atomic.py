"""Files are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from shared.errors import InputError
from shared.files.atomic import atomic_write, keep_as, leftovers, require_name, write_text


def test_success_replaces_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "old")
    write_text(tmp_path / "a" / "b.txt", "new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), InputError, "no space left on the disk"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), InputError, "no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied"), InputError, "no permission to write"),
        (KeyError("ours"), KeyError, "ours"),
    ],
)
def test_failure_keeps_the_old_file(tmp_path: Path, error: Exception, kind: type[Exception], message: str) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")
    with pytest.raises(kind, match=message), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        write_text(tmp_path / "taken" / "b.txt", "text")


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "a") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_kept_file_stays_as_it_was(tmp_path: Path) -> None:
    path, kept = tmp_path / "a", tmp_path / "kept"
    for text in ("one", "two"):
        write_text(path, text)
        keep_as(path, kept)
    write_text(path, "three")
    assert (path.read_text(), kept.read_text()) == ("three", "two")


def test_a_file_that_is_kept_already_leaves_nothing_behind(tmp_path: Path) -> None:
    """As after a kill between keeping the old file and writing the new one: both names are one file."""
    path, kept = tmp_path / "last", tmp_path / "previous"
    path.write_text("content")
    for _ in range(2):
        keep_as(path, kept)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["last", "previous"] and kept.read_text() == "content"


def test_only_files_of_dead_writers_are_leftovers(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for name in (f".a.json.{child}.tmp", f".b.json.{os.getpid()}.tmp", ".mine.tmp", "c.json"):
        (tmp_path / name).touch()
    assert [path.name for path in leftovers(tmp_path)] == [f".a.json.{child}.tmp"]


@pytest.mark.parametrize("name", ["x" * 255, "\u6f22" * 85, "y" * 245 + "\u00e9" * 5])
def test_names_of_255_bytes(tmp_path: Path, name: str) -> None:
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("text")
        assert temporary != tmp_path / name and temporary.name.startswith(".") and leftovers(tmp_path) == []
    keep_as(tmp_path / name, tmp_path / ("z" * 255))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "z" * 255])
    assert (tmp_path / name).read_text() == "text"
    require_name(tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 256, "\u6f22" * 86])
def test_longer_names_are_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="its name is longer than a name may be, most often 255 bytes"):
        write_text(tmp_path / name, "text")
    with pytest.raises(InputError, match=r"its name has 25\d bytes, and may have 255"):
        require_name(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_written_as_an_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "list.txt", os.fsdecode(b"a\xff.png"))
    assert (tmp_path / "list.txt").read_text() == "a\\udcff.png"
