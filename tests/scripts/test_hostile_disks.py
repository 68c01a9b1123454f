"""A flipped bit in every kind of file, a full disk at every rule, two runs at once, a network that is cut."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scripts.conftest import disk_of
from tests.scripts.hostile_chain import HostileChain, JobFailed, expect
from tests.scripts.hostile_ground import Ground, configuration, content, damage_file
from tests.scripts.job_server import JobServer

TABLES = "segmentation-tables"
READ_BY = {
    "volumes/train/raw.zarr/0/c/0/0/0": "histogram",
    "volumes/train/raw.zarr/0/c/0/1/0": "predict",
    "volumes/train/raw.zarr/zarr.json": "predict",
    "volumes/train/raw.zarr/0/zarr.json": "predict",
    "volumes/train/labels.zarr/0/c/0/0/0": "targets",
    "volumes/train/targets.zarr/0/c/0/0/0": "weight_map",
    "volumes/train/weights.zarr/0/c/0/0/0": None,
    "volumes/train/probability.zarr/0/c/0/0/0/0": "segment",
    "volumes/train/segmentation-fragments.zarr/0/c/0/0/0": "relabel",
    f"volumes/train/{TABLES}/0-0-0.npz": "merge",
    f"volumes/train/{TABLES}/objects-0-0-0.npz": "objects",
    f"volumes/train/{TABLES}/merge/lut.npy": "relabel",
    f"volumes/train/{TABLES}/merge/offsets.npy": "relabel",
    f"volumes/train/{TABLES}/merge/class_values.npy": "objects",
    f"volumes/train/{TABLES}/merge/table.json": "relabel",
    "volumes/train/segmentation.zarr/0/c/0/0/0": "measure",
    "volumes/train/objects.csv": None,
    "receipts/survey/train.json": "ingest",
    "receipts/ingest/train/0-of-2.json": "histogram",
    "receipts/histogram/train/0-of-2.npz": "intensity_statistics",
    "receipts/intensity_statistics/train.json": "predict",
    "receipts/targets/train/0-of-2.jsonl": "targets",
}
"""Files of every kind, and a rule that reads each of them. Weights are read by the training, which is not run here."""
FEW = [pytest.param(name, 0.3, marks=() if number % 2 else pytest.mark.slow) for number, name in enumerate(READ_BY)]
"""Every second kind of file in every test run; the others, and another place in each, take minutes."""
NOT_BY_VERIFY = {"receipts/histogram/train/0-of-2.npz"}
"""Counts that only `intensity_statistics` reads, with its own digest; what follows from them is in a receipt."""


def assert_as_in_peace(ground: Ground, chain: HostileChain, threshold: int = 0) -> None:
    """All voxels and tables are those of a run in peace."""
    found = content(chain)
    for name, values in ground.peace(0, threshold).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("name", "where"), [*FEW, *(pytest.param(name, 0.85, marks=pytest.mark.slow) for name in READ_BY)]
)
def test_a_flipped_bit_is_found_by_verify_and_by_the_next_rule(ground: Ground, name: str, where: float) -> None:
    chain, reader = ground.fresh(), READ_BY[name]
    damage_file(chain.results / name, where, "flip")
    error = chain.verify()
    assert error is not None or name in NOT_BY_VERIFY
    if reader is not None:
        shutil.rmtree(chain.results / "receipts" / reader)
    chain.run_until_done()
    if reader is None:
        chain.follow(str(error))
        chain.run_until_done()
    assert_as_in_peace(ground, chain)
    assert chain.verify() is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    with disk_of(tmp_path / "disk", 8) as folder:
        yield folder


def test_a_disk_that_is_full_at_every_job_is_told_and_the_run_goes_on(ground: Ground, small_disk: Path) -> None:
    chain = HostileChain(small_disk, ground.server, configuration(small_disk))
    shutil.copytree(ground.input, small_disk, dirs_exist_ok=True)
    filler, told = small_disk / "filler", 0
    for job in chain.plan():
        for pages in (0, 2, 6):
            free = shutil.disk_usage(small_disk).free
            filler.write_bytes(bytes(max(0, free - pages * 4096)))
            try:
                chain.run_job(job)
            except JobFailed as failed:
                expect(failed, "No space left on device", str(small_disk))
                assert "what is finished is kept" in failed.error or pages == 0  # noqa: PT017
                told += 1
            else:
                assert pages > 0, f"{job.rule} has written nothing"
            filler.unlink()
        chain.run_job(job)
    assert told > len(chain.units)
    assert_as_in_peace(ground, chain)


def test_two_runs_on_one_folder_do_all_once(ground: Ground) -> None:
    """From nothing, each job twice at the same moment, as from two working directories."""
    chain = ground.new("two-runs")
    for job in chain.plan():
        chain.run_job(job, copies=2)
    assert_as_in_peace(ground, chain)
    lines = [line for path in chain.results.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == len({line.partition('"revision"')[0] for line in lines})
    assert all('"revision":1,' in line for line in lines)


@pytest.mark.parametrize(
    "rule",
    ["merge", "relabel", *(pytest.param(name, marks=pytest.mark.slow) for name in ("segment", "measure", "objects"))],
)
def test_two_runs_with_other_settings_end_as_the_last_one_is_set(ground: Ground, rule: str) -> None:
    """Both write the same stores at the same moment; the next run finds what is of its own settings."""
    chain = ground.fresh()
    chain.settings = configuration(chain.folder, threshold=1)
    theirs = chain.plan()
    for one in theirs:
        if one.rule == rule:
            break
        chain.run_job(one)
    chain.settings = configuration(chain.folder)
    mine = next(job for job in chain.jobs() if job.rule == rule)
    other = next(job for job in theirs if job.receipt == mine.receipt)
    ended = ground.server.run(chain.request(mine), chain.request(other))
    for how in ended:
        if how.status != 0:
            expect(JobFailed(mine, how, how.said))
    for threshold in (0, 1, 0):
        chain.settings = configuration(chain.folder, threshold=threshold)
        chain.records.pop(mine.receipt, None)
        assert chain.run_until_done() == []
        assert_as_in_peace(ground, chain, threshold)
        assert chain.verify() is None


CUT = """
import itertools, obstore
from obstore.exceptions import GenericError
numbers = itertools.count()
def cut(real):
    def call(*arguments, **named):
        if next(numbers) >= {after}:
            raise GenericError("error sending request: ConnectionRefused")
        return real(*arguments, **named)
    return call
for name in ("put", "get", "get_ranges", "head", "list", "delete", "put_async", "get_async", "get_range_async"):
    setattr(obstore, name, cut(getattr(obstore, name)))
"""
"""From a request on, none comes through."""


def test_a_network_that_is_cut_in_any_job_is_told_and_the_run_goes_on(ground: Ground, s3: Any, bucket: str) -> None:
    server = JobServer(s3.environment)
    try:
        chain = ground.new("cut")
        chain.server = server
        chain.settings["storage"] = {**chain.settings["storage"], "address": f"s3://{bucket}/run"}
        told = 0
        for number, job in enumerate(chain.plan()):
            for after in (0, 3 + number % 5, 11 + number % 7):
                try:
                    chain.run_job(job, preparation=CUT.format(after=after))
                except JobFailed as failed:
                    expect(failed, f"s3://{bucket}/run", "cannot be reached (connection refused)", "finished is kept")
                    told += 1
            chain.run_job(job)
        assert told > len(chain.units)
        assert_as_in_peace(ground, chain)
        assert chain.run() == 0
    finally:
        server.close()
