from __future__ import annotations

import errno
import json
import os

import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.results_dataset import ResultsDataset, read_manifest

COLUMNS = {"case": "count", "case_hash": "text", "status": "text", "curve": "numbers"}


def rows(numbers, status="done"):
    return [{"case": n, "case_hash": f"h{n}", "status": status, "curve": [1.0, n]} for n in numbers]


@pytest.fixture
def results(tmp_path):
    made = ResultsDataset.create(tmp_path / "r", {"columns": COLUMNS, "afdplan_version": "0"})
    yield made
    made.close()


def cases(results):
    return sorted(results.scan().collect()["case"].to_list())


def test_an_empty_dataset_has_its_columns(results):
    assert results.scan().collect().columns == list(COLUMNS)


def test_merging_keeps_every_row(results):
    for start in range(0, 300, 3):
        results.append(rows(range(start, start + 3)))
        results.merge()
    assert len(results.parts()) < 70
    results.merge(2)
    assert cases(results) == list(range(300))
    results.append(rows([300]))
    assert cases(results) == list(range(301))


def test_a_kill_between_merging_and_removing_doubles_nothing(results):
    for number in range(5):
        results.append(rows([number]))
    small = {path.name: path.read_bytes() for path in results.parts()}
    results.merge(2)
    merged = {path.name for path in results.folder.glob("part-*")}
    for name, content in small.items():  # as if the kill had come before they were removed
        (results.folder / name).write_bytes(content)
    (results.folder / ".part-00000006.abc.tmp").write_bytes(b"half")
    again = ResultsDataset.open(results.folder)
    assert cases(again) == list(range(5))
    again.repair()
    left = {path.name for path in results.folder.iterdir()}
    assert left == merged | {"manifest.json", ".lock"}
    again.append(rows([5]))
    assert cases(again) == list(range(6))


def test_removing_a_status(results):
    results.append(rows([0, 1]))
    results.append(rows([2], "failed") + rows([3]))
    assert results.remove("failed") == 1
    assert cases(results) == [0, 1, 3]


def test_a_full_disk_keeps_what_is_there(results, monkeypatch):
    results.append(rows([0]))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InvalidInputError, match="no space left on device"):
            results.append(rows([1]))
    assert cases(results) == [0]
    assert {p.name for p in results.folder.iterdir()} == {
        "manifest.json",
        ".lock",
        "part-00000001-00000001.parquet",
    }


def test_one_writer_at_a_time(results):
    other = ResultsDataset.open(results.folder)
    with pytest.raises(InvalidInputError, match="another afdplan sweep writes"):
        other.lock()


def test_results_of_another_layout_are_refused(results):
    path = results.folder / "manifest.json"
    manifest = json.loads(path.read_text()) | {"schema_version": 9, "afdplan_version": "7.1"}
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidInputError, match=r"layout version 9.*use afdplan 7\.1"):
        read_manifest(results.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"columns": 3}', "null", "[" * 100_000])
def test_manifests_that_are_none(results, content):
    (results.folder / "manifest.json").write_text(content)
    with pytest.raises(InvalidInputError, match="manifest"):
        read_manifest(results.folder)


def test_no_results(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no results of a study"):
        read_manifest(tmp_path)


def test_a_broken_part_is_named(results):
    results.append(rows([0]))
    results.parts()[0].write_bytes(b"PAR1 but no more")
    with pytest.raises(InvalidInputError, match=r"part-00000001.*remove that file"):
        results.scan()
    with pytest.raises(InvalidInputError, match=r"part-00000001.*remove that file"):
        list(results.progress())


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for path, told in (("file", "no folder"), ("file/sub", "cannot make the folder")):
        with pytest.raises(InvalidInputError, match=told):
            ResultsDataset.create(tmp_path / path, {"columns": COLUMNS})
