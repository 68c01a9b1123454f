"""Open arrays through tensorstore, which reads N5 and neuroglancer precomputed in folders and at addresses."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from unet.extras import needs
from unet.storage.address import AddressError
from unet.storage.object_storage import explain_request_error
from unet.volumes.readers.errors import SourceError

S3_SCHEMES = ("s3", "s3a")


def key_value_store(where: Path | str, path: str) -> dict[str, Any]:
    """Return tensorstore's description of a folder below a local path or an address.

    S3 is configured by the same variables of the environment as for obstore.

    Raises
    ------
    SourceError
        If tensorstore does not read addresses of this scheme.
    """
    below = f"{path.strip('/')}/" if path.strip("/") else ""
    if isinstance(where, Path):
        return {"driver": "file", "path": f"{where}/{below}"}
    scheme, _, rest = where.partition("://")
    bucket, _, prefix = rest.partition("/")
    key = "/".join(filter(None, (prefix.strip("/"), below)))
    key = key if key.endswith("/") or not key else f"{key}/"
    if scheme in S3_SCHEMES:
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return {
            "driver": "s3",
            "bucket": bucket,
            "path": key,
            **({"endpoint": endpoint} if endpoint else {}),
            **({"aws_region": region} if region else {}),
            **_credentials(),
        }
    if scheme == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": key}
    if scheme in ("http", "https"):
        return {"driver": "http", "base_url": f"{scheme}://{bucket}", "path": f"/{key}"}
    if scheme == "file":
        return {"driver": "file", "path": f"/{bucket}/{key}".replace("//", "/")}
    raise SourceError(
        f"{where}: N5 and neuroglancer precomputed are read at s3://, gs://, http:// and https:// only; copy it to a "
        "folder, or convert it to Zarr"
    )


def _credentials() -> dict[str, Any]:
    """Return where tensorstore finds credentials for S3: in the environment, nowhere, or where AWS looks by default."""
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes", "on"):
        return {"aws_credentials": {"type": "anonymous"}}
    return {"aws_credentials": {"type": "environment"}} if os.environ.get("AWS_ACCESS_KEY_ID") else {}


def open_array(spec: dict[str, Any], where: Path | str, format_name: str, state: str = "") -> Any:
    """Return an open array of tensorstore; one per description, state of its metadata, and process.

    Raises
    ------
    SourceError
        If tensorstore is not installed.
    """
    try:
        import tensorstore  # noqa: F401
    except ImportError:
        raise SourceError(f"{where}: {format_name} {needs('tensorstore')}") from None
    with _errors_of_servers(where):
        return _opened(json.dumps(spec), state)


@lru_cache(maxsize=64)
def _opened(spec: str, _state: str) -> Any:
    import tensorstore

    return tensorstore.open(json.loads(spec), open=True, read=True).result()


def read_array(array: Any, where: Path | str, selection: tuple[slice, ...]) -> Any:
    """Return a selection of an array, counted from its first voxel."""
    with _errors_of_servers(where):
        return array.translate_to[0][selection].read().result()


@contextmanager
def _errors_of_servers(where: Path | str) -> Iterator[None]:
    """Raise an error of a server as `AddressError`, without its answer, which may contain an access key."""
    try:
        yield
    except ValueError as error:
        status = re.search(r"HTTP response code:? (\d{3})", str(error))
        if status is None:
            raise
        told = explain_request_error(f"status code: {status[1]}", str(where))
        raise AddressError(f"{where}: {told}") from None
