"""Find inputs that were edited and kept their size and time of modification, by which changes are noticed.

A change of a file is noticed by its size and time (`unet.volumes.input_states`). Programs that set the time back hide
an edit that keeps the size. But nobody can set back the time at which a file's entry last changed (`st_ctime`):

1. Files whose entries have not changed since the last record of a run (`provenance.json`) were not edited.
2. Of the others, such as copies of whole folders, the content is compared with the digest in that record. Inputs of
   more than `HASHED_BYTES` have none.
3. An input of another content, whose size and time are those that its rule has read, is a hidden edit.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from unet.config.inputs import source_files
from unet.config.root import Config
from unet.run.provenance import NAME, input_fingerprint
from unet.storage.file_patterns import is_pattern, matching_files
from unet.storage.files import DamagedFileError, read_json


def problem_of_hidden_edits(
    config: Config, results: Path, made_by: Callable[[str, str], Path], is_known: Callable[[str, str], bool]
) -> str | None:
    """Return the first input whose content is another one than at the last report, though size and time are the same.

    Parameters
    ----------
    made_by : callable
        Return the file that a rule writes of a volume.
    is_known : callable
        Return whether a rule has read files of the sizes and times that there are now of a volume.
    """
    try:
        record = read_json(results / NAME)
    except (OSError, DamagedFileError, ValueError):  # none, or one that is damaged: the next report writes it
        return None
    written = datetime.fromisoformat(record["written"]).timestamp()
    for key, path, digest in _recorded(config, record):
        rule, volume = _reader(config, key)
        made = made_by(rule, volume)
        if not made.exists() or made.stat().st_mtime > written:
            continue  # its rule has read the input after the record
        if not _has_changed(path, written) or not is_known(rule, volume):
            continue  # it was not edited, or the change is noticed
        if input_fingerprint(path)["digest"] == digest:
            continue
        touch = f"find {path} -type f -exec touch {{}} +" if path.is_dir() else f"touch {path}"
        return (
            f"{key}: {path} has another content than at the last report, but the same size and time of modification, "
            f"by which changes are noticed; run `{touch}`, so that all that depends on it is made again"
        )
    return None


def _recorded(config: Config, record: dict[str, Any]) -> Iterator[tuple[str, Path, str]]:
    """Yield key, path and recorded digest of each input."""
    for key, path in source_files(config).items():
        digest = record.get("inputs", {}).get(key, {}).get("digest")
        if digest is not None:
            yield key, path, digest


def _has_changed(path: Path, since: float) -> bool:
    """Return whether the entry of a file of an input has changed after a time (s). A folder may hold 100,000 files."""
    files: Iterable[str | Path] = matching_files(path) if is_pattern(path) else [path]
    if path.is_dir():
        files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return any(_changed(file) > since for file in files)


def _changed(file: str | Path) -> float:
    """Return when the entry of a file has changed (s); 0 for a link that leads nowhere."""
    try:
        return os.stat(file).st_ctime
    except FileNotFoundError:
        return 0.0


def _reader(config: Config, key: str) -> tuple[str, str]:
    """Return the rule that reads an input, and the volume."""
    section, name, *rest = key.split(".")
    if section != "volumes":
        return "check_model", config.used_volumes[0]
    kind = rest[0]
    return {"compare": "evaluate", "skeletons": "evaluate", "inside": "objects"}.get(kind, "survey"), name
