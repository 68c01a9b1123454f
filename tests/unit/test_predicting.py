"""From a model file to a predictor."""

from pathlib import Path

import pytest
import torch

from unet.config import ModelConfig, PredictConfig
from unet.devices import choose_precision
from unet.grey_values import Normalisation
from unet.model import build_model
from unet.model_file import save_model
from unet.predicting import CPU_TILE_BYTES, load_predictor, stored_classes, tile_memory
from unet.volume import Layout

CPU = torch.device("cpu")
LAYOUT = Layout((3, 40, 50), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 32, 32), None, False)
MODEL = ModelConfig(depth=2, base_channels=2, dropout=0)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A network with two classes that has learnt nothing."""
    network = build_model(MODEL, 1, 2)
    save_model(tmp_path / "model.pt", network, MODEL, ["membrane", "interior"], normalisation={})
    return tmp_path / "model.pt"


def test_tile_statistics_and_averaging_come_from_configuration_and_volume(model_file: Path) -> None:
    predict = PredictConfig(tile=28, average="flips", batch=2)
    predictor, header = load_predictor(model_file, predict, Normalisation((3.0,), (2.0,)), LAYOUT, CPU)
    assert header["classes"] == ["membrane", "interior"]
    assert (predictor.geometry.input, predictor.geometry.output) == ((1, 28, 28), (1, 12, 12))
    assert (predictor.normalisation, predictor.average) == (Normalisation((3.0,), (2.0,)), "flips")


def test_an_automatic_tile_depends_on_the_block_and_not_on_the_volume(model_file: Path) -> None:
    deep = Layout(**{**vars(LAYOUT), "shape": (30, 400, 500)})
    tiles = {
        load_predictor(model_file, PredictConfig(), Normalisation((0.0,), (1.0,)), layout, CPU)[0].geometry.input
        for layout in (LAYOUT, deep)
    }
    assert len(tiles) == 1


@pytest.mark.parametrize(("asked", "expected"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_precision_on_a_cpu(asked: str, expected: str) -> None:
    assert choose_precision(asked, CPU) == expected


def test_memory_of_a_tile_on_a_cpu_and_the_channels_kept() -> None:
    assert tile_memory(CPU) == CPU_TILE_BYTES
    assert stored_classes(["membrane", "interior"]) == ["interior"]
    assert stored_classes(["a", "b", "c"]) == ["a", "b", "c"]
