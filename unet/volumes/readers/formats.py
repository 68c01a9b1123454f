"""Define `Format`, which says how the files of a format are recognised and opened.

Every reader has one, named `FORMAT`. `open.FORMATS` lists them, and the table of formats in the documentation is made
from them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unet.config.source import SourceConfig
from unet.volumes.readers.source import Source

OpenFormat = Callable[[SourceConfig, Path | str, str | None], Source]


@dataclass(frozen=True)
class Format:
    """A format of image files.

    Attributes
    ----------
    name : str
        Name of the format.
    suffixes : tuple of str
        Endings of its files or folders, in lower case.
    open : callable
        Returns the source of (the user's settings, the file or an address, the path inside or None).
    recognises : callable
        Returns whether a path without one of the endings is of this format, by its content.
    recognises_address : callable or None
        The same for an address such as `s3://bucket/volume`; None if only local files are read.
    has_inner : bool
        Whether an address may name something inside the file, after a colon.
    is_folder : bool
        Whether its volumes are folders; the ending of a folder means no other format.
    package : str or None
        Optional package that reads it; see `unet.extras`.
    axes, dtypes, voxel_size, writers : str
        For the documentation: origin of the order of the axes, types that are read, and origin of the voxel size. The
        last one names the writers whose files the reader is tested with.
    """

    name: str
    suffixes: tuple[str, ...]
    open: OpenFormat
    recognises: Callable[[Path], bool] = lambda path: False
    recognises_address: Callable[[str], bool] | None = None
    has_inner: bool = False
    is_folder: bool = False
    package: str | None = None
    axes: str = ""
    dtypes: str = "bool, integers of 8 to 64 bits, float16, float32"
    voxel_size: str = ""
    writers: str = ""
