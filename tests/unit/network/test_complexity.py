"""Cost of a forward pass, against counts made by hand."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unet.config.model import ModelConfig
from unet.network.complexity import forward_cost, useful_flops_per_voxel
from unet.network.model import build_model

TINY = ModelConfig(depth=2, base_channels=1, dropout=0)


def test_operations_of_a_forward_pass_counted_by_hand() -> None:
    # Input 20, U-Net of depth 2 with 1 and 2 channels; sides after each 3x3: 18 16 | 8: 6 4 | 8: 6 4.
    three_by_three = 9 * (18**2 * 1 + 16**2 * 1 + 6**2 * 1 * 2 + 4**2 * 2 * 2 + 6**2 * 2 * 1 + 4**2 * 1 * 1)
    up_2_to_1 = 4**2 * 2 * 1 * 4  # each of 4 x 4 voxels of 2 channels makes 2 x 2 voxels of 1
    one_by_one = 4**2 * 1 * 2  # to 2 classes
    expected = 2 * (three_by_three + up_2_to_1 + one_by_one)  # a multiplication and an addition each
    assert forward_cost(TINY, 2, (1, 20, 20)).flops == expected


def test_operations_of_a_3d_network_counted_by_hand() -> None:
    # Input 20: 1 -> 2 channels, sides 18 16 | 8: 6 4 | 8: 6 4, with a third factor each.
    three = 27 * (18**3 * 1 + 16**3 * 1 + 6**3 * 1 * 2 + 4**3 * 2 * 2 + 6**3 * 2 * 1 + 4**3 * 1 * 1)
    expected = 2 * (three + 4**3 * 2 * 1 * 8 + 4**3 * 1 * 2)
    assert forward_cost(TINY.model_copy(update={"dimensions": 3}), 2, (20, 20, 20)).flops == expected


def test_operations_of_kernels_of_one_along_z_residual_blocks_and_context() -> None:
    flat = TINY.model_copy(update={"dimensions": 3, "kernels": [(1, 3, 3)] * 2, "pooling": [(1, 2, 2)]})
    assert forward_cost(flat, 2, (5, 20, 20)).flops == 5 * forward_cost(TINY, 2, (1, 20, 20)).flops
    residual = forward_cost(TINY.model_copy(update={"block": "residual"}), 2, (1, 20, 20)).flops
    projections = 2 * (4**2 * 1 * 2 + 4**2 * 2 * 1)  # 1 -> 2 channels below, 2 -> 1 above
    assert residual == forward_cost(TINY, 2, (1, 20, 20)).flops + projections
    context = forward_cost(TINY.model_copy(update={"context_sections": 1}), 2, (3, 20, 20)).flops
    assert context == forward_cost(TINY, 2, (1, 20, 20)).flops + 2 * 9 * 18**2 * 2


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_training_step_takes_three_forward_passes_less_the_gradient_of_the_input(dimensions: int) -> None:
    model, side = ModelConfig(dimensions=dimensions, depth=2, base_channels=4, dropout=0), 20
    with torch.device("meta"):
        network, x = build_model(model), torch.empty(1, 1, *(side,) * dimensions)
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    forward = forward_cost(model, 2, (side if dimensions == 3 else 1, side, side)).flops
    first = 2 * 3**dimensions * 18**dimensions * 4
    assert counter.get_total_flops() == 3 * forward - first


def test_operations_of_the_papers_network() -> None:
    macs, side, before = 0, 572, 1
    for channels in (64, 128, 256, 512, 1024):
        macs += 9 * (side - 2) ** 2 * before * channels + 9 * (side - 4) ** 2 * channels**2
        side, before = (side - 4) // 2, channels
    side *= 2  # the deepest level is not pooled
    for channels in (512, 256, 128, 64):
        macs += 4 * side**2 * 2 * channels * channels
        macs += 9 * (2 * side - 2) ** 2 * 2 * channels * channels + 9 * (2 * side - 4) ** 2 * channels**2
        side = 2 * side - 4
    assert side == 388
    assert forward_cost(ModelConfig(), 2, (1, 572, 572)).flops == 2 * (macs + 388**2 * 64 * 2)


def test_a_whole_image_of_the_papers_network_takes_a_quarter_less_than_its_tiles() -> None:
    between = [(128, 1), (256, 2), (512, 3)]  # channels and level, with n / 2 -> n -> n down and 2 n -> n -> n up
    macs = 9 * (1 * 64 + 64**2 + 128 * 64 + 64**2) + 9 * (512 * 1024 + 1024**2) / 4**4 + 64 * 2
    macs += sum(9 * (n / 2 + n + 2 * n + n) * n / 4**level for n, level in between)
    macs += sum(2 * n * n / 4**level for n, level in [(64, 0), *between])  # up-convolutions, of 2 n channels
    assert useful_flops_per_voxel(ModelConfig(), 2) == 2 * macs


def test_bytes_alive_at_once_counted_by_hand() -> None:
    # Sides 20 -> 18, 16 | 8: 6, 4 | 8: 6, 4. Most is alive when 2 channels of 8 x 8, made of the skip (1 x 16 x 16) and
    # what came up (1 x 8 x 8), are joined; before, when the first convolution's 18 x 18 make 16 x 16.
    joining = 16 * 16 + 8 * 8 + 2 * 8 * 8
    beginning = 18 * 18 + 16 * 16
    assert forward_cost(TINY, 2, (1, 20, 20)).bytes == 4 * (20 * 20 + max(joining, beginning))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_the_precision_takes_half_the_memory(precision: str) -> None:
    whole, half = (forward_cost(ModelConfig(), 2, (1, 572, 572), precision=p) for p in ("float32", precision))
    assert half.flops == whole.flops
    assert half.bytes == pytest.approx(whole.bytes / 2, rel=0.01)


def test_a_batch_takes_its_tiles_times_as_much() -> None:
    one, three = (forward_cost(TINY, 2, (1, 60, 60), batch=n) for n in (1, 3))
    assert (three.flops, three.bytes) == (3 * one.flops, 3 * one.bytes)


COUNT = """
import sys
from unet.config.model import ModelConfig
from unet.network.complexity import forward_cost
forward_cost(ModelConfig(depth=2, base_channels=1), 2, (1, 28, 28))
sys.exit("torch._dynamo" in sys.modules)
"""


def test_counting_a_forward_pass_loads_no_compiler() -> None:
    """It takes over a second, in every plan and in every start of the workflow that predicts."""
    assert subprocess.run([sys.executable, "-c", COUNT], check=False).returncode == 0
