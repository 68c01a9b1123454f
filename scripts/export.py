"""Export the trained model as ONNX and as a bioimage.io package, which ilastik and deepImageJ open.

Inputs: the model file, and `raw.zarr` of the first predicted volume for a test tile.

Outputs: `model/model.onnx`, `model/bioimageio.zip`, and a receipt with digests and differences.

1. Wrap the network so that it accepts any size that its pooling allows.
2. Export it as ONNX and as TorchScript, and compare both with the network on the test tile and on noise.
3. Pack them with normalisation, test tile and metadata, and run the package's own test.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from unet.config.export import ExportConfig
from unet.config.model import ModelConfig
from unet.geometry.box import Box
from unet.jobs.log_line import format_values
from unet.jobs.script import run_script
from unet.network.bioimage_io import bioimageio_package, check_package
from unet.network.export import (
    PaddedNetwork,
    Padding,
    check_onnx,
    check_torchscript,
    padding_of,
    require_packages,
    to_onnx,
    to_torchscript,
    training_normalisation,
)
from unet.network.model_file import load_model
from unet.storage.digests import bytes_digest
from unet.storage.files import write_receipt
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

TEST_SIDE = {2: 128, 3: 16}
"""Side in voxels of the test tile without its halo, by the dimensions of the network."""

log = logging.getLogger(__name__)


def main(
    model: Path,
    surveys: list[Path],
    onnx: Path,
    package: Path,
    receipt: Path,
    folders: list[Path],
    export: ExportConfig,
    threads: int = 1,
) -> None:
    """Write `onnx` and `package`. The test tile is the middle of the first volume, or noise without a volume."""
    require_packages()
    torch.set_num_threads(threads)
    network, header = load_model(model)
    config = ModelConfig(**header["model"])
    padding = padding_of(config)
    padded = PaddedNetwork(network, padding, config.output)
    normalisation = training_normalisation(header)
    channels, shape = normalisation.channels, tuple(axis.size(TEST_SIDE[len(padding)]) for axis in padding)
    intensities = _typical(normalisation, shape)
    if surveys:
        intensities = _middle(Volume.open(folders[0], surveys[0]), shape, config.sections)
    inputs = [normalisation(intensities[0])[None], _noise(channels, _uneven(padding))]
    with TemporaryDirectory() as folder:
        torchscript = Path(folder) / "torchscript.pt"
        to_torchscript(padded, torchscript)
        to_onnx(padded, header, onnx)
        differences = {
            "onnx": check_onnx(onnx, padded, inputs),
            "torchscript": check_torchscript(torchscript, padded, inputs),
        }
        log.info("largest differences of a probability: %s", format_values(differences))
        weights = {"onnx": onnx, "torchscript": torchscript}
        bioimageio_package(
            package, padded, header, weights, intensities, authors=export.authors, license=export.license
        )
    check_package(package)
    digests = {path.name: bytes_digest(path.read_bytes()) for path in (onnx, package)}
    write_receipt(receipt, {"rule": "export", "digests": digests, "largest_difference": differences})


def _middle(volume: Volume, shape: tuple[int, ...], sections: int) -> NDArray[np.float32]:
    """Return intensities from the middle of a volume, mirrored if it is smaller, as float32 `(1, c, *shape)`.

    For a 2-D network the channels hold `sections` sections of each intensity.
    """
    size = (sections,) * (3 - len(shape)) + shape
    start = tuple((whole - part) // 2 for whole, part in zip(volume.layout.shape, size, strict=True))
    box = Box(start, tuple(lo + n for lo, n in zip(start, size, strict=True)))
    return volume.image("raw").read_mirrored(box).astype(np.float32).reshape(1, -1, *shape)


def _typical(normalisation: Normalisation, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return noise about as bright as the intensities of each channel, as float32 `(1, c, *shape)`."""
    column = (1, -1, *(1,) * len(shape))
    centre, scale = (np.array(n, np.float32).reshape(column) for n in (normalisation.centre, normalisation.scale))
    return _noise(normalisation.channels, shape) * scale + centre


def _noise(channels: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return normal noise of mean 0 and standard deviation 1, as float32 `(1, c, *shape)`."""
    return np.random.default_rng(0).standard_normal((1, channels, *shape), dtype=np.float32)


def _uneven(padding: Padding) -> tuple[int, ...]:
    """Return a size that differs on each axis, and that the export has not been traced with."""
    return tuple(axis.minimum + (1 + i) * axis.step for i, axis in enumerate(padding))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
