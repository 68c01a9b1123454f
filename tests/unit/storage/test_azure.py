"""Azure names the account elsewhere, and does not count from the end of an object."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.unit.storage.test_backends import SPEC, VOXELS, filled
from unet.geometry.box import Box
from unet.storage import object_storage
from unet.storage.address import AddressError
from unet.storage.backends import backend_of
from unet.storage.zarr_store import open_image
from unet.volumes.readers.open import SourceError, open_source


class _Blobs(BaseHTTPRequestHandler):
    """Files of a folder as the blobs of a container."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.folder / self.path.removeprefix("/box/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        first, _, last = (
            (self.headers["x-ms-range"] or self.headers["Range"] or "").removeprefix("bytes=").partition("-")
        )
        part = content[int(first) : int(last) + 1] if last else content
        self.send_response(206 if last else 200)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", '"one"')
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 04:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_a_store_in_azure_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "p.zarr", tmp_path / "p.zarr")
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Blobs,), {"folder": tmp_path}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        image = open_image("az://box/p.zarr", tmp_path / "p.zarr")
        np.testing.assert_array_equal(image.read(Box.of_shape(SPEC.shape)), VOXELS)
        np.testing.assert_array_equal(
            open_source("az://box/p.zarr").read(Box((0, 3, 5), (2, 90, 80))), VOXELS[:, :2, 3:90, 5:80]
        )
        with pytest.raises(SourceError, match=r"az://box/no\.zarr: no Zarr array or group"):
            open_source("az://box/no.zarr")
    finally:
        server.shutdown()
        object_storage.obstore_client.cache_clear()


def test_azure_without_the_name_of_an_account_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(
        AddressError, match=r"az://box/run: does not name .*; set AZURE_STORAGE_ACCOUNT_NAME .*abfss://"
    ):
        backend_of("az://box/run")
    assert backend_of("abfss://box@account.dfs.core.windows.net/run")
