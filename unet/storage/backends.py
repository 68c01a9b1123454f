"""Storage backends: a local folder, or objects behind an address such as `s3://bucket/run`.

Both have the same methods, which take the key of a file in a store, e.g. `0/c/1/2/3`:

```
            why a file is never incomplete               listed to be compared with receipts
folder      written to another name, then renamed        by one walk through the folder
address     a PUT, or the end of a multipart upload,     by one listing, 1,000 objects per request
            creates the whole object
```
"""

from pathlib import Path
from uuid import uuid4

from unet.storage.address import AddressError, is_address
from unet.storage.files import write_json_if_absent
from unet.storage.local_folder import LocalFolder
from unet.storage.object_storage import ObjectStorage

OWNER = ".owner"
"""Name of the file that says which results folder owns an address."""
Backend = LocalFolder | ObjectStorage
"""Storage for the files of a store."""


def backend_of(where: Path | str) -> Backend:
    """Return the backend of a path or an address."""
    return (
        ObjectStorage(where.rstrip("/")) if isinstance(where, str) and is_address(where) else LocalFolder(Path(where))
    )


def take_ownership(address: str, folder: Path) -> None:
    """Make a results folder the only one that may write below an address.

    The locks between writers are in the results folder, so two folders could overwrite each other's objects.

    Raises
    ------
    AddressError
        If another results folder owns the address.
    """
    backend, ours = ObjectStorage(address), folder / OWNER
    if not ours.exists():
        write_json_if_absent(ours, {"owner": uuid4().hex})
    content = ours.read_bytes()
    if backend.read(OWNER) == content or backend.create(OWNER, content) or backend.read(OWNER) == content:
        return
    raise AddressError(
        f"{address}: the stores of another results folder lie there (its {OWNER} is not that of {folder}); set another "
        f"storage.address, or, if no other run works there, remove {address}/{OWNER} and run again"
    )
