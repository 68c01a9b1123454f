"""Sizes of training patches, with the network itself as the oracle."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.config.model import ModelConfig
from unet.geometry.tiling import TileGeometry, TileSizeError, tile_geometry
from unet.geometry.training_tile import largest_training_tile, training_geometry, validation_geometry
from unet.network.model import build_model

PADDED = {"convolution": "same", "base_channels": 2, "dropout": 0}
NETWORKS = {
    "2-D": ModelConfig(depth=3, **PADDED),
    "with context": ModelConfig(depth=2, context_sections=1, **PADDED),
    "3-D": ModelConfig(depth=3, dimensions=3, **PADDED),
    "flat": ModelConfig(depth=3, dimensions=3, pooling=[(1, 2, 2), (2, 2, 2)], **PADDED),
    "bilinear": ModelConfig(depth=3, upsampling="bilinear", **PADDED),
}


def test_sizes_of_a_cube() -> None:
    """By hand: depth 4 pools by 8; 104 voxels leave 8, so the border takes 48 on each side."""
    model = ModelConfig(depth=4, dimensions=3, **PADDED)
    unit = (8, 8, 8)
    assert training_geometry(model, 64, "tile") == TileGeometry((64,) * 3, (64,) * 3, (0, 0, 0), unit)
    assert training_geometry(model, 120, "exact") == tile_geometry(model, 120)
    assert validation_geometry(model, 64, "tile") == TileGeometry((160,) * 3, (64,) * 3, (48,) * 3, unit)


@pytest.mark.parametrize("name", NETWORKS)
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_the_whole_answer_of_the_network_is_learnt_and_validated_as_many_voxels_at_once(name, data) -> None:
    model = NETWORKS[name]
    unit = training_geometry(model, 16, "tile").stride_unit
    sections = model.sections if model.dimensions == 2 else unit[0] * data.draw(st.integers(1, 3))
    tile = (sections, *(unit[axis] * data.draw(st.integers(1, 5)) for axis in (1, 2)))
    learnt = training_geometry(model, tile, "tile")
    x = torch.zeros(1, model.sections, *tile[1:]) if model.dimensions == 2 else torch.zeros(1, 1, *tile)
    answer = build_model(model, 1, 2)(x).shape[2:]
    assert learnt.output[-len(answer) :] == tuple(answer)
    assert validation_geometry(model, tile, "tile").output == learnt.output


def test_exact_is_the_geometry_of_a_prediction() -> None:
    for model, tile in ((ModelConfig(), 572), (NETWORKS["2-D"], 100)):
        assert training_geometry(model, tile, "exact") == tile_geometry(model, tile)
        assert validation_geometry(model, tile, "exact") == tile_geometry(model, tile)


@pytest.mark.parametrize(
    ("tile", "words"), [(66, "nearest are 64 and 68"), (3, "along y .* the smallest is 4"), ((1, 64, 66), "along x")]
)
def test_a_size_that_does_not_fit_is_refused_with_the_next_ones(tile, words) -> None:
    with pytest.raises(TileSizeError, match=words):
        training_geometry(NETWORKS["2-D"], tile, "tile")


def test_the_largest_tile_of_a_volume() -> None:
    """A flat volume: its learnt voxels have to fit, and context may be mirrored."""
    assert largest_training_tile(NETWORKS["3-D"], 64, "tile", (35, 250, 40)) == (32, 64, 40)
    assert largest_training_tile(NETWORKS["3-D"], 64, "tile", (3, 250, 250))[0] == 0
    assert largest_training_tile(ModelConfig(), 572, "exact", (9, 96, 400)) == (1, 268, 572)
