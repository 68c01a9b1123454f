"""Serve files and arrays over HTTP on the loopback interface, with byte ranges and CORS.

Every address begins with a token that only the printed link holds. Other users of the machine, and pages of other
sites in the same browser, do not know the token, so they can read nothing.

A path is looked up in two steps: the longest mount that it begins with, then a key below that mount. A mount itself
says which keys it has, so a path never leaves it.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from threading import Event
from urllib.parse import unquote, urlsplit

from unet.storage.backends import Backend

LOOPBACK = "127.0.0.1"
PIECE = 2**20
"""Bytes that are read and sent at once."""
ZARR_KEY = re.compile(r"zarr\.json|\d{1,2}/zarr\.json|\d{1,2}/c(/\d{1,9}){1,5}")
"""Keys of a Zarr v3 group of arrays `0`, `1` ...: metadata and chunks."""
MESH_KEY = re.compile(r"info|\d{1,20}(\.index)?")
"""Keys of a folder of meshes or skeletons in neuroglancer's format."""
CLIENT_KEY = re.compile(r"[A-Za-z0-9][\w.-]*\.(js|css|wasm|html|map|png|svg|ico)")
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
CLIENT, EVENTS = "v/view/", "events/view"
"""Where the client is, and where it waits for events. It takes both from its own address, `.../v/NAME/`."""
HEARTBEAT_S = 1.0
"""Seconds between two signs of life to a client, which says so when they stop."""
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Content:
    """Bytes that can be read in parts.

    Parameters
    ----------
    size : int
        Number of bytes.
    read : callable
        Return the bytes from an offset on, at most so many.
    """

    size: int
    read: Callable[[int, int], bytes]

    @classmethod
    def of_bytes(cls, content: bytes) -> "Content":
        """Return bytes in memory as content."""
        return cls(len(content), lambda offset, length: content[offset : offset + length])


Mount = Callable[[str], Content | None]
"""Return the content behind a key; None where there is none."""


class PortTakenError(RuntimeError):
    """A server cannot listen on a port."""


class RangeError(ValueError):
    """No byte of a content is in the range that was asked for."""


def zarr_mount(backend: Backend) -> Mount:
    """Return the metadata and chunks of a Zarr v3 store as a mount; nothing else beside or above them."""

    def find(key: str) -> Content | None:
        size = backend.size(key) if ZARR_KEY.fullmatch(key) else None

        def read(offset: int, length: int) -> bytes:
            with backend.open(key) as file:
                return file.read_ranges([(offset, length)])[0]

        return None if size is None else Content(size, read)

    return find


def precomputed_mount(folder: Path) -> Mount:
    """Return the meshes or skeletons of a folder as a mount; nothing else beside or above them."""

    def find(key: str) -> Content | None:
        path = folder / key
        if not MESH_KEY.fullmatch(key) or not path.is_file():
            return None

        def read(offset: int, length: int) -> bytes:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(length)

        return Content(path.stat().st_size, read)

    return find


def client_mount(folder: Path) -> Mount:
    """Return the files of neuroglancer's client, `index.html` for the empty key."""

    def find(key: str) -> Content | None:
        path = folder / (key or "index.html")
        if not CLIENT_KEY.fullmatch(key or "index.html") or not path.is_file():
            return None
        return Content.of_bytes(path.read_bytes())

    return find


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return offset and length that a `Range` header asks for; None for all bytes.

    Headers of several ranges or of other units are ignored, as RFC 9110 (14.2) allows.

    >>> byte_range("bytes=2-5", 10), byte_range("bytes=8-", 10), byte_range("bytes=-3", 10), byte_range(None, 10)
    ((2, 4), (8, 2), (7, 3), None)

    Raises
    ------
    RangeError
        If the range begins behind the last byte.
    """
    match = RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        length = (min(int(last), size - 1) if last else size - 1) - start + 1
        if last and int(last) < start:
            return None
    if length <= 0:
        raise RangeError(f"bytes {header} of {size}")
    return start, length


class ViewServer:
    """A server of mounts on the loopback interface.

    Parameters
    ----------
    port : int, optional
        Port to listen on; any that is free without one.

    Attributes
    ----------
    url : str
        Address below which the mounts are, with the token and a slash at its end.
    mounts : dict
        Mounts by their path below `url`: a file, or a folder with a slash at its end.
    """

    def __init__(self, port: int | None = None) -> None:
        self.mounts: dict[str, Mount] = {}
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port or 0), _handler(self))
        except OSError as error:
            raise PortTakenError(
                f"view.port: nothing can listen on port {port} of this machine ({error.strerror}); set another, or "
                "none, to take one that is free"
            ) from None
        self._server.daemon_threads = True
        self.stopped = Event()
        self._token = token_urlsafe(12)
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}/{self._token}/"

    def serve(self) -> None:
        """Answer requests until `stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """End `serve`; call it from another thread."""
        self.stopped.set()
        self._server.shutdown()

    def close(self) -> None:
        """Free the port, and inform the clients."""
        self.stopped.set()
        self._server.server_close()

    def key_of(self, path: str) -> str | None:
        """Return what follows the token in the path of a request; None without the token."""
        token, _, key = unquote(urlsplit(path).path).lstrip("/").partition("/")
        return key if compare_digest(token.encode(), self._token.encode()) else None

    def find(self, path: str) -> Content | None:
        """Return the content behind the path of a request."""
        key = self.key_of(path)
        mount = max((one for one in self.mounts if key and key.startswith(one)), key=len, default=None)
        return None if key is None or mount is None else self.mounts[mount](key[len(mount) :])


def _handler(server: ViewServer) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers the requests of a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if server.key_of(self.path) == EVENTS:
                self._hold()
            else:
                self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_OPTIONS(self) -> None:
            self._start(HTTPStatus.NO_CONTENT, 0)
            self.end_headers()

        def _hold(self) -> None:
            """Hold the connection on which a client waits for events, of which there are none."""
            self._start(HTTPStatus.OK, None)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.close_connection = True
            while not server.stopped.wait(HEARTBEAT_S):
                self.wfile.write(b":\n\n")

        def _answer(self, with_body: bool) -> None:
            content = server.find(self.path)
            if content is None:
                self._start(HTTPStatus.NOT_FOUND, 0)
                self.end_headers()
                return
            try:
                wanted = byte_range(self.headers["Range"], content.size)
            except RangeError:
                self._start(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0)
                self.send_header("Content-Range", f"bytes */{content.size}")
                self.end_headers()
                return
            start, length = wanted or (0, content.size)
            self._start(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, length)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{content.size}")
            self.send_header("Content-Type", _media_type(urlsplit(self.path).path))
            self.end_headers()
            for offset in range(start, start + length, PIECE) if with_body else ():
                self.wfile.write(content.read(offset, min(PIECE, start + length - offset)))

        def _start(self, status: HTTPStatus, length: int | None) -> None:
            self.send_response(status)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Range")
            self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length, Accept-Ranges")
            self.send_header("Access-Control-Allow-Private-Network", "true")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Cache-Control", "no-cache")
            if length is not None:
                self.send_header("Content-Length", str(length))

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a viewer requests hundreds of chunks."""

        def handle(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the viewer no longer wants the chunk
                super().handle()

    return Handler


def _media_type(path: str) -> str:
    suffix = ".html" if path.endswith("/") else Path(path).suffix
    return MEDIA_TYPES.get(suffix, "application/octet-stream")
