"""The peers of benchmarks/inference.py, run by the Python of an environment of their own:

    python3.11 -m venv peers
    peers/bin/pip install torch==2.13.0            # a CPU build
    echo torch==2.13.0 > pin.txt
    peers/bin/pip install -c pin.txt monai==1.6.1 torch_em==0.10.9

Each predicts sections of the stored volume, one after the other: read, normalised with the statistics of the volume,
through the zero-padded twin of the network (which is what they take) with all cores, softmax, uint8, written to Zarr.
Their deviation is that of a section's probabilities from those of the same network on the whole section at once, at
least `RIM` px from the section's faces: beyond, they differ in how they go on, which is not a matter of tiles.
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

WINDOW = (512, 512)
RIM = 112
Section = np.ndarray
Predict = Callable[[Section], Section]


def padded_twin(path: Path) -> nn.Module:
    """The network with the same weights that returns all of its input."""
    content = torch.load(path, weights_only=True)
    header, config = content["header"], ModelConfig(**content["header"]["model"])
    model = build_model(config.model_copy(update={"convolution": "same"}), header["channels"], len(header["classes"]))
    model.load_state_dict(content["weights"])
    return model.eval()


def whole(model: nn.Module, section: Section) -> Section:
    """Logits `(K, y, x)` of a section at once."""
    return model(torch.from_numpy(section[None, None]))[0].numpy()


def monai(model: nn.Module, overlap: float, section: Section) -> Section:
    """MONAI's sliding window, its results weighed by a Gaussian."""
    from monai.inferers import sliding_window_inference

    found = sliding_window_inference(
        torch.from_numpy(section[None, None]), WINDOW, 1, model, overlap=overlap, mode="gaussian"
    )
    return np.asarray(found[0])


def torch_em(model: nn.Module, function: str, block: int, halo: int, section: Section) -> Section:
    """torch-em's blocks with a halo."""
    from torch_em.util import prediction

    output = np.zeros((2, *section.shape), np.float32)
    how: dict[str, Any] = {"output": output, "preprocess": None, "disable_tqdm": True}
    getattr(prediction, function)(section, model, ["cpu"], (block, block), (halo, halo), **how)
    return output


def contestants(model: nn.Module) -> dict[str, Predict]:
    """Return how each peer is called: torch-em with the small blocks of its examples, and with large ones."""
    return {
        "monai_025": partial(monai, model, 0.25),
        "monai_05": partial(monai, model, 0.5),
        "torch_em_512": partial(torch_em, model, "predict_with_halo", 512, 64),
        "torch_em_1024": partial(torch_em, model, "predict_with_halo", 1024, 96),
        "torch_em_pipelined_1024": partial(torch_em, model, "predict_with_halo_pipelined", 1024, 96),
    }


def deviation(logits: Section, reference: Section) -> float:
    """Largest difference of probabilities, away from the faces."""
    inside = np.s_[:, RIM:-RIM, RIM:-RIM]
    a, b = (torch.softmax(torch.from_numpy(values[inside]), 0) for values in (logits, reference))
    return float((a - b).abs().max())


def stored(logits: Section) -> Section:
    """Probability of the last class, as uint8."""
    probabilities = torch.softmax(torch.from_numpy(logits), 0)[-1]
    return (probabilities * 255).round().to(torch.uint8).numpy()


def measured(predict: Predict, raw: Any, sections: int, mean: float, std: float, folder: Path) -> float:
    """Seconds from Zarr to Zarr."""
    shape = (sections, *raw.shape[1:])
    target = zarr.create_array(folder, shape=shape, chunks=(1, *WINDOW), dtype="uint8", overwrite=True)
    begin = time.perf_counter()
    for z in range(sections):
        target[z] = stored(predict((raw[z].astype(np.float32) - mean) / std))
    return time.perf_counter() - begin


def declare_vision_operators() -> Any:
    """torchvision has no CPU build; it can be imported, which torch_em does, once its operators are declared."""
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
    with torch.inference_mode():
        first = (raw[0].astype(np.float32) - mean) / std
        reference = whole(model, first)
        for name, predict in contestants(model).items():
            difference = deviation(predict(first), reference)  # and a warm-up
            seconds = measured(predict, raw, sections, mean, std, Path(arguments["folder"]) / f"{name}.zarr")
            found[name] = {"seconds": seconds / sections, "deviation": difference}
            print(f"{name}: {seconds / sections:.2f} s a section", file=sys.stderr, flush=True)
    del library
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
