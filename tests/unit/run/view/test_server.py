"""The server of the viewer, over HTTP: ranges, CORS, and nothing beside what is mounted."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.run.view.server import (
    CLIENT,
    EVENTS,
    Content,
    PortTakenError,
    RangeError,
    ViewServer,
    byte_range,
    client_mount,
    zarr_mount,
)
from unet.storage.backends import backend_of

BYTES = bytes(np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with files beside, above and inside it that are nobody's business, and a client."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("secret.txt", "raw.zarr/.raw.writers", "raw.zarr/0/c/secret", "client/secret.txt", "raw.zarr.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    (folder / "raw.zarr/0/c/0/0").mkdir(parents=True)
    (folder / "raw.zarr/0/c/0/0/0").write_bytes(BYTES)
    (folder / "raw.zarr/zarr.json").write_text("{}")
    (folder / "client/index.html").write_text("<html>")
    (folder / "client/main.0a1b.js").write_text("1")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ViewServer]:
    """It serves the store and the client."""
    server = ViewServer()
    server.mounts["volumes/v/raw.zarr/"] = zarr_mount(backend_of(folder / "raw.zarr"))
    server.mounts[CLIENT] = client_mount(folder / "client")
    thread = Thread(target=server.serve)
    thread.start()
    yield server
    server.stop()
    thread.join()
    server.close()


def ask(
    server: ViewServer, path: str, method: str = "GET", token: bool = True, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; the path is sent as it is, without being made tidy."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request(method, f"{parts.path if token else '/'}{path}", headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


CHUNK = "volumes/v/raw.zarr/0/c/0/0/0"


def test_a_file_is_sent_whole_in_parts_and_by_its_size(server: ViewServer) -> None:
    status, headers, body = ask(server, CHUNK)
    assert (status, body) == (200, BYTES)
    assert headers["Accept-Ranges"] == "bytes"
    status, headers, body = ask(server, CHUNK, Range="bytes=1500000-2900009")
    assert (status, body) == (206, BYTES[1_500_000:2_900_010])
    assert headers["Content-Range"] == "bytes 1500000-2900009/3000000"
    status, headers, body = ask(server, CHUNK, Range="bytes=-36")  # an index at the end of a shard
    assert (status, body) == (206, BYTES[-36:])
    status, headers, body = ask(server, CHUNK, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "3000000", b"")
    status, headers, _ = ask(server, CHUNK, Range="bytes=3000000-")
    assert (status, headers["Content-Range"]) == (416, "bytes */3000000")


def test_a_neuroglancer_of_another_site_may_read(server: ViewServer) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        _, headers, _ = ask(server, CHUNK, method, Origin="https://elsewhere.org")
        assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Content-Range" in headers["Access-Control-Expose-Headers"]
    assert headers["Access-Control-Allow-Headers"] == "Range"


def test_the_client_is_sent_with_its_types(server: ViewServer) -> None:
    status, headers, body = ask(server, CLIENT)
    assert (status, headers["Content-Type"], body) == (200, "text/html; charset=utf-8", b"<html>")
    assert ask(server, f"{CLIENT}main.0a1b.js")[1]["Content-Type"] == "text/javascript"


@pytest.mark.parametrize(
    "path",
    [
        "secret.txt",
        "volumes/v/raw.zarr/../secret.txt",
        "volumes/v/raw.zarr/%2e%2e/secret.txt",
        "volumes/v/raw.zarr/..%2fsecret.txt",
        "volumes/v/raw.zarr/0/c/../../../secret.txt",
        "volumes/v/raw.zarr//etc/passwd",
        "volumes/v/raw.zarr/.raw.writers",
        "volumes/v/raw.zarr/0/c/secret",
        "volumes/v/raw.zarr.json",
        "volumes/v/raw.zarr/",
        "volumes/v/raw.zarr",
        "volumes/v/raw.zarr/0/c/0/0/1",
        f"{CLIENT}secret.txt",
        f"{CLIENT}../secret.txt",
        f"{CLIENT}..%2f..%2fraw.zarr/zarr.json",
        "",
        "..",
        "%00",
        "%ff",
    ],
)
def test_there_is_nothing_beside_the_stores(server: ViewServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert (status, body) == (404, b"")


@pytest.mark.parametrize("path", [CHUNK, f"a-wrong-token/{CHUNK}", "", "%ff/", EVENTS])
def test_without_the_token_there_is_nothing(server: ViewServer, path: str) -> None:
    assert ask(server, path, token=False)[0] == 404
    assert ask(server, CHUNK)[0] == 200


def test_it_listens_on_the_loopback_interface_alone(server: ViewServer) -> None:
    assert server._server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_told(server: ViewServer) -> None:
    port = int(server._server.server_address[1])
    with pytest.raises(PortTakenError, match=rf"view.port: nothing can listen on port {port} .*; set another"):
        ViewServer(port)


def test_a_client_that_waits_for_events_is_told_when_the_server_ends() -> None:
    server = ViewServer()
    thread = Thread(target=server.serve)
    thread.start()
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", f"{parts.path}{EVENTS}")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    server.stop()
    assert answer.read().strip(b":\n") == b""
    thread.join()
    server.close()
    connection.close()


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_a_range_is_that_of_a_slice(size: int, first: int | None, last: int | None) -> None:
    content = Content.of_bytes(BYTES[:size])
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is None:
        wanted = BYTES[:size] if last is None else BYTES[max(0, size - last) : size]
        ignored = last is None
    else:
        wanted = BYTES[first : size if last is None else min(size, last + 1)] if first < size else b""
        ignored = last is not None and last < first
    if ignored:
        assert byte_range(header, size) is None or not wanted
    elif not wanted:
        with pytest.raises(RangeError):
            byte_range(header, size)
    else:
        found = byte_range(header, size)
        assert found is not None
        assert content.read(*found) == wanted
