"""The network: the paper's numbers, invariance to the cut into tiles, the variants."""

from math import sqrt

import pytest
import torch
from torch import nn

from unet.config.model import ModelConfig
from unet.network.fcn8s import linear_kernel
from unet.network.model import UNet, build_model

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def sizes_at_every_convolution(model: nn.Module, tile: torch.Tensor) -> list[tuple[int, int]]:
    """`(channels, side)` of what each convolution returns, in the order in which they run."""
    seen: list[tuple[int, int]] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: seen.append((out.shape[1], out.shape[-1])))
        for module in model.modules()
        if isinstance(module, CONVOLUTIONS)
    ]
    with torch.no_grad():
        model.eval()(tile)
    for hook in hooks:
        hook.remove()
    return seen


def random_model(seed: int = 0, **keys) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelConfig(**keys)).eval()


def test_the_papers_network_has_its_parameters_and_23_convolutions():
    model = build_model(ModelConfig(), channels=1, classes=2)
    assert sum(p.numel() for p in model.parameters()) == 31_030_658
    assert sum(isinstance(module, CONVOLUTIONS) for module in model.modules()) == 23


def test_every_level_has_the_papers_sizes():
    model = random_model(base_channels=1)
    sides = [side for _, side in sizes_at_every_convolution(model, torch.zeros(1, 1, 572, 572))]
    contracting = [570, 568, 282, 280, 138, 136, 66, 64, 30, 28]
    expanding = [56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388]
    assert sides == [*contracting, *expanding, 388]


def test_channels_double_down_and_halve_up():
    model = random_model(base_channels=4, depth=3)
    channels = [c for c, _ in sizes_at_every_convolution(model, torch.zeros(1, 1, 60, 60))]
    assert channels == [4, 4, 8, 8, 16, 16, 8, 8, 8, 4, 4, 4, 2]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_are_he_normal_in_their_fan_in(dimensions):
    model = random_model(base_channels=16, depth=3, dimensions=dimensions)
    first, second = (model.encoder.levels[1][k].weight for k in (0, 2))
    taps = 3**dimensions
    for weight, fan_in in ((first, 16 * taps), (second, 32 * taps), (model.ups[1].weight, 64)):
        expected = sqrt(2 / fan_in)
        assert weight.mean().abs() < 0.05 * expected
        assert weight.std().item() == pytest.approx(expected, rel=0.05)
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"upsampling": "bilinear"},
        {"skip": "add"},
        {"normalisation": "batch"},
        {"architecture": "fcn8s"},
        {"pooling": [(1, 2, 2), (1, 1, 2), (1, 2, 2)]},
        {"dimensions": 3, "depth": 3, "pooling": [(1, 2, 2), (2, 2, 2)]},
        {"dimensions": 3, "depth": 3, "upsampling": "bilinear", "pooling": [(1, 2, 2), (2, 2, 2)]},
        {"dimensions": 3, "depth": 3, "architecture": "fcn8s"},
        {"dimensions": 3, "depth": 3, "kernels": [(1, 3, 3), (3, 3, 3), (3, 3, 3)], "block": "residual"},
        {"block": "residual", "normalisation": "batch", "skip": "add"},
    ],
    ids=str,
)
def test_an_unpadded_networks_output_does_not_depend_on_the_tile(keys):
    """Shifts by 2^pools: a tile cut from a larger one gives the same logits, up to its last row and column."""
    config = {"depth": 4, "base_channels": 2, **keys}
    model = random_model(**config)
    n = config.get("dimensions", 2)
    small, shift, extra = (124,) * n if n == 2 else (52,) * n, 8, 16
    image = torch.randn(1, 1, *(s + extra for s in small))
    with torch.no_grad():
        whole = model(image)
        part = model(image[(..., *(slice(shift, shift + s) for s in small))])
    same = whole[(..., *(slice(shift, shift + s) for s in part.shape[2:]))]
    assert part.shape[:2] == (1, 2)
    assert part.std() > 1e-3
    torch.testing.assert_close(part, same, rtol=1e-5, atol=1e-5)


def test_a_residual_block_adds_its_cropped_input_brought_to_its_channels():
    block = random_model(depth=2, base_channels=2, block="residual").encoder.levels[1]
    x = torch.randn(1, 2, 9, 9)
    with torch.no_grad():
        a, relu, b = block.convolutions
        expected = torch.relu(b(relu(a(x))) + nn.functional.conv2d(x, block.projection.weight)[..., 2:-2, 2:-2])
        torch.testing.assert_close(block(x), expected)
        for convolution in (a, b):
            convolution.weight.zero_()
        torch.testing.assert_close(block(x), torch.relu(block.projection(x[..., 2:-2, 2:-2])))


def test_a_residual_block_of_equal_channels_has_no_projection():
    model = random_model(depth=2, base_channels=2, block="residual", skip="add")
    assert isinstance(model.decoders[0].projection, nn.Identity)
    assert isinstance(model.encoder.levels[0].projection, nn.Conv2d)


def test_context_sections_are_input_channels():
    model = random_model(depth=2, base_channels=2, context_sections=1)
    assert model.encoder.levels[0][0].in_channels == 3
    assert (
        build_model(ModelConfig(depth=2, base_channels=2, context_sections=2), channels=2)
        .encoder.levels[0][0]
        .in_channels
        == 10
    )


@pytest.mark.parametrize(
    ("voxel", "pooling", "kernels"),
    [
        ((8, 8, 8), [(2, 2, 2)] * 3, [(3, 3, 3)] * 4),
        ((15, 8, 8), [(2, 2, 2)] * 3, [(3, 3, 3)] * 4),
        ((16, 8, 8), [(1, 2, 2), (2, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)]),
        ((50, 4, 4), [(1, 2, 2)] * 3, [(1, 3, 3)] * 3 + [(3, 3, 3)]),
    ],
)
def test_poolings_and_kernels_follow_the_voxel_size(voxel, pooling, kernels):
    chosen = ModelConfig(dimensions=3, depth=4, pooling="auto").for_voxels(voxel)
    assert (chosen.pooling, chosen.kernels) == (pooling, kernels)


def test_a_shift_off_the_pooling_grid_does_change_the_result():
    model, image = random_model(depth=3, base_channels=2), torch.randn(1, 1, 80, 80)
    with torch.no_grad():
        whole, part = model(image), model(image[..., 2:62, 2:62])
    assert (whole[..., 2:22, 2:22] - part).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", ["unet", "fcn8s"])
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_a_padded_network_keeps_the_size(architecture, upsampling):
    model = random_model(convolution="same", architecture=architecture, upsampling=upsampling, base_channels=2, depth=4)
    assert model(torch.zeros(2, 1, 48, 64)).shape == (2, 2, 48, 64)


def test_fcn8s_and_interpolation_drop_what_they_cannot_complete():
    tile = torch.zeros(1, 1, 572, 572)
    with torch.no_grad():
        assert random_model(architecture="fcn8s", base_channels=1)(tile).shape[-2:] == (420, 420)
        assert random_model(upsampling="bilinear", base_channels=1)(tile).shape[-2:] == (358, 358)


def test_fcn8s_upsampling_starts_as_linear_interpolation():
    ups = random_model(architecture="fcn8s", base_channels=1, depth=3).ups
    ramp = torch.arange(6.0).expand(1, 2, 6, 6)
    with torch.no_grad():
        up = ups[1](ramp)
    expected = nn.functional.interpolate(ramp, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up, expected[..., 1:-1, 1:-1])


@pytest.mark.parametrize("factor", [(1,), (2,), (4,), (2, 4), (1, 2, 2)])
def test_the_kernel_of_interpolation_spreads_each_input_over_factor_outputs(factor):
    assert linear_kernel(factor).sum().item() == pytest.approx(torch.tensor(factor).prod().item())


def test_a_size_that_a_pool_would_round_down_is_refused_with_size_and_factor():
    with pytest.raises(ValueError, match=r"\(57, 58\).*\(2, 2\)"):
        random_model(depth=3, base_channels=1)(torch.zeros(1, 1, 61, 62))


def test_dropout_acts_in_training_on_the_last_two_levels_only():
    model, image = random_model(depth=3, base_channels=4).train(), torch.randn(1, 1, 60, 60)
    first, second = (model.encoder(image) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert not torch.equal(first[2], second[2])
    assert torch.equal(model.eval()(image), model(image))


def test_the_whole_network_receives_a_gradient():
    model = UNet(ModelConfig(depth=3, base_channels=4, dropout=0), channels=2, classes=3)
    model(torch.randn(1, 2, 60, 60)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
