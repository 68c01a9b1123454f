"""From a model file to a predictor."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.geometry.box import Box
from unet.geometry.mirroring import mirrored_indices
from unet.network.load_predictor import DeviceMemoryError, OutOfMemoryRetryPredictor, load_predictor
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.network.precision import choose_precision
from unet.volumes.intensity import Normalisation
from unet.volumes.layout import VolumeLayout
from unet.volumes.volume import Volume

CPU = torch.device("cpu")
LAYOUT = VolumeLayout((3, 40, 50), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 32, 32), None, False)
MODEL = ModelConfig(depth=2, base_channels=2, dropout=0)
GREY = Normalisation((120.0,), (60.0,))


class Sections:
    """A volume in memory."""

    values = np.random.default_rng(0).integers(0, 256, LAYOUT.shape, dtype=np.uint8)

    def read_mirrored(self, window: Box) -> np.ndarray:
        indices = (
            mirrored_indices(lo, hi, n) for lo, hi, n in zip(window.start, window.stop, LAYOUT.shape, strict=True)
        )
        return self.values[np.ix_(*indices)]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A network with two classes that has learnt nothing."""
    torch.manual_seed(1)
    network = build_model(MODEL, 1, 2)
    save_model(tmp_path / "model.pt", network, MODEL, ["membrane", "interior"], normalisation={})
    return tmp_path / "model.pt"


def loaded(model_file: Path, **predict: object) -> OutOfMemoryRetryPredictor:
    volume = Volume(model_file.parent / "volume", LAYOUT)
    return load_predictor(model_file, PredictConfig(**predict), GREY, volume, CPU, threads=2)[0]


def test_tile_statistics_and_averaging_come_from_configuration_and_volume(model_file: Path) -> None:
    first = loaded(model_file, tile=28, test_time_augmentation="flips", batch=2).first
    assert (first.geometry.input, first.geometry.output, first.batch) == ((1, 28, 28), (1, 12, 12), 2)
    assert (first.normalisation, first.test_time_augmentation) == (GREY, "flips")
    assert (first.dtype, first.channels) == ("uint8", 1)


def test_the_tile_chosen_first_is_kept(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = loaded(model_file).first.geometry.input
    monkeypatch.setattr("unet.network.tile_selection.free_bytes", lambda device: 10**6)
    assert loaded(model_file).first.geometry.input == chosen
    assert loaded(model_file).first.threads == 1


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A device whose memory takes batches of so many voxels at most."""

    def limit(voxels: int) -> None:
        forward = torch.nn.Conv2d.forward

        def sparing(self: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
            if x.shape[1] == 1 and x.numel() > voxels:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(self, x)

        monkeypatch.setattr(torch.nn.Conv2d, "forward", sparing)

    return limit


def test_out_of_memory_makes_tiles_smaller_and_the_result_holds(
    model_file: Path, small_device: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    box, image = Box.of_shape(LAYOUT.shape), Sections()
    ample = loaded(model_file, tile=68, batch=2, dtype="float32")
    expected = ample.predict_box(image, box)
    small_device(48 * 48)
    with caplog.at_level(logging.WARNING):
        found = ample.predict_box(image, box)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "a tile of (1, 68, 68) in batches of 2; going on with (1, 68, 68) in batches of 1" in told[0]
    assert "going on with (1, " in told[1]
    assert len(told) == 2
    ample.predict_box(image, box)  # the next blocks take the small tile at once
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2
    assert ample.first.geometry.input == (1, 68, 68)


def test_a_block_that_was_read_for_larger_tiles_is_read_again(
    model_file: Path, small_device: Callable[[int], None]
) -> None:
    box, image, predictor = Box((0, 8, 8), (1, 30, 40)), Sections(), loaded(model_file, tile=68, dtype="float32")
    window, expected = predictor.read(image, box), predictor.predict_box(image, box)
    small_device(40 * 40)
    predictor.predict_box(image, box)
    np.testing.assert_allclose(predictor.infer(window, image, box), expected, atol=1e-5)


def test_memory_for_no_tile_is_an_error_that_says_what_to_do(
    model_file: Path, small_device: Callable[[int], None]
) -> None:
    predictor = loaded(model_file, tile=68)
    small_device(10)
    with pytest.raises(DeviceMemoryError, match=r"out of memory on cpu even .* free memory on the device"):
        predictor.predict_box(Sections(), Box.of_shape(LAYOUT.shape))


@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16", "float16"])
def test_precision_on_a_cpu(asked: str) -> None:
    assert choose_precision(asked, CPU) == ("float32" if asked == "auto" else asked)


@pytest.mark.parametrize(("amx", "expected"), [(True, "bfloat16"), (False, "float32"), (None, "float32")])
def test_fastest_precision_on_a_cpu_follows_its_instructions(
    monkeypatch: pytest.MonkeyPatch, amx: bool | None, expected: str
) -> None:
    capabilities = {} if amx is None else {"amx_bf16": amx}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("fastest", CPU) == expected
    assert choose_precision("auto", CPU) == "float32"


def test_a_pytorch_that_cannot_tell_its_instructions_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    assert choose_precision("fastest", CPU) == "float32"
