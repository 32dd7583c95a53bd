"""A file is written whole or not at all."""

from __future__ import annotations

import pytest

from afdplan.errors import AfdplanError
from afdplan.files.atomic import staged, write_atomic


def test_text_and_bytes_replace_what_was_there(tmp_path):
    file = tmp_path / "plan.toml"
    write_atomic(file, "größer".encode())
    assert file.read_bytes() == "größer".encode()
    write_atomic(file, b"\x00")
    assert file.read_bytes() == b"\x00"
    assert [found.name for found in tmp_path.iterdir()] == ["plan.toml"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_links_that_lead_to_each_other_are_no_file_to_replace(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for write in (lambda path: write_atomic(path, b"new"), lambda path: staged(path).__enter__()):
        with pytest.raises(AfdplanError, match=r"cannot write .*: too many levels of symbolic"):
            write(tmp_path / "a")
    assert sorted(path.is_symlink() for path in tmp_path.iterdir()) == [True, True]


@pytest.mark.parametrize("name", ["missing/plan", "folder"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(AfdplanError, match="cannot write") as caught:
        write_atomic(tmp_path / name, b"x")
    assert "\n" not in str(caught.value)
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]
