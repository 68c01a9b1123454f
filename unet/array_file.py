"""Moved to `unet.files`."""

from unet.files import load_arrays, save_arrays  # noqa: F401
