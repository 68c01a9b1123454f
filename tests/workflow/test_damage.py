"""Files that were deleted or cut short are made again by a plain run, and nothing else is; the rest is refused."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

if TYPE_CHECKING:
    from tests.workflow.conftest import Project

STORES = ("raw", "labels", "targets", "weights", "probability", "segmentation")


def test_deleted_and_torn_files_are_made_again_and_nothing_else(finished: Project, copy_of_finished: Project) -> None:
    project = copy_of_finished
    project.block_files("probability")[0].unlink()
    torn = project.block_files("segmentation")[-1]
    torn.write_bytes(torn.read_bytes()[:-3])
    shutil.rmtree(project.store("weights"))
    (project.results / "receipts/targets/train/0-of-2.json").unlink()
    for path in project.block_files("raw")[:2]:
        path.unlink()

    planned = project.run("-n")
    assert "is missing; the job runs again" in planned.output
    assert not project.store("weights").exists()
    ran = project.run()
    assert project.blocks_made(ran, "predict") == 1
    assert project.blocks_made(ran, "relabel") == 1
    assert project.blocks_made(ran, "weight_map") == 18
    assert project.blocks_made(ran, "targets") == 0
    assert project.blocks_made(ran, "ingest") >= 1
    for store in STORES:
        assert project.content(store) == finished.content(store), store
    assert not project.run().jobs


def test_receipts_without_their_chunks_do_not_count(finished: Project, copy_of_finished: Project) -> None:
    project = copy_of_finished
    for path in project.block_files("probability"):
        path.unlink()
    ran = project.run("--until", "predict")
    assert project.blocks_made(ran, "predict") == 18
    assert project.content("probability") == finished.content("probability")


def test_a_damaged_chunk_of_the_same_size_is_refused_when_it_is_read(copy_of_finished: Project) -> None:
    """Damage it as a disk does: neither size nor time tell."""
    project = copy_of_finished
    path = max(project.block_files("raw"), key=lambda file: file.stat().st_size)
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "is not what was written" in project.run("verify", fails=True).output
    ran = project.run("--forcerun", "predict", "--until", "predict", "--config", "predict={tile: 52}", fails=True)
    assert "raw.zarr: the file of block" in ran.output
    assert "is damaged" in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system of its own")
def test_results_that_cannot_be_written_are_told(copy_of_finished: Project) -> None:
    project = copy_of_finished
    project.block_files("segmentation")[0].unlink()
    folder = project.store("segmentation")
    if os.system(f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}") != 0:
        pytest.skip("this machine lets nobody mount a read-only file system")
    try:
        ran = project.run(fails=True)
    finally:
        os.system(f"umount {folder}")
    assert "Read-only file system" in ran.output
    assert "Traceback" not in ran.output
    project.run()


def test_images_changed_after_ingest_are_taken_in_again(finished: Project, copy_of_finished: Project) -> None:
    project = copy_of_finished
    shutil.copy(finished.results / "model/model.pt", project.folder / "input/model.pt")
    project.configure({"model": {"checkpoint": "input/model.pt"}})
    predicted = [f"results/receipts/predict/train/{block_range}.json" for block_range in ("0-of-2", "1-of-2")]
    project.run(*predicted)
    before = project.array("probability")
    path = project.folder / "input/raw.tif"
    changed = tifffile.imread(path)
    changed[1, 100:140, 90:130] //= 2
    tifffile.imwrite(path, changed, photometric="minisblack")
    ran = project.run(*predicted)
    assert {"survey", "ingest", "intensity_statistics", "predict"} <= ran.rules
    np.testing.assert_array_equal(project.array("raw"), changed)
    assert (project.array("probability") != before).any()
    assert "differs" not in project.run("verify").output


def test_a_receipt_whose_bits_changed_is_written_again(finished: Project, copy_of_finished: Project) -> None:
    """A percentile whose last digit is another would change probabilities, and nothing of the file looks wrong."""
    project = copy_of_finished
    statistics = project.results / "receipts/intensity_statistics/train.json"
    content = statistics.read_bytes()
    at = content.index(b",", content.index(b'"p99": ')) - 1  # its last digit
    statistics.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    cut_short = project.results / "receipts/survey/train.json"
    cut_short.write_bytes(cut_short.read_bytes()[:-40])
    planned = project.run("-n")
    assert "intensity_statistics/train.json: is damaged (its checksum is" in planned.output
    assert "survey/train.json: is damaged" in planned.output
    ran = project.run()
    assert {"survey", "intensity_statistics"} <= ran.rules
    assert json.loads(statistics.read_text())["statistics"] == json.loads(content)["statistics"]
    for rule in ("ingest", "predict", "segment", "relabel"):
        assert project.blocks_made(ran, rule) == 0, rule
    for store in STORES:
        assert project.content(store) == finished.content(store), store
    assert not project.run().jobs


def test_a_clock_that_was_set_back_hides_no_change(copy_of_finished: Project) -> None:
    """The fragments are of the new threshold, but the files made of the old one have a later time."""
    project = copy_of_finished
    before = project.content("segmentation")
    project.configure({"segment": {"threshold": 0.3}})
    project.run("--until", "segment")
    for rule in ("merge", "relabel"):
        for receipt in (project.results / "receipts" / rule).rglob("*.json"):
            later = receipt.stat().st_mtime_ns + 5 * 3600 * 10**9
            os.utime(receipt, ns=(later, later))
    ran = project.run("--until", "relabel")
    assert "was a clock set back" in ran.output
    assert {"merge", "relabel"} <= ran.rules
    assert project.content("segmentation") != before
    assert "Nothing to be done" in project.run("--until", "relabel").output
