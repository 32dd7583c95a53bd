from __future__ import annotations

import errno
import json
import os

import numpy as np
import polars as pl
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


def test_merging_keeps_every_row_in_few_parts(results):
    most = 0
    for start in range(0, 3000, 3):
        results.append(rows(range(start, start + 3)))
        most = max(most, len(results.parts()))
    assert most <= 3 * 15 + 1  # fifteen of each size: 1, 16 and 256 appended tables
    results.finish()
    assert len(results.parts()) == 1
    assert cases(results) == list(range(3000))
    results.append(rows([3000]))
    assert cases(results) == list(range(3001))


def test_no_merge_takes_more_rows_than_the_largest_part(results, monkeypatch):
    monkeypatch.setattr("afdplan.files.results.dataset.LARGEST_ROWS", 100)
    generator = np.random.default_rng(7)
    start, held = 0, []
    for size in generator.integers(1, 40, 300):
        results.append(rows(range(start, start + int(size))))
        start += int(size)
        held.append(sum(part.rows for part in results._newest()))
    results.finish()
    heights = [pl.read_parquet(path).height for path in results.parts()]
    assert max(held) <= 100  # all that a merge can read
    assert max(heights) <= 100
    assert min(heights[:-1]) > 60  # full but for the table that did not fit any more
    assert cases(results) == list(range(start))


def test_another_run_goes_on_where_the_last_one_was_killed(results):
    start = 0
    for _ in range(40):  # every run appends three tables and is killed
        again = ResultsDataset.open(results.folder)
        again.repair()
        for _ in range(3):
            again.append(rows(range(start, start + 2)))
            start += 2
    assert len(results.parts()) <= 2 * 15 + 1
    assert cases(results) == list(range(240))


def test_a_full_disk_while_merging_keeps_what_is_there(results, monkeypatch):
    for number in range(15):
        results.append(rows([number]))

    def full(*_arguments, **_options):
        raise pl.exceptions.ComputeError("parquet: underlying IO error: (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(pl.LazyFrame, "sink_parquet", full)
        with pytest.raises(InvalidInputError, match=r"cannot write .*: no space left on device"):
            results.finish()
    assert cases(results) == list(range(15))
    results.append(rows([15]))
    assert len(results.parts()) == 1
    assert cases(results) == list(range(16))


def test_a_broken_part_is_named_when_it_is_merged(results):
    for number in range(3):
        results.append(rows([number]))
    broken = results.parts()[1]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InvalidInputError, match=rf"cannot read .*{broken.name}.*remove that file"):
        results.finish()


def test_folders_whose_names_look_like_patterns(tmp_path):
    made = ResultsDataset.create(tmp_path / "r[1]*", {"columns": COLUMNS})
    for number in range(20):
        made.append(rows([number]))
    made.finish()
    assert cases(made) == list(range(20))
    assert made.remove("done") == 20
    assert sum(frame.height for frame in made.progress()) == 0
    made.close()


def test_a_kill_between_merging_and_removing_doubles_nothing(results):
    for number in range(5):
        results.append(rows([number]))
    small = {path.name: path.read_bytes() for path in results.parts()}
    results.finish()
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
    for path, told in (("file", "no folder"), ("file/sub", "cannot write .*sub")):
        with pytest.raises(InvalidInputError, match=told):
            ResultsDataset.create(tmp_path / path, {"columns": COLUMNS})
