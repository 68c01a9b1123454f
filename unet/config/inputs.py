"""List the files and addresses of the user that a configuration names, by their keys."""

from pathlib import Path

from unet.config.root import Config
from unet.storage.address import is_address, split_path


def source_files(config: Config) -> dict[str, Path]:
    """Return every input file or folder by its configuration key; of `file.h5:/dataset` the file."""
    return {key: split_path(given)[0] for key, given in config.inputs.items() if not is_address(given)}


def source_addresses(config: Config) -> dict[str, str]:
    """Return every input at an address, such as `s3://bucket/volume.zarr`, by its configuration key."""
    return {key: given for key, given in config.inputs.items() if is_address(given)}
