"""The peers of benchmarks/inference.py, run by the Python of an environment of their own:

    python3.11 -m venv peers
    peers/bin/pip install torch==2.13.0            # a CPU build
    echo torch==2.13.0 > pin.txt
    peers/bin/pip install -c pin.txt monai==1.6.1 torch_em==0.10.9

Each predicts sections of the stored volume, one after the other. A section is read and normalised with the statistics
of the volume. It goes with all cores through the zero-padded twin of the network, since the peers take only such
networks. The softmax is written to Zarr as uint8. A 3-D network of affinities predicts the whole volume at once, with a
sigmoid. The deviation compares the probabilities with those of the same network on the whole section (volume) at once.
Voxels less than `FACE_PX` px from a face do not count: there the peers differ in how they continue the image, which is
not a matter of tiles.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

from unet.config.model import ModelConfig
from unet.network.model import build_model

WINDOW = {2: (512, 512), 3: (64, 128, 128)}
FACE_PX = {2: 112, 3: 20}
BLOCKS_AND_HALOS: dict[int, dict[str, tuple[int, ...]]] = {
    2: {"512": (512, 512, 64, 64), "1024": (1024, 1024, 96, 96)},
    3: {"128": (32, 128, 128, 16, 24, 24)},
}
"""Of torch-em: the small blocks of its examples, and large ones."""
Section = np.ndarray
Predict = Callable[[Section], Section]


def padded_twin(path: Path) -> nn.Module:
    """Return the network with the same weights whose output is as large as its input."""
    content = torch.load(path, weights_only=True)
    header, config = content["header"], ModelConfig(**content["header"]["model"])
    model = build_model(config.model_copy(update={"convolution": "same"}), header["channels"], len(header["classes"]))
    model.load_state_dict(content["weights"])
    return model.eval()


def whole(model: nn.Module, section: Section) -> Section:
    """Return the logits `(K, y, x)` of a section at once, or `(K, z, y, x)` of a volume."""
    return model(torch.from_numpy(section[None, None]))[0].numpy()


def monai(model: nn.Module, overlap: float, section: Section) -> Section:
    """Predict by MONAI's sliding window, its results weighted by a Gaussian."""
    from monai.inferers import sliding_window_inference

    found = sliding_window_inference(
        torch.from_numpy(section[None, None]), WINDOW[section.ndim], 1, model, overlap=overlap, mode="gaussian"
    )
    return np.asarray(found[0])


def torch_em(model: nn.Module, function: str, sizes: tuple[int, ...], section: Section) -> Section:
    """Predict by torch-em's blocks with a halo."""
    from torch_em.util import prediction

    output = np.zeros((model.classes, *section.shape), np.float32)
    block, halo = sizes[: section.ndim], sizes[section.ndim :]
    how: dict[str, Any] = {"output": output, "preprocess": None, "disable_tqdm": True}
    getattr(prediction, function)(section, model, ["cpu"], block, halo, **how)
    return output


def contestants(model: nn.Module, dimensions: int) -> dict[str, Predict]:
    """Return how each peer is called."""
    sizes = BLOCKS_AND_HALOS[dimensions]
    largest = list(sizes)[-1]
    return {
        "monai_025": partial(monai, model, 0.25),
        "monai_05": partial(monai, model, 0.5),
        **{f"torch_em_{name}": partial(torch_em, model, "predict_with_halo", own) for name, own in sizes.items()},
        f"torch_em_pipelined_{largest}": partial(torch_em, model, "predict_with_halo_pipelined", sizes[largest]),
    }


def probabilities(logits: Section) -> torch.Tensor:
    """Return the softmax over the classes of a section, or the sigmoid of each affinity of a volume."""
    values = torch.from_numpy(logits)
    return torch.sigmoid(values) if logits.ndim == 4 else torch.softmax(values, 0)


def deviation(logits: Section, reference: Section) -> float:
    """Return the largest difference of probabilities, away from the faces."""
    face = FACE_PX[logits.ndim - 1]
    inside = (slice(None), *[slice(face, -face)] * (logits.ndim - 1))
    return float((probabilities(logits[inside]) - probabilities(reference[inside])).abs().max())


def stored(logits: Section) -> Section:
    """Return the probability of the last class, or all affinities, as uint8."""
    found = probabilities(logits)
    return ((found if logits.ndim == 4 else found[-1]) * 255).round().to(torch.uint8).numpy()


def measured(predict: Predict, raw: Any, sections: int, mean: float, std: float, folder: Path) -> float:
    """Return the seconds of some sections, from Zarr to Zarr."""
    shape = (sections, *raw.shape[1:])
    target = zarr.create_array(folder, shape=shape, chunks=(1, *WINDOW[2]), dtype="uint8", overwrite=True)
    begin = time.perf_counter()
    for z in range(sections):
        target[z] = stored(predict((raw[z].astype(np.float32) - mean) / std))
    return time.perf_counter() - begin


def measured_at_once(predict: Predict, raw: Any, classes: int, mean: float, std: float, folder: Path) -> float:
    """Return the seconds of the whole volume, from Zarr to Zarr."""
    shape, chunks = (classes, *raw.shape), (classes, *WINDOW[3])
    target = zarr.create_array(folder, shape=shape, chunks=chunks, dtype="uint8", overwrite=True)
    begin = time.perf_counter()
    target[:] = stored(predict((raw[:].astype(np.float32) - mean) / std))
    return time.perf_counter() - begin


def declare_vision_operators() -> Any:
    """Declare the operators of torchvision, so that torch_em can import it although there is no CPU build."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def main(arguments: dict[str, Any]) -> None:
    """Measure each and print the figures as JSON."""
    torch.set_num_threads(arguments["threads"])
    library = declare_vision_operators()
    mean, std, sections = arguments["mean"], arguments["std"], arguments["sections"]
    model, raw = padded_twin(Path(arguments["model"])), zarr.open_array(arguments["raw"], mode="r")
    found: dict[str, Any] = {"sections": sections}
    dimensions = 3 if any(isinstance(one, nn.Conv3d) for one in model.modules()) else 2
    with torch.inference_mode():
        first = (np.asarray(raw[:] if dimensions == 3 else raw[0], np.float32) - mean) / std
        reference = whole(model, first)
        for name, predict in contestants(model, dimensions).items():
            difference, store = deviation(predict(first), reference), Path(arguments["folder"]) / f"{name}.zarr"
            if dimensions == 3:  # the difference was a warm-up
                seconds = measured_at_once(predict, raw, len(reference), mean, std, store) / raw.shape[0]
            else:
                seconds = measured(predict, raw, sections, mean, std, store) / sections
            found[name] = {"seconds": seconds, "deviation": difference}
            print(f"{name}: {seconds:.2f} s a section", file=sys.stderr, flush=True)
    del library
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
