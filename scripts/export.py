"""Write the trained model for other programs: ONNX, and the bioimage.io package that ilastik and deepImageJ open.

Both are compared with the model that they were made from before the job ends.
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
    Frame,
    FramedNetwork,
    check_onnx,
    check_torchscript,
    frame_of,
    require_packages,
    to_onnx,
    to_torchscript,
    training_normalisation,
)
from unet.network.model_file import load_model
from unet.storage.digests import bytes_digest
from unet.storage.files import write_json
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

TEST_SIDE = {2: 128, 3: 16}
"""Voxels along each axis of the test tile within the halo, by the network's dimensions."""

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
    """Write `onnx` and `package`; the test tile comes from the middle of the first volume, if there is one."""
    require_packages()
    torch.set_num_threads(threads)
    network, header = load_model(model)
    frame = frame_of(ModelConfig(**header["model"]))
    framed = FramedNetwork(network, frame)
    normalisation = training_normalisation(header)
    channels, shape = normalisation.channels, tuple(axis.size(TEST_SIDE[len(frame)]) for axis in frame)
    grey = _middle(Volume.open(folders[0], surveys[0]), shape) if surveys else _typical(normalisation, shape)
    inputs = [normalisation(grey[0])[None], _noise(channels, _uneven(frame))]
    with TemporaryDirectory() as folder:
        torchscript = Path(folder) / "torchscript.pt"
        to_torchscript(framed, torchscript)
        to_onnx(framed, header, onnx)
        differences = {
            "onnx": check_onnx(onnx, framed, inputs),
            "torchscript": check_torchscript(torchscript, framed, inputs),
        }
        log.info("largest differences of a probability: %s", format_values(differences))
        weights = {"onnx": onnx, "torchscript": torchscript}
        bioimageio_package(package, framed, header, weights, grey, authors=export.authors, license=export.license)
    check_package(package)
    digests = {path.name: bytes_digest(path.read_bytes()) for path in (onnx, package)}
    write_json(receipt, {"rule": "export", "digests": digests, "largest_difference": differences})


def _middle(volume: Volume, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Grey values in the middle of a volume, mirrored where it is smaller, as float32 `(1, c, *shape)`."""
    size = (1,) * (3 - len(shape)) + shape
    start = tuple((whole - part) // 2 for whole, part in zip(volume.layout.shape, size, strict=True))
    box = Box(start, tuple(lo + n for lo, n in zip(start, size, strict=True)))
    return volume.image("raw").read_mirrored(box).astype(np.float32).reshape(1, -1, *shape)


def _typical(normalisation: Normalisation, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise about as bright as each channel's grey values, float32 `(1, c, *shape)`."""
    column = (1, -1, *(1,) * len(shape))
    centre, scale = (np.array(n, np.float32).reshape(column) for n in (normalisation.centre, normalisation.scale))
    return _noise(normalisation.channels, shape) * scale + centre


def _noise(channels: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Normal noise of mean 0 and standard deviation 1, float32 `(1, c, *shape)`."""
    return np.random.default_rng(0).standard_normal((1, channels, *shape), dtype=np.float32)


def _uneven(frame: Frame) -> tuple[int, ...]:
    """Another size on each axis, none of which the export has seen."""
    return tuple(axis.minimum + (1 + i) * axis.step for i, axis in enumerate(frame))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
