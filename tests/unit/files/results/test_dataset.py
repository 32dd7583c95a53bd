from __future__ import annotations

import errno
import json
import os

import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.results.dataset import ResultsDataset, read_manifest
from afdplan.files.results.rows import decode_rows, encode_rows

COLUMNS = {"case": "count", "case_hash": "text", "status": "text", "curve": "numbers"}


def rows(numbers, *statuses):
    table = [
        {"case": n, "case_hash": f"h{n}", "status": status, "curve": [1.0, n]}
        for n, status in zip(numbers, statuses or ["done"] * len(numbers), strict=True)
    ]
    return decode_rows([encode_rows(table, COLUMNS)])


@pytest.fixture
def results(tmp_path):
    made = ResultsDataset.create(tmp_path / "r", {"columns": COLUMNS, "afdplan_version": "0"})
    yield made
    made.close()


def cases(results):
    return sorted(results.scan().collect()["case"].to_list())


def test_an_empty_dataset_has_its_columns(results):
    assert results.scan().collect().columns == list(COLUMNS)


def test_a_part_is_never_touched_again(results):
    seen = {}
    for start in range(0, 60, 3):
        results.append(rows(range(start, start + 3)))
        for path in results.parts():
            assert seen.setdefault(path.name, path.stat()[:10]) == path.stat()[:10]
    assert len(seen) == 20
    assert cases(results) == list(range(60))


def test_another_run_goes_on_where_the_last_one_was_killed(results):
    start = 0
    for _ in range(10):  # every run appends three tables and is killed
        again = ResultsDataset.open(results.folder)
        again.repair()
        for _ in range(3):
            again.append(rows(range(start, start + 2)))
            start += 2
    assert cases(results) == list(range(60))
    assert results.parts()[-1].name == "part-00000030.parquet"


def test_folders_whose_names_look_like_patterns(tmp_path):
    made = ResultsDataset.create(tmp_path / "r[1]*", {"columns": COLUMNS})
    for number in range(20):
        made.append(rows([number]))
    assert cases(made) == list(range(20))
    assert made.remove("done") == 20
    assert sum(frame.height for frame in made.progress()) == 0
    made.close()


def test_what_an_earlier_version_merged_and_did_not_remove_counts_once(results):
    for number in range(5):
        results.append(rows([number]))
    merged = results.folder / "part-00000001-00000005.parquet"
    results.scan().collect().write_parquet(merged)
    (results.folder / ".part-00000006.abc.tmp").write_bytes(b"half")
    again = ResultsDataset.open(results.folder)
    assert cases(again) == list(range(5))
    again.repair()
    left = {path.name for path in results.folder.iterdir()}
    assert left == {merged.name, "manifest.json", ".lock"}
    again.append(rows([5]))
    assert cases(again) == list(range(6))
    assert again.parts()[-1].name == "part-00000006.parquet"


def test_removing_a_status(results):
    results.append(rows([0, 1]))
    results.append(rows([2, 3], "failed", "done"))
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
        "part-00000001.parquet",
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
    for path, told in (("file", "no folder"), ("file/sub", "cannot write .*sub")):
        with pytest.raises(InvalidInputError, match=told):
            ResultsDataset.create(tmp_path / path, {"columns": COLUMNS})


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_work(tmp_path):
    """The tables could not be written: a traceback after all cases had run, and nothing kept."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/r\xff")
    with pytest.raises(InvalidInputError, match="needs a name in UTF-8"):
        ResultsDataset.create(folder, {"columns": COLUMNS, "afdplan_version": "0"})
    assert not list(tmp_path.iterdir())
