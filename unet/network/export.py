"""Export a trained model as ONNX and TorchScript for other programs, and check that it is the same model.

Such programs cut an image into tiles whose sizes are multiples of a step. They expect an output as large as the input,
and drop a `halo` on each side of it. The paper's network maps 572 to 388, so input and output are padded with zeros:

```
one axis of the paper's network: margin 92, step 16

input     n = 16 k                         |----------------------------|
+ zeros   before = 12, after = 0        |--|----------------------------|           n + 12 = 16 b + 60
network   loses the margin                     |----------------|
+ zeros   front = 80, back = 92            |---|----------------|-------|           n
- halo    96                               |      |------------|        |           n - 192
```

The halo is the margin, rounded up to whole steps; `before` makes up for the difference. Within the halo every voxel
therefore meets the pooling grid in the same phase as in this workflow's prediction, and has the same probabilities.
Sizes have the network's axes, `(y, x)` or `(z, y, x)`.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet import __version__
from unet.config.model import ModelConfig
from unet.extras import needs
from unet.geometry.network_sizes import stride_unit
from unet.geometry.tiling import output_size, valid_input_sizes
from unet.network.predictor import Output, probabilities
from unet.volumes.intensity import Normalisation

OPSET = 17
"""Operator set of ONNX: the newest that deepImageJ's runtime reads."""
TOLERANCE = 1e-4
"""Largest allowed difference of a probability between the network and the exported file."""


class ExportError(RuntimeError):
    """The model cannot be exported, or the exported file differs from the model."""


@dataclass(frozen=True)
class AxisPadding:
    """Padding along one axis, in voxels; see the picture of the module. Input sizes are `minimum + k * step`.

    `before` and `after` pad the input; `front` and `back` pad the output.
    """

    step: int
    halo: int
    before: int
    after: int
    front: int
    back: int

    @property
    def minimum(self) -> int:
        """Return the smallest input size: one step within the halo."""
        return 2 * self.halo + self.step

    def size(self, least: int) -> int:
        """Return the smallest input size with at least `least` voxels within the halo."""
        return 2 * self.halo + max(1, ceil(least / self.step)) * self.step


Padding = tuple[AxisPadding, ...]


def padding_of(config: ModelConfig) -> Padding:
    """Return the padding of a network, one entry per axis.

    >>> padding_of(ModelConfig())[0]
    AxisPadding(step=16, halo=96, before=12, after=0, front=80, back=92)
    """
    axes, smallest = range(3 - config.dimensions, 3), _smallest_tile(config)
    margins = [(size - out) // 2 for size, out in zip(smallest, output_size(config, smallest), strict=True)]
    loses = config.convolution == "valid"
    return tuple(_axis_padding(smallest[a], margins[a], stride_unit(config)[a], loses) for a in axes)


def _axis_padding(tile: int, margin: int, step: int, loses: bool) -> AxisPadding:
    before = margin % step
    after = (tile - before) % step  # all input sizes of a network are congruent modulo the step
    lost = margin if loses else 0
    return AxisPadding(step, ceil(margin / step) * step, before, after, lost - before, lost - after)


def _smallest_tile(config: ModelConfig) -> tuple[int, ...]:
    return tuple(_smallest(config, axis) if axis >= 3 - config.dimensions else config.sections for axis in range(3))


def _smallest(config: ModelConfig, axis: int) -> int:
    sizes: list[int] = []
    up_to = 64
    while not sizes:
        sizes, up_to = valid_input_sizes(config, up_to, axis), 2 * up_to
    return sizes[0]


class PaddedNetwork(nn.Module):
    """A network that maps normalised grey values to probabilities of the same size.

    Parameters
    ----------
    model : nn.Module
        From `load_model`.
    padding : Padding
        Padding of the model. Within the halo the result equals the workflow's prediction; in the output's padding it is
        0 in all channels.
    output : {"classes", "affinities"}
        What the model predicts.
    """

    def __init__(self, model: nn.Module, padding: Padding, output: Output = "classes") -> None:
        super().__init__()
        self.model, self.padding, self.output = model, padding, output
        # torch lists padding from the last axis
        self.inner = [n for axis in reversed(padding) for n in (axis.before, axis.after)]
        self.outer = [n for axis in reversed(padding) for n in (axis.front, axis.back)]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Map grey values float32 `(n, c, *size)` to probabilities float32 `(n, K, *size)`."""
        found = probabilities(self.model(nn.functional.pad(x, self.inner)), self.output)
        return nn.functional.pad(found, self.outer)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Call `forward` on an array and return an array."""
        with torch.inference_mode():
            return self(torch.from_numpy(x)).numpy()


def training_normalisation(header: Mapping[str, Any]) -> Normalisation:
    """Return the normalisation by the grey values of the first training volume, for each input channel.

    Raises
    ------
    ExportError
        If the header of the model file does not contain them.
    """
    volumes = header.get("normalisation", {}).get("trained_on", {})
    first: Sequence[Mapping[str, Any]] = next(iter(volumes.values()), [{}])
    if "centre" not in first[0]:
        raise ExportError("the model file does not tell the grey values that it was trained on; train it again")
    sections = ModelConfig(**header["model"]).sections
    return Normalisation.of([channel for channel in first for _ in range(sections)])  # sections of context are channels


def export_metadata(network: PaddedNetwork, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that users of an exported model need; lengths are in voxels or nm."""
    normalisation = training_normalisation(header)
    return {
        "program": f"unet-em {__version__}",
        "classes": header["classes"],
        "mean": list(normalisation.centre),
        "std": [std or 1.0 for std in normalisation.scale],
        "voxel_size_nm": header.get("voxel_size_nm"),
        "step": [axis.step for axis in network.padding],
        "halo": [axis.halo for axis in network.padding],
        "model": header["model"],
    }


def axis_names(padding: Padding) -> str:
    """Return `yx` or `zyx`."""
    return "zyx"[-len(padding) :]


def require_packages() -> None:
    """Check that the optional packages of the export are installed.

    Raises
    ------
    ExportError
        If one is missing; names the command that installs it.
    """
    for name in ("onnx", "onnxruntime", "bioimageio.core"):
        try:
            import_module(name)
        except ImportError as error:
            raise ExportError(f"the export {needs(name)} ({error})") from None


def to_torchscript(network: PaddedNetwork, path: Path) -> None:
    """Write the network as TorchScript, for batches of any length and tiles of any valid size."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns that a trace leaves out the network's size check
        torch.jit.trace(network, _example(network), check_trace=False).save(str(path))


def to_onnx(network: PaddedNetwork, header: Mapping[str, Any], path: Path) -> None:
    """Write the network as ONNX. It maps `input` float32 `(batch, channel, *size)` to `output`.

    All axes but the channels are dynamic. The file's metadata hold classes, intensity statistics, voxel size, step and
    halo as JSON.

    Parameters
    ----------
    network : PaddedNetwork
        The model.
    header : mapping
        Header of the model file; see `unet.network.model_file`.
    path : Path
        File to write.
    """
    import onnx

    axes = {0: "batch"} | {2 + i: name for i, name in enumerate(axis_names(network.padding))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as for TorchScript above
        # The newer exporter (torch.export) writes opset 20, which is too new for deepImageJ.
        torch.onnx.export(
            network,
            (_example(network),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": axes, "output": axes},
        )
    graph = onnx.load(path)
    onnx.helper.set_model_props(
        graph, {key: json.dumps(value) for key, value in export_metadata(network, header).items()}
    )
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def check_onnx(path: Path, network: PaddedNetwork, inputs: Sequence[NDArray[np.float32]]) -> float:
    """Run an ONNX file in onnxruntime; return the largest difference from the network's probabilities.

    Parameters
    ----------
    path : Path
        From `to_onnx`.
    network : PaddedNetwork
        Network that the file must agree with.
    inputs : sequence of ndarray
        Normalised grey values, float32 `(n, c, *size)`, of several sizes.

    Raises
    ------
    ExportError
        If a difference exceeds `TOLERANCE`; names both values.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return max(_difference(path, lambda x: session.run(None, {"input": x})[0], network, x) for x in inputs)


def check_torchscript(path: Path, network: PaddedNetwork, inputs: Sequence[NDArray[np.float32]]) -> float:
    """Run a TorchScript file; return the largest difference from the network's probabilities. See `check_onnx`."""
    script = torch.jit.load(str(path))

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return script(torch.from_numpy(x)).numpy()

    return max(_difference(path, run, network, x) for x in inputs)


def _difference(
    path: Path,
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    network: PaddedNetwork,
    x: NDArray[np.float32],
) -> float:
    expected, found = network.predict(x), run(x)
    if found.shape != expected.shape:
        raise ExportError(
            f"{path}: for an input of shape {x.shape} its output has shape {found.shape}, but the network's has "
            f"{expected.shape}"
        )
    differences = np.abs(found - expected)
    worst = np.unravel_index(np.argmax(differences), differences.shape)
    if not differences[worst] <= TOLERANCE:
        raise ExportError(
            f"{path}: for an input of shape {x.shape} it gives {found[worst]:g} at {tuple(map(int, worst))}, but the "
            f"network {expected[worst]:g}; the difference may be {TOLERANCE:g} at most"
        )
    return float(differences[worst])


def _example(network: PaddedNetwork) -> Tensor:
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    return torch.zeros(1, first.in_channels, *(axis.minimum for axis in network.padding))
