"""A trained model for other programs, as ONNX and as TorchScript, checked to be the same model.

Such programs cut an image into tiles whose sizes are whole steps, expect an output as large as the input, and drop a
`halo` on each side of it. The paper's network takes 572 and gives 388, so a padding of zeros is laid around it:

```
one axis of the paper's network: margin 92, step 16

input     n = 16 k                         |----------------------------|
+ zeros   before = 12, after = 0        |--|----------------------------|           n + 12 = 16 b + 60
network   loses the margin                     |----------------|
+ zeros   front = 80, back = 92            |---|----------------|-------|           n
- halo    96                               |      |------------|        |           n - 192
```

The halo is the margin rounded up to whole steps, and `before` makes up for the difference: within the halo every voxel
meets the pooling grid in the same phase as in this workflow's own prediction, and has the same probabilities. Sizes
have the network's axes, `(y, x)` or `(z, y, x)`.
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
from unet.geometry.tiling import output_size, stride_unit, valid_input_sizes
from unet.volumes.intensity import Normalisation

OPSET = 17
"""Of ONNX: the newest that the runtime in today's deepImageJ reads."""
TOLERANCE = 1e-4
"""Largest difference of a probability between the network and what was exported."""
INSTALL = "pip install --constraint constraints.txt --editable '.[export]'"


class ExportError(RuntimeError):
    """The model cannot be exported, or what was exported is not the model."""


@dataclass(frozen=True)
class AxisPadding:
    """The padding along one axis, in voxels: sizes are `minimum + k * step`; see the module's picture.

    `before` and `after` are added to the input, `front` and `back` to what the network makes of it.
    """

    step: int
    halo: int
    before: int
    after: int
    front: int
    back: int

    @property
    def minimum(self) -> int:
        """The smallest size that leaves something within the halo: one step."""
        return 2 * self.halo + self.step

    def size(self, least: int) -> int:
        """The smallest size of `least` or more within the halo."""
        return 2 * self.halo + max(1, ceil(least / self.step)) * self.step


Padding = tuple[AxisPadding, ...]


def padding_of(config: ModelConfig) -> Padding:
    """The padding of a network, one entry an axis.

    >>> frame_of(ModelConfig())[0]
    AxisFrame(step=16, halo=96, before=12, after=0, front=80, back=92)
    """
    axes, smallest = range(3 - config.dimensions, 3), _smallest_tile(config)
    margins = [(size - out) // 2 for size, out in zip(smallest, output_size(config, smallest), strict=True)]
    loses = config.convolution == "valid"
    return tuple(_axis_padding(smallest[a], margins[a], stride_unit(config)[a], loses) for a in axes)


def _axis_padding(tile: int, margin: int, step: int, loses: bool) -> AxisPadding:
    before = margin % step
    after = (tile - before) % step  # all sizes that a network takes are congruent
    lost = margin if loses else 0
    return AxisPadding(step, ceil(margin / step) * step, before, after, lost - before, lost - after)


def _smallest_tile(config: ModelConfig) -> tuple[int, ...]:
    return tuple(_smallest(config, axis) if axis >= 3 - config.dimensions else 1 for axis in range(3))


def _smallest(config: ModelConfig, axis: int) -> int:
    sizes: list[int] = []
    up_to = 64
    while not sizes:
        sizes, up_to = valid_input_sizes(config, up_to, axis), 2 * up_to
    return sizes[0]


class PaddedNetwork(nn.Module):
    """A network within its padding: normalised grey values in, class probabilities of the same size out.

    Parameters
    ----------
    model : nn.Module
        From `load_model`.
    padding : Padding
        Of that model. Within its halo the result is the workflow's own; in the outermost rim it is 0 for all classes.
    """

    def __init__(self, model: nn.Module, padding: Padding) -> None:
        super().__init__()
        self.model, self.padding = model, padding
        # torch counts padding from the last axis
        self.inner = [n for axis in reversed(padding) for n in (axis.before, axis.after)]
        self.outer = [n for axis in reversed(padding) for n in (axis.front, axis.back)]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """float32 `(n, c, *size)` to float32 `(n, K, *size)`."""
        probabilities = torch.softmax(self.model(nn.functional.pad(x, self.inner)), dim=1)
        return nn.functional.pad(probabilities, self.outer)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """`forward` for arrays."""
        with torch.inference_mode():
            return self(torch.from_numpy(x)).numpy()


def training_normalisation(header: Mapping[str, Any]) -> Normalisation:
    """By the grey values of the first training volume.

    Raises
    ------
    ExportError
        If the header of the model file does not tell.
    """
    volumes = header.get("normalisation", {}).get("trained_on", {})
    first: Sequence[Mapping[str, Any]] = next(iter(volumes.values()), [{}])
    if "centre" not in first[0]:
        raise ExportError("the model file does not tell the grey values that it was trained on; train it again")
    return Normalisation.of(first)


def export_metadata(network: PaddedNetwork, header: Mapping[str, Any]) -> dict[str, Any]:
    """What must be known of a model to use it, for the metadata of what is exported; in voxels and nm."""
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
    """`yx` or `zyx`."""
    return "zyx"[-len(padding) :]


def require_packages() -> None:
    """Refuse to start what would fail for want of the optional packages.

    Raises
    ------
    ExportError
        With the command that installs them.
    """
    for name in ("onnx", "onnxruntime", "bioimageio.core"):
        try:
            import_module(name)
        except ImportError as error:
            raise ExportError(f"the export needs {name} ({error}); install it with: {INSTALL}") from None


def to_torchscript(network: PaddedNetwork, path: Path) -> None:
    """Write the network as TorchScript, for any number of tiles of any fitting size."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the size check of the network is left out of a trace, and announced
        torch.jit.trace(network, _example(network), check_trace=False).save(str(path))


def to_onnx(network: PaddedNetwork, header: Mapping[str, Any], path: Path) -> None:
    """Write the network as ONNX: `input` float32 `(batch, channel, *size)` to `output`, all but the channels dynamic.

    Classes, grey-value statistics, voxel size, step and halo are in the file's metadata, as JSON.

    Parameters
    ----------
    network : FramedNetwork
        The model.
    header : mapping
        Of the model file, see `unet.network.model_file`.
    path : Path
        Of the file to write.
    """
    import onnx

    axes = {0: "batch"} | {2 + i: name for i, name in enumerate(axis_names(network.padding))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as for TorchScript
        # The exporter on top of torch.export writes opset 20, too new for deepImageJ.
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
    """Run an ONNX file in onnxruntime; the largest difference of a probability from the network's.

    Parameters
    ----------
    path : Path
        From `to_onnx`.
    network : FramedNetwork
        What it must be equal to.
    inputs : sequence of ndarray
        Normalised grey values, float32 `(n, c, *size)`, of several sizes.

    Raises
    ------
    ExportError
        If a difference exceeds `TOLERANCE`; tells both values.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return max(_difference(path, lambda x: session.run(None, {"input": x})[0], network, x) for x in inputs)


def check_torchscript(path: Path, network: PaddedNetwork, inputs: Sequence[NDArray[np.float32]]) -> float:
    """As `check_onnx`, for a file of `to_torchscript`."""
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
        raise ExportError(f"{path}: of an input {x.shape} it makes {found.shape}, but the network {expected.shape}")
    differences = np.abs(found - expected)
    worst = np.unravel_index(np.argmax(differences), differences.shape)
    if not differences[worst] <= TOLERANCE:
        raise ExportError(
            f"{path}: of an input {x.shape} it makes {found[worst]:g} at {tuple(map(int, worst))}, but the network "
            f"{expected[worst]:g}; at most {TOLERANCE:g} apart are allowed"
        )
    return float(differences[worst])


def _example(network: PaddedNetwork) -> Tensor:
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    return torch.zeros(1, first.in_channels, *(axis.minimum for axis in network.padding))
