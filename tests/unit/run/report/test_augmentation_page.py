"""The page of the augmentation: a row for every key, pictures that show what they say."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.test_patches import ArrayVolume
from unet.config.train import AugmentConfig
from unet.geometry.tiling import TileGeometry
from unet.run.report import augmentation_page as page
from unet.run.report import augmentation_pictures as pictures
from unet.run.report.augmentation_page import OFF, ROWS, augmentation_page, most_labelled_voxel, row_settings
from unet.run.report.augmentation_pictures import patch_picture, stack_picture
from unet.training.labelled_volume import LabelledVolume
from unet.training.synthetic import synthesise
from unet.volumes.intensity import Normalisation

TEMPLATES = Path(__file__).parents[4] / "workflow" / "report"
FLAT = TileGeometry((1, 60, 60), (1, 40, 40), (0, 10, 10), (1, 2, 2))
DEEP = TileGeometry((8, 60, 60), (4, 40, 40), (2, 10, 10), (2, 2, 2))


@pytest.fixture(scope="module")
def labelled() -> LabelledVolume:
    """A small sample, labelled throughout."""
    raw, cells = (part[:, :90, :90] for part in synthesise(sections=10, size=96, seed=1))
    weights = np.ones(raw.shape, np.float32)
    targets = (cells > 0).astype(np.uint8)
    return LabelledVolume(
        ArrayVolume(raw), ArrayVolume(targets), ArrayVolume(weights), Normalisation((raw.mean(),), (raw.std(),))
    )


def written(labelled: LabelledVolume, config: AugmentConfig, geometry: TileGeometry = FLAT) -> str:
    template = (TEMPLATES / "augmentation.html.j2").read_text()
    style = page.style_of((TEMPLATES / "report.html.j2").read_text())
    return augmentation_page(template, style, labelled, geometry, config, seed=3)


def test_every_key_of_the_augmentation_has_a_row():
    assert sorted(key for row in ROWS for key in row.keys) == sorted(AugmentConfig.model_fields)


def test_a_draw_that_changes_nothing_is_not_shown(labelled):
    views = page._views(labelled, FLAT)
    for row in ROWS:
        assert [picture.caption for picture in page._pictures(row, OFF, views[row.stack], seed=0)] == ["unchanged"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.keys[0])
def test_every_row_shows_three_changes_even_if_switched_off(labelled, row):
    off = OFF.model_copy(update={"elastic_probability": 0.0, "contrast_shift_std": 0.0, "misalignment_px": 0.0})
    alone, settings = row_settings(row, off)
    assert not all(setting.configured for setting in settings)
    shown = page._pictures(row, alone, page._views(labelled, FLAT)[row.stack], seed=0)
    assert [picture.caption for picture in shown] == ["unchanged", "draw 1", "draw 2", "draw 3"]
    assert len({picture.uri for picture in shown}) == 4


def test_configured_values_are_shown_as_they_are():
    config = AugmentConfig(rotation="right", elastic_px=3, missing_section=0.4)
    for row in ROWS:
        alone, settings = row_settings(row, config)
        for key, value, configured in settings:
            assert getattr(alone, key) == value
            assert configured == (value == getattr(config, key))
        changed = {key for key, value in alone if value != getattr(OFF, key)}
        assert changed <= set(row.keys)


def test_the_page_is_whole_and_the_same_each_time(labelled):
    html = written(labelled, AugmentConfig())
    assert html == written(labelled, AugmentConfig())
    assert html.count("<section>") == len(ROWS) + 1
    assert html.count('src="data:image/png;base64,') == html.count("<img") == 4 * (len(ROWS) + 1)
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("(switched off in the configuration)") == 10
    assert all(f"<h2>{row.name}</h2>" in html for row in ROWS)


def test_a_3d_network_sees_all_together_as_a_stack_too(labelled):
    html = written(labelled, AugmentConfig(misalignment=0.5), DEEP)
    assert "<h2>All together, a stack</h2>" in html
    assert html.count("(switched off in the configuration)") == 9


def test_the_densest_place_is_the_middle_of_what_is_labelled():
    counts = np.zeros((5, 9, 9), int)
    counts[3, 4:7, 1:4] = 10
    assert most_labelled_voxel(counts, (1, 190, 190)) == (3, 5 * 64 + 32, 2 * 64 + 32)
    assert most_labelled_voxel(np.ones((5, 9, 9)), (1, 60, 60)) == (2, 4 * 64 + 32, 4 * 64 + 32)


def test_borders_lie_where_targets_change_and_the_frame_around_them(monkeypatch):
    monkeypatch.setattr(pictures, "MIN_WIDTH", 1)  # not enlarged
    targets = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
    picture = patch_picture(np.zeros((12, 12)), targets)
    assert (picture[4:8, 5:7] == pictures.BORDER).all()
    assert (picture[2, 3:9] == pictures.FRAME).all()
    assert (picture[0] == 0.5).all()
    whole = patch_picture(np.zeros((6, 6)), targets)
    assert (whole[:, 2:4] == pictures.BORDER).all()
    assert (whole[:, [0, 1, 4, 5]] == 0.5).all()


def test_sections_of_a_stack_are_stretched_and_their_borders_within_them(monkeypatch):
    monkeypatch.setattr(pictures, "MIN_WIDTH", 1)
    raw = np.array([[-3.0] * 8, [3.0] * 8])
    targets = np.array([[0] * 8, [1] * 4 + [0] * 4])
    picture = stack_picture(raw, targets)
    assert picture.shape == (6, 8, 3)
    assert (picture[:3] == 0).all()
    assert (picture[3:, 3:5] == pictures.BORDER).all()
    assert (picture[3:, [0, 7]] == 1).all()


def test_a_report_without_style_is_refused():
    with pytest.raises(ValueError, match="style"):
        page.style_of("<html></html>")
