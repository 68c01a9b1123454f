"""Objects of a store behind an address such as `s3://bucket/run`, by obstore.

obstore repeats failed requests for three minutes. Credentials come from the environment only. The answer of a server is
never quoted, because it may contain an access key.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from unet.extras import needs
from unet.storage.address import AZURE, AZURE_ACCOUNT, KNOWN_ADDRESSES, AddressError
from unet.storage.local_folder import METADATA, FileState

if TYPE_CHECKING:
    from obstore.store import ObjectStore

REQUEST_TIMEOUT = "5 minutes"
RETRIES = {"max_retries": 10, "retry_timeout": timedelta(minutes=3)}

AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "AWS_SKIP_SIGNATURE", "AWS_ENDPOINT_URL"
VARIABLES = (
    (
        tuple(f"{scheme}://" for scheme in AZURE),
        ("AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY", "AZURE_SKIP_SIGNATURE", "AZURE_STORAGE_ENDPOINT"),
    ),
    (("gs://",), ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SKIP_SIGNATURE", "the address")),
)
"""Variables of the environment by the schemes of addresses, where they are not `AWS`: keys, that there are none, and
the server."""


class CannotList(AddressError):
    """A server returns objects by name, but does not list them."""


class ObjectRangeReader:
    """Read parts of an object. Parts are fetched in parallel, and adjacent parts in one request."""

    def __init__(self, store: "ObjectStore", key: str) -> None:
        self._store, self._key = store, key

    def read_tail(self, count: int) -> bytes:
        """Return the last `count` bytes, or all if there are fewer. Azure does not count from the end of an object."""
        import obstore
        from obstore.exceptions import NotSupportedError

        try:
            return bytes(obstore.get(self._store, self._key, options={"range": {"suffix": count}}).bytes())
        except NotSupportedError:
            size = obstore.head(self._store, self._key)["size"]
            return bytes(obstore.get_range(self._store, self._key, start=max(0, size - count), end=size))

    def read_ranges(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes at each (offset, length)."""
        import obstore

        starts, lengths = zip(*spans, strict=True)
        return [bytes(part) for part in obstore.get_ranges(self._store, self._key, starts=starts, lengths=lengths)]


class ObjectStorage:
    """Objects behind an address; the methods are those of `LocalFolder`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.store = obstore_client(address)

    def __str__(self) -> str:
        return self.address

    def read(self, key: str) -> bytes | None:
        """Return the content of an object; None if the object does not exist."""
        import obstore

        with self.translate_errors(), suppress(FileNotFoundError):
            return bytes(obstore.get(self.store, key).bytes())
        return None

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None if the object does not exist."""
        state = self.state(key)
        return None if state is None else int(state[0])

    def state(self, key: str) -> FileState | None:
        """Return the state of an object; None if the object does not exist."""
        import obstore

        with self.translate_errors(), suppress(FileNotFoundError):
            return _object_state(obstore.head(self.store, key))
        return None

    def listing(self, within: str = "") -> Iterator[tuple[str, FileState]]:
        """Yield key and state of every object below the prefix `within`, in any order, 1,000 per request.

        Raises
        ------
        CannotList
            If the server cannot list objects (`http://`), or does not allow it.
        """
        import obstore
        from obstore.exceptions import BaseError

        if type(self.store).__name__ == "HTTPStore":
            raise CannotList(f"{self}: the server does not list its files")
        with self.translate_errors():
            try:
                for batch in obstore.list(self.store, prefix=within or None):
                    yield from ((one["path"], _object_state(one)) for one in batch)
            except BaseError as error:
                if re.search(r"status code: (401|403|405|501)", str(error)):
                    error.args = (explain_request_error(str(error), self.address),)
                    raise CannotList(f"{self}: {error}") from None
                raise

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object by its key, from one listing."""
        return {key: int(state[0]) for key, state in self.listing()}

    @contextmanager
    def open(self, key: str) -> Iterator[ObjectRangeReader]:
        """Open an object to read parts of it."""
        with self.translate_errors():
            yield ObjectRangeReader(self.store, key)

    def write(self, key: str, pieces: Sequence[bytes]) -> None:
        """Write an object from its pieces, or replace the existing one."""
        import obstore

        with self.translate_errors():
            obstore.put(self.store, key, b"".join(pieces))

    def clear(self) -> None:
        """Remove everything, the metadata first, so that a kill never leaves a store that looks complete."""
        import obstore

        with self.translate_errors(), suppress(FileNotFoundError):
            obstore.delete(self.store, METADATA)
        keys = sorted(self.sizes())
        with self.translate_errors():
            obstore.delete(self.store, keys)

    def create(self, key: str, content: bytes) -> bool:
        """Write an object unless it exists, and return whether it was written.

        This is one request: if two writers try at the same time, one of them succeeds.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self.translate_errors():
            try:
                obstore.put(self.store, key, content, mode="create")
            except AlreadyExistsError:
                return False
            except FileNotFoundError:
                raise AddressError(f"{self}: there is no such bucket; make it, or correct the address") from None
        return True

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise an error of obstore as `AddressError`, with the address and what to do; not so for a missing object.

        Raises
        ------
        AddressError
            Without the server's answer, which is also removed from the error that obstore raised.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            why = explain_request_error(str(error), self.address)
            error.args = (why,)
            raise AddressError(f"{self}: {why}") from None


def _object_state(meta: Any) -> FileState:
    """Return an object's state from obstore's metadata; the time of the last change stands in for a missing tag."""
    return meta["size"], meta["e_tag"] or meta["last_modified"].isoformat()


@cache
def obstore_client(address: str) -> "ObjectStore":
    """Return the obstore client for an address, configured by the environment; one per address and process."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise AddressError(f"{address}: an address {needs('obstore')}") from None
    options: Any = {"allow_http": True, "timeout": REQUEST_TIMEOUT}
    retries: Any = RETRIES
    try:
        if address.startswith("file://"):
            return from_url(address, mkdir=True)
        return from_url(address, client_options=options, retry_config=retries, **_azure_account(address))
    except (BaseError, ValueError):
        pass
    raise AddressError(f"{address}: not an address that obstore knows; {KNOWN_ADDRESSES}")


def _azure_account(address: str) -> dict[str, Any]:
    """Return the storage account of an address of Azure, unless the address names it; nothing for other addresses.

    obstore finds it in the environment as well, but cannot print a client that does not hold it, which zarr does.
    """
    scheme, _, rest = address.partition("://")
    if scheme.lower() not in AZURE or "@" in rest.partition("/")[0]:
        return {}
    if not (account := os.environ.get(AZURE_ACCOUNT)):
        raise AddressError(
            f"{address}: does not name the storage account of Azure; set {AZURE_ACCOUNT} in the environment, or write "
            "abfss://container@account.dfs.core.windows.net/path"
        )
    return {"account_name": account}


def explain_request_error(error: str, address: str) -> str:
    """Return what went wrong with a request to an address and what to do.

    Only words without credentials are taken from obstore's message.

    >>> busy = "... status code: 503 Service Unavailable: <Error><Code>SlowDown</Code><Key>AKIA</..."
    >>> explain_request_error(busy, "s3://a")
    'the server answers 503 Service Unavailable (SlowDown); run again later: what is finished is kept'
    >>> explain_request_error("... status code: 507 Insufficient Storage: ...", "s3://a")
    'the server answers 507 Insufficient Storage; make space there and run again: what is finished is kept'
    >>> explain_request_error("Operation not supported: Range request not supported by c/0", "http://a")
    'the server sends files only as a whole, but of shards parts are read; copy the store to a disk or a bucket'
    """
    if "Range request not supported" in error:
        return (
            "the server sends files only as a whole, but of shards parts are read; copy the store to a disk or a bucket"
        )
    status = re.search(r"status code: (\d{3}(?: [A-Z][A-Za-z]+)*)", error)
    code = re.search(r"<Code>(\w{1,60})</Code>", error)
    keys, public, endpoint = next((words for schemes, words in VARIABLES if address.startswith(schemes)), AWS)
    if "169.254.169.254" in error:  # metadata server, which a machine in the cloud asks for its role
        return f"no credentials in the environment; set {keys}, or {public}=true for what is public"
    if status is None:
        refused = " (connection refused)" if "ConnectionRefused" in error else ""
        return (
            f"cannot be reached{refused}; check the network and, where it is not the provider's own, {endpoint}, then "
            "run again: what is finished is kept"
        )
    answer = f"the server answers {status[1]}" + (f" ({code[1]})" if code else "")
    if status[1].startswith("507") or (code and re.search("Quota|Full", code[1])):
        return f"{answer}; make space there and run again: what is finished is kept"
    if status[1][:3] in ("400", "401", "403"):
        return f"{answer}; check the credentials in the environment, and what they are allowed to do"
    if status[1].startswith("5"):
        return f"{answer}; run again later: what is finished is kept"
    return f"{answer}; check the address"
