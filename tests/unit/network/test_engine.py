"""The network on its device. What a GPU does otherwise is tested where there is one."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.geometry.box import Box
from unet.geometry.tiling import tile_geometry
from unet.network.engine import Engine
from unet.network.model import build_model
from unet.network.predictor import Predictor
from unet.volumes.intensity import Normalisation

CPU = torch.device("cpu")
SMALL = ModelConfig(depth=3, base_channels=4, dropout=0)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def model(config: ModelConfig = SMALL) -> nn.Module:
    torch.manual_seed(3)
    return build_model(config, 1, 2)


def test_several_items_at_once_each_by_one_thread() -> None:
    engine, seen, together = Engine(model(), CPU, "float32", threads=2), set(), threading.Barrier(2, timeout=120)

    def work(item: int) -> None:
        together.wait()  # passes only if two are at work
        seen.add((item, torch.get_num_threads()))

    engine.each(work, range(4))
    assert seen == {(item, 1) for item in range(4)}


def test_the_first_error_ends_the_items_that_have_not_begun() -> None:
    engine, begun = Engine(model(), CPU, "float32", threads=1), []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        engine.each(work, range(100))
    assert len(begun) < 5


def test_arrays_go_to_a_cpu_and_back_without_a_copy() -> None:
    engine, array = Engine(model(), CPU, "float32"), np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    assert np.shares_memory(engine.to_host(engine.to_device(array)), array)
    np.testing.assert_array_equal(engine.to_device(array[..., ::-1]), array[..., ::-1])


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0), ("bfloat16", 0.05), ("float16", 0.01)])
def test_logits_are_float32_of_any_precision(precision: str, tolerance: float) -> None:
    network, x = model(), torch.randn(2, 1, 60, 60)
    with torch.inference_mode():
        exact = network.eval()(x)
        found = Engine(network, CPU, precision).logits(x)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() <= (tolerance * exact.abs().max() or 1e-5)


def test_a_network_is_compiled_for_the_shape_of_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(network: nn.Module, **how: bool) -> nn.Module:
        assert how == {"dynamic": False}
        return lambda x: network(x) + 1  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", compiled)
    network, x = model(), torch.randn(1, 1, 60, 60)
    with torch.inference_mode():
        plain, other = (Engine(network, CPU, "float32", compiled=c).logits(x) for c in (False, True))
    torch.testing.assert_close(other, plain + 1)


class Noise:
    """A volume in memory, larger than a block's window."""

    values = np.random.default_rng(0).integers(0, 256, (5, 400, 400), dtype=np.uint8)

    def read_mirrored(self, window: Box) -> np.ndarray:
        return self.values[window.shifted((1, 100, 100)).slices]


def predictor(device: str, **how: object) -> Predictor:
    return Predictor(model(), tile_geometry(SMALL, 92), Normalisation((120.0,), (60.0,)), device=device, **how)


@needs_gpu
@pytest.mark.parametrize("average", ["none", "symmetries", "rotations"])
def test_a_gpu_says_what_a_cpu_says(average: str) -> None:
    box = Box((0, 0, 0), (3, 150, 170))
    on_cpu, on_gpu = (
        predictor(d, test_time_augmentation=average, batch=2).predict_box(Noise(), box) for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks_side_by_side_on_a_gpu_give_the_bits_of_one_after_the_other(precision: str) -> None:
    boxes = [Box((z, y, 0), (z + 1, y + 50, 170)) for z in range(3) for y in (0, 50, 100)]
    p = predictor("cuda", precision=precision, dtype="uint8", channels=1)
    alone, together = [p.predict_box(Noise(), box) for box in boxes], dict[int, np.ndarray]()

    def infer(i: int) -> None:
        together[i] = p.predict_box(Noise(), boxes[i])

    threads = [threading.Thread(target=infer, args=(i,)) for i in range(len(boxes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, expected in enumerate(alone):
        np.testing.assert_array_equal(together[i], expected)


@needs_gpu
def test_a_compiled_network_agrees() -> None:
    box, x = Box((0, 0, 0), (1, 100, 100)), predictor("cuda")
    compiled = predictor("cuda", compiled=True).predict_box(Noise(), box)
    np.testing.assert_allclose(compiled, x.predict_box(Noise(), box), atol=1e-4)


@needs_gpu
def test_what_is_copied_is_what_was_computed() -> None:
    engine = Engine(model(), torch.device("cuda"), "float32")
    array = np.random.default_rng(1).integers(0, 256, (1, 4, 300, 300), dtype=np.uint8)

    def doubled() -> Tensor:
        on_device = engine.to_device(array)
        with engine.computing():
            return on_device.int() * 2

    for _ in range(20):
        np.testing.assert_array_equal(engine.to_host(doubled()), array.astype(int) * 2)
