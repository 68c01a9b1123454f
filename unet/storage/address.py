"""Parse and check paths and addresses of sources and stores, such as `s3://bucket/run`. Nothing is opened here."""

import re
from pathlib import Path
from urllib.parse import unquote

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
ADDRESS_IN_TEXT = re.compile(
    r"(?P<format>(?:[A-Za-z0-9+.-]+://)*)(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<before>[^/\s'\"]*@)?(?P<rest>[^\s'\"?]*)(?P<query>\?[^\s'\"]+)?"
)
SCHEMES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https", "file", "memory")
"""Schemes that obstore reads and writes."""
NAMED_CONTAINER = ("abfs", "abfss")
"""Schemes of Azure that may write the container before an @, and the account behind it."""
AZURE = ("az", "adl", "azure", *NAMED_CONTAINER)
"""Schemes of Azure. `az://container/path` names no account, see `AZURE_ACCOUNT`."""
AZURE_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
"""Variable of the environment with the name of the storage account."""
KNOWN_ADDRESSES = "write s3://bucket/path, gs://bucket/path, az://container/path or https://host/path"

FORMAT_PREFIXES = ("precomputed://", "n5://", "zarr://", "zarr2://", "zarr3://")
"""What Neuroglancer writes before an address. The format is known from the content, so a prefix says nothing new."""
FORMAT_BEHIND = re.compile(r"(?P<store>.*?)/*\|(zarr[23]?|n5|neuroglancer-precomputed):/*(?P<inner>.*?)/*")
"""Format, and path inside, that newer versions of Neuroglancer write behind an address."""


class AddressError(OSError):
    """An address cannot be reached or must not be used. The message has no credentials."""


def is_address(text: str) -> bool:
    """Tell whether a text is an address, as opposed to a path.

    >>> is_address("s3://bucket/raw.zarr"), is_address("raw.zarr"), is_address("a.h5:/raw")
    (True, False, False)
    """
    return ADDRESS.match(text) is not None


def without_prefix(address: str) -> str:
    """Return an address without the format before it.

    >>> without_prefix("precomputed://gs://bucket/em")
    'gs://bucket/em'
    """
    prefix = next((one for one in FORMAT_PREFIXES if address.startswith(one)), "")
    return address.removeprefix(prefix)


def plain_address(text: str) -> str:
    """Return an address without the format that Neuroglancer writes behind it, and a `file://` address as a path.

    >>> plain_address("file:///data/my%20raw.zarr:/0"), plain_address("zarr://file:///data/raw.zarr")
    ('/data/my raw.zarr:/0', '/data/raw.zarr')
    >>> plain_address("s3://bucket/raw.zarr/|zarr3:"), plain_address("gs://bucket/raw.n5/|n5:volumes/raw/")
    ('s3://bucket/raw.zarr', 'gs://bucket/raw.n5:/volumes/raw')
    >>> plain_address("a%20b|c.tif")
    'a%20b|c.tif'
    """
    if not is_address(text):
        return text
    if behind := FORMAT_BEHIND.fullmatch(text):
        text = behind["store"] + (f":/{behind['inner']}" if behind["inner"] else "")
    local = re.match(r"file://(localhost)?(?=/)", without_prefix(text))
    return unquote(without_prefix(text)[local.end() :]) if local else text


def checked_address(address: str) -> str:
    """Return an address unchanged, after a check that its scheme is known and that it has no credentials.

    >>> checked_address("s3://bucket/raw.zarr:/volumes/raw")
    's3://bucket/raw.zarr:/volumes/raw'

    Raises
    ------
    ValueError
        If the scheme is unknown, or the address has credentials, which would get into receipts, logs and the report.
        The message has no credentials.
    """
    scheme, _, rest = without_prefix(address).partition("://")
    if is_address(address) and scheme.lower() not in SCHEMES:
        raise ValueError(f"{scheme}:// is no address that can be read or written; {KNOWN_ADDRESSES}")
    before, at, _ = rest.partition("/")[0].rpartition("@")
    if (at and (":" in before or scheme not in NAMED_CONTAINER)) or "?" in rest:
        bare = f"{scheme}://{rest.partition('?')[0].removeprefix(before + at)}"
        raise ValueError(
            f"{bare}: credentials (before an @, or after a ?) do not belong into an address; set them in the "
            "environment, for s3:// as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return address


def without_credentials(text: str) -> str:
    """Return a text without what stands before an @ or after a ? in its addresses.

    >>> without_credentials("got 'https://me:secret@host/a.zarr?sig=secret' and abfs://box@account.dfs.core.windows.net")
    "got 'https://host/a.zarr' and abfs://box@account.dfs.core.windows.net"
    """
    return ADDRESS_IN_TEXT.sub(_bare, text)


def _bare(match: re.Match[str]) -> str:
    """Return an address without credentials; a container that is named before an @ is none."""
    before = match["before"] or ""
    is_container = match["scheme"] in NAMED_CONTAINER and ":" not in before
    return f"{match['format']}{match['scheme']}://{before if is_container else ''}{match['rest']}"


def split_url(address: str) -> tuple[str, str | None]:
    """Return the address of a store, and the path inside the store if one is given.

    >>> split_url("s3://bucket/a.zarr:/volumes/raw"), split_url("http://host:9000/a.zarr")
    (('s3://bucket/a.zarr', '/volumes/raw'), ('http://host:9000/a.zarr', None))
    >>> split_url("precomputed://gs://bucket/em:/1")
    ('gs://bucket/em', '/1')
    """
    scheme, _, rest = without_prefix(address).partition("://")
    store, colon, inner = rest.partition(":/")
    return f"{scheme}://{store}".rstrip("/"), "/" + inner.strip("/") if colon else None


def split_path(address: str) -> tuple[Path, str | None]:
    """Return the file of a path, and the path inside the file, or None.

    Colons in the names of a file that is there, or of a folder that is there, separate nothing.

    >>> split_path("a.h5:/volumes/raw"), split_path("a.h5:raw"), split_path("a.ome.tif:1"), split_path("sections")
    ((PosixPath('a.h5'), '/volumes/raw'), (PosixPath('a.h5'), 'raw'), (PosixPath('a.ome.tif'), '1'), \
(PosixPath('sections'), None))
    """
    path, colon, inner = address.rpartition(":")
    whole = Path(address)
    if not colon or not inner or whole.exists() or (":" not in whole.name and whole.parent.is_dir()):
        return whole, None
    colons = [i for i, letter in enumerate(address) if letter == ":"]
    at = next((i for i in reversed(colons) if Path(address[:i]).exists()), len(path))  # the path inside may have colons
    return Path(address[:at]), address[at + 1 :]
