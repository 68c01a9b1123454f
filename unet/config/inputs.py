"""The user's files and addresses that a configuration names, by their keys."""

from pathlib import Path

from unet.config.root import Config
from unet.storage.address import is_address


def source_files(config: Config) -> dict[str, Path]:
    """Every input file or folder by its configuration key; `file.h5:/dataset` names the file."""
    return {key: Path(file_of(given)) for key, given in config.inputs.items() if not is_address(given)}


def source_addresses(config: Config) -> dict[str, str]:
    """Every input behind an address by its configuration key."""
    return {key: given for key, given in config.inputs.items() if is_address(given)}


def file_of(address: str) -> str:
    """The file or folder of an address.

    >>> file_of("data/a.h5:/volumes/raw"), file_of("data/a.tif")
    ('data/a.h5', 'data/a.tif')
    """
    return address.partition(":/")[0]
