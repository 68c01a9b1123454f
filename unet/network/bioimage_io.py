"""Package a trained model for bioimage.io, which ilastik, deepImageJ and others open: https://bioimage.io

A package of format 0.5 is a zip file. It holds `rdf.yaml` with axes, sizes, halo and normalisation; the weights; a test
input with its output; a cover image; a page of text. The description has only keys that all readers of the format know,
because readers refuse unknown keys. bioimageio.spec reads it from version 0.5.3, without authors and license from
version 0.5.5.
"""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import torch
import yaml
from matplotlib.image import imsave
from numpy.typing import NDArray

from unet.network.export import OPSET, ExportError, PaddedNetwork, axis_names, export_metadata, training_normalisation

FORMAT = "0.5.3"
PAPERS = {
    "unet": ("Ronneberger, Fischer, Brox: U-Net, MICCAI 2015", "10.1007/978-3-319-24574-4_28"),
    "fcn8s": ("Long, Shelhamer, Darrell: Fully convolutional networks, CVPR 2015", "10.1109/CVPR.2015.7298965"),
}
PAGE = """# {title}

{task}, with a network trained by unet-em {version}.

Input: grey values as in the images it was trained on ({grey}), axes batch, channel, {axes}.
Output: {output}.
Voxels of the training volume: {voxels}. Resample other images to that.

## Normalisation

Fixed: {normalised}, by {method}; blank regions were left out. For images with other grey values,
replace `mean` and `std` in `rdf.yaml`, or match the histograms.

## Validation

Predict an annotated volume that the network was not trained on, and compare the segmentation with the annotation, for
example by the foreground-restricted Rand score (Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142).
"""


def bioimageio_package(
    path: Path,
    network: PaddedNetwork,
    header: Mapping[str, Any],
    weights: Mapping[str, Path],
    grey: NDArray[np.float32],
    *,
    authors: Sequence[str] = (),
    license: str | None = None,
) -> None:
    """Write a bioimage.io package.

    Parameters
    ----------
    path : Path
        Zip file to write.
    network : PaddedNetwork
        The model.
    header : mapping
        Header of the model file; see `unet.network.model_file`.
    weights : mapping
        Files of the exported network, by the keys `torchscript` and `onnx`.
    grey : ndarray
        Grey values of a tile, not normalised, float32 `(1, c, *size)`: the test input, and half of the cover.
    authors : sequence of str
        Names of the authors; by default none are named.
    license : str, optional
        SPDX identifier such as `CC-BY-4.0`; by default none is named.
    """
    probabilities = network.predict(training_normalisation(header)(grey[0])[None])
    files = {
        "torchscript.pt": weights["torchscript"].read_bytes(),
        "model.onnx": weights["onnx"].read_bytes(),
        "input.npy": _npy(grey),
        "output.npy": _npy(probabilities),
        "cover.png": _cover(network, grey, probabilities),
        "README.md": _page(network, header).encode(),
    }
    claims = {"authors": [{"name": name} for name in authors], "license": license}
    description = _description(network, header, files) | {key: value for key, value in claims.items() if value}
    files["rdf.yaml"] = yaml.safe_dump(description, sort_keys=False, allow_unicode=True).encode()
    with ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(ZipInfo(name), content, ZIP_DEFLATED)


def check_package(path: Path) -> None:
    """Validate a package, and run each of its weights on the test input.

    Raises
    ------
    ExportError
        If `bioimageio.spec` or `bioimageio.core` finds problems; lists all of them.
    """
    from bioimageio.core import test_description
    from bioimageio.spec import load_description

    described = load_description(path).validation_summary
    if described.status == "failed":
        raise ExportError(f"{path}: not a valid bioimage.io package\n{described.format_md()}")
    tested = test_description(path)
    if tested.status != "passed":
        raise ExportError(f"{path}: its weights do not give its test output\n{tested.format_md()}")


def _description(network: PaddedNetwork, header: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the content of `rdf.yaml`: https://bioimage-io.github.io/spec-bioimage-io, model 0.5."""
    paper, doi = PAPERS[header["model"]["architecture"]]
    version = torch.__version__.partition("+")[0]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": _title(header),
        "description": _task(header),
        "cite": [{"text": paper, "doi": doi}],
        "tags": ["electron-microscopy", _segmentation(header), "unet", f"{len(network.padding)}d"],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "inputs": [_input(network, header) | {"test_tensor": _file("input.npy", files)}],
        "outputs": [_output(network, header) | {"test_tensor": _file("output.npy", files)}],
        "weights": {
            "torchscript": _file("torchscript.pt", files) | {"pytorch_version": version},
            "onnx": _file("model.onnx", files) | {"opset_version": OPSET, "parent": "torchscript"},
        },
        "config": {"unet_em": export_metadata(network, header)},
    }


def _file(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _input(network: PaddedNetwork, header: Mapping[str, Any]) -> dict[str, Any]:
    metadata = export_metadata(network, header)
    mean, std = metadata["mean"], metadata["std"]
    one = len(mean) == 1  # not all readers know lists with one number per channel
    numbers = {"mean": mean[0], "std": std[0]} if one else {"axis": "channel", "mean": mean, "std": std}
    names = ["grey"] if one else [f"grey_{number}" for number in range(len(mean))]
    # No physical scale: deepImageJ's tiling takes a scale for the ratio of output to input size.
    space = [
        {"type": "space", "id": name, "size": {"min": axis.minimum, "step": axis.step}, "concatenable": True}
        for name, axis in zip(axis_names(network.padding), network.padding, strict=True)
    ]
    return {
        "id": "input",
        "description": "grey values",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names}, *space],
        "data": {"type": "float32"},
        "preprocessing": [{"id": "fixed_zero_mean_unit_variance", "kwargs": numbers}],
    }


def _output(network: PaddedNetwork, header: Mapping[str, Any]) -> dict[str, Any]:
    space = [
        {"type": "space", "id": name, "halo": axis.halo, "size": {"tensor_id": "input", "axis_id": name}}
        for name, axis in zip(axis_names(network.padding), network.padding, strict=True)
    ]
    # Older readers accept only names that are valid identifiers.
    readable = [name.replace("-", "_minus_") if _predicts_affinities(header) else name for name in header["classes"]]
    names = [re.sub(r"\W|^(?=\d)", "_", name) for name in readable]
    return {
        "id": "output",
        "description": _output_in_words(header),
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names}, *space],
        "data": {"type": "float32", "range": [0.0, 1.0]},
    }


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _cover(network: PaddedNetwork, grey: NDArray[np.float32], probabilities: NDArray[np.float32]) -> bytes:
    """Return a PNG of grey values and last class side by side, within the halo; of a 3-D tile the middle section."""
    inner = tuple(slice(axis.halo, -axis.halo) for axis in network.padding)
    images = [values[0, -1][inner] for values in (grey, probabilities)]
    left, right = (image if image.ndim == 2 else image[len(image) // 2] for image in images)
    span = float(np.ptp(left)) or 1.0
    buffer = io.BytesIO()
    imsave(buffer, np.hstack([(left - left.min()) / span, right]), cmap="gray", vmin=0, vmax=1, format="png")
    return buffer.getvalue()


def _page(network: PaddedNetwork, header: Mapping[str, Any]) -> str:
    metadata = export_metadata(network, header)
    voxels, channels = metadata["voxel_size_nm"], list(zip(metadata["mean"], metadata["std"], strict=True))
    return PAGE.format(
        title=_title(header),
        task=_task(header),
        output=_output_in_words(header),
        version=header["version"],
        grey="; ".join(f"around {mean:g}, scale {std:g}" for mean, std in channels),
        axes=", ".join(axis_names(network.padding)),
        voxels="unknown" if voxels is None else "{:g} x {:g} x {:g} nm (z, y, x)".format(*voxels),
        normalised=", ".join(f"(x - {mean:g}) / {std:g}" for mean, std in channels),
        method=_method(header["normalisation"].get("rule", {})),
    )


def _method(rule: Mapping[str, Any]) -> str:
    """Return how mean and std were computed, by the section `normalisation` that the model was trained with."""
    if rule.get("mean") is not None:
        return "numbers of the configuration"
    if rule.get("percentiles") is not None:
        low, high = rule["percentiles"]
        return f"percentiles {low:g} and {high:g} of the training volume, which become -1 and 1"
    return "mean and standard deviation of the training volume"


def _predicts_affinities(header: Mapping[str, Any]) -> bool:
    return header["model"].get("output") == "affinities"


def _segmentation(header: Mapping[str, Any]) -> str:
    return "instance-segmentation" if _predicts_affinities(header) else "semantic-segmentation"


def _task(header: Mapping[str, Any]) -> str:
    """Return what the network does."""
    channels = ", ".join(header["classes"])
    if _predicts_affinities(header):
        return f"Predicts affinities of electron microscopy at the offsets {channels} in voxels"
    return f"Segments electron microscopy into {channels}"


def _output_in_words(header: Mapping[str, Any]) -> str:
    if _predicts_affinities(header):
        return "the probability that a voxel and the one at an offset belong to one object, for each offset"
    return "a probability for each class"


def _title(header: Mapping[str, Any]) -> str:
    network = {"unet": "U-Net", "fcn8s": "FCN-8s"}[header["model"]["architecture"]]
    learnt = "affinities" if _predicts_affinities(header) else " and ".join(header["classes"])
    words = f"{header['model']['dimensions']}D {network} for {learnt} in EM"
    return re.sub(r"[^\w+() -]", "_", words, flags=re.ASCII)[:64]
