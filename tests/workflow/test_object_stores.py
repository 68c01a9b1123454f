"""Raw, labels and results on S3: killed and run again it ends as on a disk, and lost objects are made again."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
import zarr

if TYPE_CHECKING:
    from tests.conftest import S3Server
    from tests.workflow.conftest import Finished, Project

BLOCKS = 18
STORES = ("raw", "mask", "labels", "targets", "probability", "segmentation")
SHARDS = ("0-of-2", "1-of-2")
BUCKET = "run"
ADDRESS = f"s3://{BUCKET}/results"


@dataclass
class Resumed:
    """A run on S3 that was killed in mid-prediction, and the one after it."""

    project: Project
    server: S3Server
    recorded: int
    ran: Finished

    def content(self, store: str) -> dict[str, str]:
        """Return what `Project.content` returns, of objects."""
        objects = self.server.objects(BUCKET, f"results/train/{store}.zarr/")
        return {key: hashlib.blake2b(content).hexdigest() for key, content in sorted(objects.items())}


def upload(server: S3Server, folder: Path, prefix: str) -> None:
    """A folder's files as objects."""
    files = (path for path in folder.rglob("*") if path.is_file())
    server.upload(BUCKET, {f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files})


@pytest.fixture(scope="module")
def resumed(finished: Project, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Input of `finished` as Zarr on S3, its model, and a run that was killed when three blocks were predicted."""
    folder = tmp_path_factory.mktemp("objects")
    s3_server.client.create_bucket(Bucket=BUCKET)
    source = zarr.open_group(folder / "source.zarr", mode="w")
    for name in ("raw", "labels"):
        source.create_array(f"volumes/{name}", data=finished.array(name), chunks=(2, 64, 64))
    upload(s3_server, folder / "source.zarr", "source.zarr")

    project = type(finished)(folder / "project", environment=s3_server.environment)
    (project.folder / "input").mkdir(parents=True)
    shutil.copy(finished.folder / "input/mask.tif", project.folder / "input")
    shutil.copy(finished.results / "model/model.pt", project.folder / "input")
    project.configure(finished.config)
    inputs = {name: f"s3://{BUCKET}/source.zarr:/volumes/{name}" for name in ("raw", "labels")}
    changes: dict[str, Any] = {"volumes": {"train": inputs}, "storage": {"address": ADDRESS}}
    project.configure({**changes, "model": {"checkpoint": "input/model.pt"}})

    project.kill_when(lambda: len(project.records("predict")) >= 3)
    recorded = len(project.records("predict"))
    project.unlock()
    return Resumed(project, s3_server, recorded, project.run())


def test_a_killed_run_on_s3_ends_as_one_on_a_disk_and_only_blocks_in_flight_are_made_again(
    finished: Project, resumed: Resumed
) -> None:
    assert 3 <= resumed.recorded < BLOCKS
    assert resumed.project.blocks_made(resumed.ran, "predict") == BLOCKS - resumed.recorded
    for store in STORES:
        assert resumed.content(store) == finished.content(store), store
    for block_range in SHARDS:
        ours, theirs = (p.receipt("relabel", "train", "segmentation", block_range) for p in (resumed.project, finished))
        assert (ours["digest"], ours["bytes"]) == (theirs["digest"], theirs["bytes"])
    assert not list(resumed.project.results.rglob("*.zarr")), "nothing of the stores lies here"
    assert f"segmentation  {ADDRESS}/train/segmentation.zarr" in resumed.ran.output
    assert not resumed.project.run().jobs


def test_lost_and_cut_objects_are_made_again_and_nothing_else(finished: Project, resumed: Resumed) -> None:
    project, server = resumed.project, resumed.server
    store = f"{ADDRESS}/train/segmentation.zarr"
    cut, lost = (f"results/train/segmentation.zarr/{key}" for key in ("0/c/0/0/1", "0/c/1/2/2"))
    server.upload(BUCKET, {cut: server.objects(BUCKET, cut)[""][:-3]})
    assert server.objects(BUCKET, lost)[""]
    server.delete(BUCKET, lost)
    ran = project.run("--until", "relabel")
    assert f"{store}: block 2:4,128:150,128:140 is missing; the job runs again" in ran.output
    assert ran.jobs == {f"relabel/train/segmentation/{block_range}" for block_range in SHARDS}
    assert project.blocks_made(ran, "relabel") == 2
    assert resumed.content("segmentation") == finished.content("segmentation")


def test_verify_reads_objects_and_infers_from_them(resumed: Resumed) -> None:
    project, server = resumed.project, resumed.server
    project.run("verify")
    assert project.receipt("verify", "all")["checks"]["train"]["blocks"] == 5 * BLOCKS
    key = "results/train/probability.zarr/0/c/0/1/2/2"
    kept = server.objects(BUCKET, key)[""]
    server.upload(BUCKET, {key: bytes([kept[0] ^ 1]) + kept[1:]})
    output = project.run("verify", fails=True).output
    server.upload(BUCKET, {key: kept})
    assert f"{ADDRESS}/train/probability.zarr: block 2:4,128:150,128:140 is not what was written" in output
    assert "Traceback" not in output


def test_credentials_are_written_nowhere(resumed: Resumed) -> None:
    project, environment = resumed.project, resumed.server.environment
    secrets = [environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]]
    project_files = [path for path in project.folder.rglob("*") if path.is_file()]
    assert {"run_config.yaml", "report.html", "0-of-2.log", "0-of-2.jsonl"} <= {path.name for path in project_files}
    for path in project_files:
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in secrets), path
    assert not any(secret in resumed.ran.output for secret in secrets)
    merged = yaml.safe_load((project.results / "run_config.yaml").read_text())
    assert merged["storage"]["address"] == ADDRESS


def test_credentials_in_an_address_stop_the_run_and_are_not_repeated(resumed: Resumed, tmp_path: Path) -> None:
    project = type(resumed.project)(tmp_path / "mistaken", environment=resumed.server.environment)
    project.folder.mkdir()
    project.configure(resumed.project.config)
    project.configure({"storage": {"address": "s3://AKIAMISTAKE:not-to-be-seen@run/results"}})
    output = project.run(fails=True).output
    assert "storage.address: s3://run/results: credentials" in output
    (project.folder / "config.yaml").unlink()
    written = [path.read_bytes() for path in project.folder.rglob("*") if path.is_file()]
    for text in (output.encode(), *written):
        assert b"AKIAMISTAKE" not in text
        assert b"not-to-be-seen" not in text


def test_a_source_that_is_not_there_stops_the_run(resumed: Resumed, tmp_path: Path) -> None:
    project = type(resumed.project)(tmp_path / "lost", environment=resumed.server.environment)
    shutil.copytree(resumed.project.folder / "input", project.folder / "input")
    project.configure(resumed.project.config)
    project.configure({"volumes": {"train": {"raw": f"s3://{BUCKET}/elsewhere.zarr"}}})
    output = project.run(fails=True).output
    assert (
        f"volumes.train.raw: there is no Zarr store, N5 or precomputed volume at s3://{BUCKET}/elsewhere.zarr" in output
    )
