"""Addresses of stores and of their files, such as `s3://bucket/run`: strings alone, nothing is opened."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SCHEMES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https", "file", "memory")
"""What obstore reads and writes."""
NAMED_CONTAINER = ("abfs", "abfss")
"""Schemes of Azure, where the container stands before an @."""


class AddressError(OSError):
    """What lies behind an address cannot be reached, or must not be used; the message is free of credentials."""


def is_address(text: str) -> bool:
    """Whether something is an address and no path.

    >>> is_address("s3://bucket/raw.zarr"), is_address("raw.zarr"), is_address("a.h5:/raw")
    (True, False, False)
    """
    return ADDRESS.match(text) is not None


def checked_address(address: str) -> str:
    """An address of a kind that is known, without credentials.

    >>> checked_address("s3://bucket/raw.zarr:/volumes/raw")
    's3://bucket/raw.zarr:/volumes/raw'

    Raises
    ------
    ValueError
        If it holds any: it would be written into receipts, logs and the report. The message does not.
    """
    scheme, _, rest = address.partition("://")
    if is_address(address) and scheme.lower() not in SCHEMES:
        raise ValueError(
            f"{scheme}:// is no address that can be read or written; write s3://bucket/path, gs://bucket/path, "
            "az://account/container/path or https://host/path"
        )
    before, at, _ = rest.partition("/")[0].rpartition("@")
    if (at and (":" in before or scheme not in NAMED_CONTAINER)) or "?" in rest:
        bare = f"{scheme}://{rest.partition('?')[0].removeprefix(before + at)}"
        raise ValueError(
            f"{bare}: credentials (before an @, or after a ?) do not belong into an address; set them in the "
            "environment, for s3:// as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return address


def split_url(address: str) -> tuple[str, str | None]:
    """The address of a store, and the path inside it where one is given.

    >>> split_url("s3://bucket/a.zarr:/volumes/raw"), split_url("http://host:9000/a.zarr")
    (('s3://bucket/a.zarr', '/volumes/raw'), ('http://host:9000/a.zarr', None))
    """
    scheme, _, rest = address.partition("://")
    store, colon, inner = rest.partition(":/")
    return f"{scheme}://{store}".rstrip("/"), "/" + inner.strip("/") if colon else None
