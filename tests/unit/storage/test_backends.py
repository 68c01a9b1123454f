"""Backends: a folder and a bucket behave alike and store the same bytes; errors contain no access keys."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from unet.geometry.box import Box
from unet.storage import object_storage
from unet.storage.address import AddressError
from unet.storage.backends import Backend, backend_of, take_ownership
from unet.storage.object_storage import ObjectStorage
from unet.storage.zarr_store import Image, ImageSpec, StoreError, create_image, open_image
from unet.volumes.readers.open import SourceError, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import S3Server

SPEC = ImageSpec("p", (3, 150, 131), "uint8", (1, 32, 32), (2, 64, 64), (50.0, 4.0, 4.0), channels=("membrane", "cell"))
"""Two levels; the last block of every axis is cut."""
VOXELS = np.random.default_rng(0).integers(0, 255, (2, *SPEC.shape), np.uint8)
SECRETS = ("AKIATESTOFUNETEM0000", "kept-secret-by-everybody")


def filled(where: Path | str, beside: Path, values: np.ndarray = VOXELS) -> Image:
    """Write a store with `values`."""
    image = create_image(where, SPEC, beside)
    for box in image.grid.boxes():
        image.write_block(box, values[(slice(None), *box.slices)])
    return image


def files(path: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# The same answers


@pytest.fixture(params=["folder", "s3", "file"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Yield an empty backend of each kind."""
    if request.param == "s3":
        return backend_of(f"s3://{request.getfixturevalue('bucket')}/a/b.zarr/")
    return backend_of(tmp_path / "b.zarr" if request.param == "folder" else f"file://{tmp_path}/b.zarr")


def put(backend: Backend, key: str, content: bytes) -> None:
    """Write a file as another program would."""
    if isinstance(backend, ObjectStorage):
        import obstore

        obstore.put(backend.store, key, content)
    else:
        (backend.path / key).parent.mkdir(parents=True, exist_ok=True)
        (backend.path / key).write_bytes(content)


def test_a_place_knows_its_files(backend: Backend) -> None:
    assert backend.read("0/c/1") is None
    assert backend.size("0/c/1") is None
    assert backend.state("0/c/1") is None
    assert backend.sizes() == {}
    with pytest.raises(FileNotFoundError), backend.open("0/c/1") as file:
        file.read_tail(1)
    backend.clear()

    for key, content in (("zarr.json", b"{}"), ("0/c/1", b"four"), ("0/c/10", b"")):
        put(backend, key, content)
    assert backend.sizes() == {"zarr.json": 2, "0/c/1": 4, "0/c/10": 0}
    assert (backend.read("0/c/1"), backend.size("0/c/1"), backend.read("0/c/10")) == (b"four", 4, b"")
    before = backend.state("0/c/1")
    assert before is not None
    assert backend.state("0/c/1") == before
    put(backend, "0/c/1", b"five")
    assert backend.state("0/c/1") != before

    backend.write("0/c/1", [b"0123", b"456789"])
    assert backend.sizes() == {"zarr.json": 2, "0/c/1": 10, "0/c/10": 0}
    with backend.open("0/c/1") as file:
        assert (file.read_tail(3), file.read_tail(99)) == (b"789", b"0123456789")
        assert file.read_ranges([(4, 2), (0, 1), (5, 5)]) == [b"45", b"0", b"56789"]
    backend.clear()
    assert backend.sizes() == {}


def test_a_store_behind_an_address_has_the_bytes_of_one_in_a_folder(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    here, there = (
        filled(tmp_path / "a.zarr", tmp_path / "a.zarr"),
        filled(f"s3://{bucket}/run/a.zarr", tmp_path / "b.zarr"),
    )
    assert s3.objects(bucket, "run/a.zarr/") == files(tmp_path / "a.zarr")
    assert not (tmp_path / "b.zarr").exists()
    for box in here.grid.boxes():
        assert there.digest(box) == here.digest(box)
        assert there.size(box) == here.size(box)
    assert there.sizes() == here.sizes() == {box: here.size(box) for box in here.grid.boxes()}
    for box in (Box.of_shape(SPEC.shape), Box((1, 40, 60), (3, 80, 131)), Box((2, 149, 130), (3, 150, 131))):
        np.testing.assert_array_equal(there.read(box), VOXELS[(slice(None), *box.slices)])
    coarse = Box((0, 0, 0), (3, 75, 66))
    np.testing.assert_array_equal(there.read(coarse, level=1), here.read(coarse, level=1))


@pytest.mark.parametrize("number", [0, -1], ids=["whole block", "cut by the faces"])
def test_a_rewritten_block_has_the_same_objects_whatever_stood_there(
    s3: S3Server, bucket: str, tmp_path: Path, number: int
) -> None:
    image = filled(f"s3://{bucket}/a.zarr", tmp_path / "a.zarr")
    before, box = s3.objects(bucket), image.grid.boxes()[number]
    image.write_block(box, 255 - VOXELS[(slice(None), *box.slices)])
    assert s3.objects(bucket) != before
    image.write_block(box, VOXELS[(slice(None), *box.slices)])
    assert s3.objects(bucket) == before


@pytest.mark.parametrize("level", [0, 1])
def test_a_lost_object_is_an_error_and_not_zeros(s3: S3Server, bucket: str, tmp_path: Path, level: int) -> None:
    image = filled(f"s3://{bucket}/a.zarr", tmp_path / "a.zarr")
    lost = Box((0, 64, 128), (2, 128, 131))
    s3.delete(bucket, f"a.zarr/{level}/c/0/0/1/2")
    assert image.size(lost) is None
    assert image.digest(lost) is None
    assert image.sizes()[lost] is None
    whole = Box((0, 0, 0), ((3, 150, 131), (3, 75, 66))[level])
    with pytest.raises(StoreError, match=rf"s3://{bucket}/a.zarr: block {lost} is missing on level {level}"):
        image.read(whole, level)
    np.testing.assert_array_equal(image.read(Box((0, 0, 0), (2, 64, 64))), VOXELS[:, :2, :64, :64])


def test_a_truncated_object_is_an_error(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    image = filled(f"s3://{bucket}/a.zarr", tmp_path / "a.zarr")
    box = image.grid.boxes()[0]
    size, key = image.size(box), "a.zarr/0/c/0/0/0/0"
    s3.upload(bucket, {key: s3.objects(bucket, key)[""][:-5]})
    assert size is not None
    assert image.size(box) == size - 5
    with pytest.raises(StoreError, match="is damaged"):
        image.read(box)


def test_another_specification_and_half_a_store_are_replaced(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    address, beside = f"s3://{bucket}/a.zarr", tmp_path / "a.zarr"
    filled(address, beside)
    other = ImageSpec("other", (2, 32, 32), "uint8", (1, 16, 16), (2, 32, 32), (50.0, 4.0, 4.0))
    assert create_image(address, other, beside).spec == open_image(address).spec == other
    assert not [key for key in s3.objects(bucket) if "/c/" in key]
    whole = s3.objects(bucket)
    zarr_json = whole["a.zarr/zarr.json"]
    s3.upload(bucket, {"a.zarr/zarr.json": zarr_json.replace(b'"unet-em"', b'"unfinished"')})
    with pytest.raises(StoreError, match="no image store of this workflow"):
        open_image(address)
    create_image(address, other, beside)
    assert s3.objects(bucket) == whole


WRITER = """
import sys
from pathlib import Path
import numpy as np
from unet.storage.zarr_store import ImageSpec, create_image

spec = ImageSpec("flat", (4, 64, 64), "uint16", (2, 32, 32), (2, 32, 32), (50.0, 4.0, 4.0))
image = create_image(sys.argv[1], spec, Path(sys.argv[2]))
for index, box in list(enumerate(image.grid.boxes()))[int(sys.argv[3]) :: 2]:
    image.write_block(box, np.full(box.shape, index + 1, spec.dtype))
"""


def test_processes_that_create_and_write_at_once_lose_nothing(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, f"s3://{bucket}/a.zarr", str(tmp_path / "a.zarr")]
    writers = [subprocess.Popen([*command, str(k)]) for k in range(2)]
    assert [writer.wait(100) for writer in writers] == [0, 0]
    image = open_image(f"s3://{bucket}/a.zarr")
    for index, box in enumerate(image.grid.boxes()):
        assert (image.read(box) == index + 1).all(), f"block {box} was lost"


# One results folder an address


def test_an_address_belongs_to_one_results_folder(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    address, ours, theirs = f"s3://{bucket}/run/train", tmp_path / "ours", tmp_path / "theirs"
    take_ownership(address, ours)
    take_ownership(address, ours)
    with pytest.raises(
        AddressError, match=rf"{address}: the stores of another results folder .*remove {address}/.owner"
    ):
        take_ownership(address, theirs)
    s3.delete(bucket, "run/train/.owner")
    take_ownership(address, theirs)
    with pytest.raises(AddressError, match="another results folder"):
        take_ownership(address, ours)


# Sources


def test_zarr_behind_an_address_is_read_as_from_a_folder(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    values = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    for version in (2, 3):
        folder = tmp_path / f"v{version}.zarr"
        group = zarr.open_group(folder, mode="w", zarr_format=version)
        group.create_array("volumes/raw", data=values, chunks=(2, 3, 5))
        s3.upload(bucket, {f"in/{folder.name}/{key}": content for key, content in files(folder).items()})
        source = open_source(f"s3://{bucket}/in/{folder.name}:/volumes/raw")
        np.testing.assert_array_equal(source.read(Box((1, 2, 0), (4, 6, 3))), values[1:4, 2:6, :3])
        names = [state[0] for state in source.state(Box.of_shape(source.shape))]
        assert f"volumes/raw/{'.zarray' if version == 2 else 'zarr.json'}" in names
        with pytest.raises(SourceError, match=r"no Zarr array or group raw.*the store holds: /volumes/raw \(4, 6, 5\)"):
            open_source(f"s3://{bucket}/in/{folder.name}:/raw")
    own = filled(tmp_path / "own.zarr", tmp_path / "own.zarr")
    s3.upload(bucket, {f"own.zarr/{key}": content for key, content in files(tmp_path / "own.zarr").items()})
    source = open_source(f"s3://{bucket}/own.zarr")
    assert (source.channels, source.shape, source.voxel_size_nm) == (2, own.shape, own.spec.voxel_size_nm)
    np.testing.assert_array_equal(source.read(Box.of_shape(own.shape)), VOXELS)


# What goes wrong


ANSWER = b"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIATESTOFUNETEM0000
</AWSAccessKeyId><StringToSign>kept-secret-by-everybody</StringToSign></Error>"""


class Forbidding(BaseHTTPRequestHandler):
    """Server that answers as S3 does to a wrong key: its answer contains the key."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    do_PUT = do_DELETE = do_HEAD = do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def forbidding(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield an address on this server."""
    server = HTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), SECRETS, strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield "s3://forbidden/run/a.zarr"
    server.shutdown()
    server.server_close()
    object_storage.obstore_client.cache_clear()


class Serving(SimpleHTTPRequestHandler):
    """Server of `python -m http.server`: it sends whole files only."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file; a client that wanted a part of it goes away."""
        with suppress(ConnectionError):
            super().copyfile(source, outputfile)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a folder on this server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Serving, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_of_whole_files_gives_chunks_but_no_shards(served: str, tmp_path: Path) -> None:
    values = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    zarr.create_array(tmp_path / "chunks.zarr", data=values, chunks=(1, 8, 8))
    zarr.create_array(tmp_path / "shards.zarr", data=values, chunks=(1, 8, 8), shards=(2, 8, 8))
    box = Box.of_shape(values.shape)
    np.testing.assert_array_equal(open_source(f"{served}/chunks.zarr").read(box), values)
    with pytest.raises(AddressError, match="sends files only as a whole, but of shards parts are read"):
        open_source(f"{served}/shards.zarr").read(Box((0, 0, 0), (1, 8, 8)))


def test_an_address_with_nothing_is_told_to_be_wrong(served: str) -> None:
    with pytest.raises(SourceError, match=r"no zarr\.json, \.zarray or \.zgroup at this address; correct the address"):
        open_source(f"{served}/nothing.zarr")
    with pytest.raises(SourceError, match="TIFF is read from a file system only; copy it there, or convert it to Zarr"):
        open_source(f"{served}/a.tif")


def test_what_a_server_says_of_a_key_is_not_repeated(forbidding: str, tmp_path: Path) -> None:
    for attempt in (
        lambda: create_image(forbidding, SPEC, tmp_path / "a.zarr"),
        lambda: open_image(forbidding),
        lambda: open_source(forbidding),
        lambda: take_ownership(forbidding, tmp_path),
        lambda: backend_of(forbidding).sizes(),
        lambda: backend_of(forbidding).read("zarr.json"),
    ):
        with pytest.raises(AddressError) as told:
            attempt()
        message = "s3://forbidden/run/a.zarr: the server answers 403 Forbidden"
        assert str(told.value).startswith(message)
        error: BaseException | None = told.value
        while error is not None:
            assert not any(secret in str(error) for secret in SECRETS), "in the error or what it came from"
            error = error.__cause__ or error.__context__


def test_a_server_that_is_away_is_told_and_nothing_is_made_anew(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"s3://{bucket}/a.zarr"
    image, before = filled(address, tmp_path / "a.zarr"), s3.objects(bucket)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(object_storage, "RETRIES", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", away)
    object_storage.obstore_client.cache_clear()
    other = ImageSpec("other", (2, 32, 32), "uint8", (1, 16, 16), (2, 32, 32), (50.0, 4.0, 4.0))
    for attempt in (
        lambda: create_image(address, other, tmp_path / "a.zarr"),
        lambda: open_image(address),
        lambda: open_source(address),
    ):
        with pytest.raises(
            AddressError, match=rf"{address}: cannot be reached \(connection refused\); check the network"
        ):
            attempt()
    object_storage.obstore_client.cache_clear()
    assert s3.objects(bucket) == before
    np.testing.assert_array_equal(image.read(Box.of_shape(SPEC.shape)), VOXELS)


def test_a_bucket_that_is_not_there_and_an_unknown_scheme_are_told(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="s3://no-such-bucket/run: there is no such bucket; make it"):
        take_ownership("s3://no-such-bucket/run", tmp_path)
    with pytest.raises(AddressError, match=r"carrier-pigeon://a/b: not an address that obstore knows; write s3://"):
        backend_of("carrier-pigeon://a/b")
    with pytest.raises(SourceError, match="no Zarr array or group"):
        open_source("s3://no-such-bucket/raw.zarr")


def test_without_obstore_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(
        AddressError, match=r"s3://bucket/anything: an address needs obstore, of the extra s3: pip install"
    ):
        backend_of("s3://bucket/anything")


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("s3://bucket/run", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true"),
        ("az://box/run", "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or AZURE_SKIP_SIGNATURE=true"),
        ("gs://bucket/run", "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true"),
    ],
)
def test_no_credentials_in_the_environment_is_told(address: str, variables: str) -> None:
    told = object_storage.explain_request_error(
        "Error performing PUT http://169.254.169.254/latest/api/token in 6s, after 3 retries", address
    )
    assert told.startswith(f"no credentials in the environment; set {variables} for what is public")
