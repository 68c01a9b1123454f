"""Keep the digests of code between starts of the workflow: parsing all modules takes most of a second.

The digests lie in one small file in the user's cache folder. Their key is the digest of all Python files that
`code_digest` may read. An edit of any of them gives another key. If the folder cannot be used, nothing is kept.
"""

import json
import os
import sys
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

from unet.run.code_digest import PACKAGE, code_digest
from unet.storage.files import write_json


def cached_code_digest(script: Path) -> str:
    """Return `code_digest` of a script, computed only if the code differs from the last start's.

    Parameters
    ----------
    script : Path
        A Python file that imports modules of the package; all scripts of one folder are kept together.
    """
    file, key = cache_file(), _key(script.parent)
    kept = _kept(file, key)
    if script.name not in kept:
        kept[script.name] = code_digest(script)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"key": key, "digests": kept})
    return kept[script.name]


def cache_file() -> Path:
    """Return the file that keeps the digests, in the cache folder of the user."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "unet-em" / "code.json"


@cache
def _key(scripts: Path) -> str:
    """Return the digest of the scripts, the package and Python's version."""
    summary = blake2b(sys.version.encode(), digest_size=16)
    for file in sorted([*scripts.glob("*.py"), *PACKAGE.rglob("*.py")]):
        summary.update(f"{file}\0".encode() + file.read_bytes() + b"\0")
    return summary.hexdigest()


@cache
def _kept(file: Path, key: str) -> dict[str, str]:
    """Return the digests that are kept under a key; an empty dict if there are none. It is read once."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(file.read_bytes())
        if found.get("key") == key:
            return dict(found["digests"])
    return {}
