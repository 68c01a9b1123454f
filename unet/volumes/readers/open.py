"""Open the image files that a `SourceConfig` names as a `Source`."""

from collections.abc import Sequence
from pathlib import Path

from unet.config.source import SourceConfig
from unet.extras import is_installed, needs
from unet.storage.address import is_address, split_path, split_url
from unet.storage.file_patterns import is_pattern
from unet.volumes.readers import (
    dm,
    hdf5,
    knossos,
    mrc,
    n5,
    nifti,
    npy,
    nrrd_files,
    precomputed,
    section_files,
    ser,
    tiff,
    wkw_files,
    zarr,
)
from unet.volumes.readers.channels import ChannelStack
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.signatures import is_another, remedy, signature_of
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import Flipped, SelectedChannels

FORMATS: tuple[Format, ...] = (
    hdf5.FORMAT,
    zarr.FORMAT,
    n5.FORMAT,
    precomputed.FORMAT,
    mrc.FORMAT,
    tiff.FORMAT,
    nrrd_files.FORMAT,
    nifti.FORMAT,
    dm.FORMAT,
    ser.FORMAT,
    npy.FORMAT,
    wkw_files.FORMAT,
    knossos.FORMAT,
    section_files.FORMAT,
)
"""All formats that are read. The first that fits a path opens it; any folder may be a folder of sections."""


ARCHIVES = (".zip", ".ozx")
"""Endings of stores in one file."""


def open_source(given: SourceConfig | str, colours: bool = False) -> Source:
    """Open a source. Only the first header is read; `Source.check` reads the headers of sections.

    Parameters
    ----------
    given : SourceConfig or str
        The source as the configuration gives it. A text is the address of a source without further settings.
    colours : bool
        Whether colours may stand for ids, as in labels. Otherwise they are refused, unless `channels` chooses some.

    Raises
    ------
    SourceError
        If there is no such file, or no such array inside. If its format, axes or dtype are not supported. If it is cut
        short, or its voxels are colours. If the files of a folder are not one series of sections.
    """
    given = SourceConfig(path=given) if isinstance(given, str) else given
    source = _open_file(given)
    if source.colours is not None and not colours and (given.channels is None or source.channels == 1):
        raise SourceError(source.colours)
    if given.channels is not None:
        source = SelectedChannels(source, given.channels)
    return Flipped(source, given.flip) if given.flip else source


def open_channels(given: Sequence[SourceConfig]) -> Source:
    """Open the intensities of a volume: one source, or several sources whose channels follow each other.

    Raises
    ------
    SourceError
        As `open_source`; also if numbers of sections are missing, if the sources differ in shape or dtype, or if they
        do not lie at the same place.
    """
    return stacked([open_channel(one) for one in given])


def open_channel(given: SourceConfig) -> Source:
    """Open one source of intensities, of which no section may be missing.

    Raises
    ------
    SourceError
        As `open_source`; also if numbers of sections are missing.
    """
    source = open_source(given)
    source.refuse_gaps()
    return source


def stacked(sources: Sequence[Source]) -> Source:
    """Return one source whose channels are those of several.

    Raises
    ------
    SourceError
        If the sources differ in shape or dtype, or if they do not lie at the same place.
    """
    return ChannelStack(sources) if len(sources) > 1 else sources[0]


def _open_file(given: SourceConfig) -> Source:
    """Return the source of the files, before channels are selected and axes flipped."""
    where: Path | str
    where, inner = split_url(given.path) if is_address(given.path) else split_path(given.path)
    if isinstance(where, Path) and not where.exists() and not is_pattern(where):
        raise SourceError(f"{given.path}: {_absent(where)}")
    if isinstance(where, Path) and where.exists() and not (where.is_file() or where.is_dir()):
        raise SourceError(f"{given.path}: {where} is a pipe or a device, and no file; write its content to a file")
    if isinstance(where, str) and where.lower().endswith(ARCHIVES):
        raise SourceError(
            f"{given.path}: a zip archive is read from a file system only; copy it there, or unpack it at its address"
        )
    with read_errors(where, "image files"):
        found = format_of(where)
    if found is None:
        raise SourceError(_unknown(given.path, where))
    if inner is not None and not found.has_inner:
        raise SourceError(
            f"{given.path}: {where} is {found.name}, in which nothing can be named: there is no {inner} inside it; "
            f"leave out :{inner}"
        )
    if isinstance(where, Path):
        _refuse_lying_ending(where, found)
    if found.package is not None and not is_installed(found.package):
        raise SourceError(f"{given.path}: {found.name} {needs(found.package)}")
    with read_errors(where, found.name):
        return found.open(given, where, inner)


def format_of(where: Path | str) -> Format | None:
    """Return the format of a file, a folder or an address by its ending, else by its content; None if none fits."""
    if isinstance(where, Path) and is_pattern(where):
        return section_files.FORMAT
    name = str(where).rstrip("/").lower()
    formats = [one for one in FORMATS if isinstance(where, Path) or one.recognises_address]
    by_ending = [one for one in formats if one.suffixes and name.endswith(one.suffixes)]
    if isinstance(where, Path) and where.is_dir():  # a folder of sections may have a name that ends like a file
        by_ending = [one for one in by_ending if one.is_folder]
    return by_ending[0] if by_ending else next((one for one in formats if _recognises(one, where)), None)


def _recognises(one: Format, where: Path | str) -> bool:
    if isinstance(where, Path):
        return one.recognises(where)
    return one.recognises_address is not None and one.recognises_address(where)


def _refuse_lying_ending(path: Path, found: Format) -> None:
    """Raise an error if the first bytes of a file are of another format than its ending."""
    signature = signature_of(path)
    if signature is not None and is_another(signature, found.suffixes):
        raise SourceError(
            f"{path}: cannot be read as {found.name}, it is of another format: by its first bytes it is "
            f"{signature.name}; {remedy(signature, _endings())}"
        )


def _endings() -> list[str]:
    return [ending for one in FORMATS for ending in one.suffixes]


def _unknown(address: str, where: Path | str) -> str:
    signature = signature_of(where) if isinstance(where, Path) else None
    if signature is not None:
        return f"{address}: by its first bytes this is {signature.name}; {remedy(signature, _endings())}"
    if isinstance(where, str):
        known = ", ".join(one.name for one in FORMATS if one.recognises_address)
        if found := next((one for one in FORMATS if where.lower().endswith(one.suffixes or ("\0",))), None):
            return f"{address}: {found.name} is read from a file system only; copy it there, or convert it to Zarr"
        return f"{address}: there is nothing at this address that can be read there, which is {known}; correct it"
    suffix = Path(str(where)).suffix.lower()
    ending = f"files ending in {suffix!r}" if suffix else "files without an ending"
    known = ", ".join(_endings())
    return (
        f"{address}: {ending} are not known; supported are {known}: rename the file if it is one of these, "
        "else convert it, to TIFF for one"
    )


def _absent(path: Path) -> str:
    """Return that a path does not exist, with the closest folder that does, or that a link leads nowhere."""
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which leads nowhere; correct the link, or bring its target back"
    found = next((p for p in path.absolute().parents if p.is_dir()), None)
    nearest = f" (the folder {found} is there)" if found else ""
    return f"there is no {path}{nearest}; correct the path in the configuration"
