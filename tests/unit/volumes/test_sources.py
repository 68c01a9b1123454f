"""The sources of a volume lie on common voxels: placed, cropped, flipped, coarser; or they are refused."""

from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.conftest import S3Server
from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.sources import VolumeSources, open_volume

SHAPE = (6, 8, 10)
VALUES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
IDS = np.random.default_rng(1).integers(0, 5, SHAPE, dtype=np.uint16)
NOBODY = 2**32 - 1


def hdf5(path: Path, values: np.ndarray, **attributes: tuple[float, ...]) -> str:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", data=values)
        dataset.attrs.update(attributes)
    return f"{path}:/a"


def opened(
    tmp_path: Path, raw: np.ndarray = VALUES, labels: np.ndarray | None = None, **settings: Any
) -> VolumeSources:
    """Open a volume whose files hold these voxels; `at` and `raw_at` are offsets in nm, `label` settings of labels."""
    size = settings.pop("resolution", (50.0, 4.0, 4.0))
    place, at, label = settings.pop("raw_at", None), settings.pop("at", None), settings.pop("label", {})
    given: dict[str, Any] = {
        "raw": hdf5(tmp_path / "raw.h5", raw, resolution=size, **({"offset": place} if place else {}))
    }
    if labels is not None:
        own = settings.pop("labels_resolution", size)
        attributes = {"resolution": own, **({"offset": at} if at else {})}
        given["labels"] = {"path": hdf5(tmp_path / "labels.h5", labels, **attributes), **label}
    return open_volume(VolumeConfig.model_validate({**given, **settings}))


def everything(source: Any) -> np.ndarray:
    """Read a source box by box, and compare with one read of the whole."""
    whole = source.read(Box.of_shape(source.shape))
    for corner in product((0, 1), repeat=3):
        halves = [(n // 2, n) if far else (0, n // 2) for far, n in zip(corner, source.shape, strict=True)]
        box = Box(tuple(lo for lo, _ in halves), tuple(hi for _, hi in halves))
        if box.size:
            np.testing.assert_array_equal(source.read(box), whole[(..., *box.slices)])
    return whole


@pytest.mark.parametrize("axes", [["z"], ["y"], ["x"], ["z", "x"], ["z", "y", "x"]])
def test_flipped_axes_run_the_other_way(tmp_path: Path, axes: list[str]) -> None:
    sources = opened(tmp_path, labels=IDS, label={"flip": axes})
    assert sources.labels is not None
    np.testing.assert_array_equal(everything(sources.labels), np.flip(IDS, ["zyx".index(axis) for axis in axes]))
    np.testing.assert_array_equal(everything(sources.raw), VALUES)


def test_a_flipped_section_is_told_by_its_place_in_the_file(tmp_path: Path) -> None:
    labels = opened(tmp_path, labels=IDS, label={"flip": ["z"]}).labels
    assert labels is not None
    assert "section 5" in labels.section_name(0)


def test_a_crop_has_its_voxels_and_its_place(tmp_path: Path) -> None:
    sources = opened(
        tmp_path, labels=IDS, crop=[[1, 5], [2, 8], [3, 7]], raw_at=(100.0, 0.0, 40.0), at=(100.0, 0.0, 40.0)
    )
    assert sources.labels is not None
    np.testing.assert_array_equal(everything(sources.raw), VALUES[1:5, 2:8, 3:7])
    np.testing.assert_array_equal(everything(sources.labels), IDS[1:5, 2:8, 3:7])
    assert sources.offset_nm == (150.0, 8.0, 52.0)


def test_labels_of_a_part_are_placed_by_the_offsets_of_the_files(tmp_path: Path) -> None:
    sources = opened(tmp_path, labels=IDS[:3, :4, :5], raw_at=(50.0, 0.0, 0.0), at=(150.0, 8.0, 4.0))
    labels, expected = sources.labels, np.full(SHAPE, NOBODY, np.uint32)
    assert labels is not None
    expected[2:5, 2:6, 1:6] = IDS[:3, :4, :5]
    np.testing.assert_array_equal(everything(labels), expected)
    known = labels.covers(sources.box)
    assert known is not None
    assert known.sum() == 3 * 4 * 5
    assert known[2:5, 2:6, 1:6].all()
    assert labels.covers(Box((2, 2, 1), (5, 6, 6))) is None


def test_labels_of_a_part_are_placed_by_the_user(tmp_path: Path) -> None:
    labels = opened(tmp_path, labels=IDS[:1, :4, :5], label={"offset": [5, 4, 5]}).labels
    assert labels is not None
    np.testing.assert_array_equal(everything(labels)[5, 4:, 5:], IDS[0, :4, :5])
    assert np.sum(everything(labels) != NOBODY) == 4 * 5


@pytest.mark.parametrize("factors", [[1, 2, 2], [2, 3, 1], [1, 1, 1]])
def test_coarser_voxels_are_means_of_intensities_and_most_frequent_labels(tmp_path: Path, factors: list[int]) -> None:
    sources = opened(tmp_path, labels=IDS, downsample=factors, resolution=(50.0, 4.0, 4.0))
    assert sources.labels is not None
    raw, labels = everything(sources.raw), everything(sources.labels)
    for z, y, x in np.ndindex(*raw.shape):
        group = tuple(slice(i * f, (i + 1) * f) for i, f in zip((z, y, x), factors, strict=True))
        assert raw[z, y, x] == np.rint(VALUES[group].mean())
        ids, counts = np.unique(IDS[group], return_counts=True)
        assert labels[z, y, x] == ids[counts.argmax()]
    assert sources.voxel_size_nm == tuple(edge * f for edge, f in zip((50.0, 4.0, 4.0), factors, strict=True))
    assert sources.offset_nm == tuple(edge * (f - 1) / 2 for edge, f in zip((50.0, 4.0, 4.0), factors, strict=True))


def test_a_coarse_voxel_that_is_not_wholly_annotated_is_not_annotated(tmp_path: Path) -> None:
    sources = opened(tmp_path, labels=IDS[:, :, :5], label={"offset": [0, 0, 0]}, downsample=[1, 1, 2])
    assert sources.labels is not None
    known = sources.labels.covers(Box((0, 0, 0), (6, 8, 5)))
    assert known is not None
    assert known[..., :2].all()
    assert not known[..., 2:].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": IDS[:4]}, r"labels\.h5.*shape \(4, 8, 10\).*raw\.h5.*shape \(6, 8, 10\)"),
        ({"labels": IDS, "labels_resolution": (50.0, 8.0, 8.0)}, r"\(50, 8, 8\) nm, but .*raw\.h5.* \(50, 4, 4\) nm"),
        (
            {"labels": IDS, "raw_at": (0.0, 4.0, 0.0), "at": (0.0, 8.0, 0.0)},
            r"\(0\.0, 8\.0, 0\.0\) nm, but .*\(0",
        ),
        ({"labels": IDS[:4], "at": (25.0, 0.0, 0.0)}, r"\[0\.5, 0\.0, 0\.0\] voxels are not whole"),
        ({"labels": IDS[:4], "label": {"offset": [3, 0, 0]}}, r"reaches beyond the volume of shape \(6, 8, 10\)"),
        (
            {"labels": np.stack([IDS, IDS]), "label": {"axes": "czyx"}},
            r"2 channels of uint16, but labels and masks have one",
        ),
        ({"raw": VALUES.astype(np.uint32)}, r"dtype uint32.*uint8, int8, uint16, int16, float32"),
        ({"sections": [0, 7]}, r"sections \[0, 7\] are not inside its 6 sections"),
        ({"crop": [[0, 6], [0, 8], [4, 11]]}, r"crop \[4, 11\] are not inside its 10 voxels along x"),
        ({"downsample": [7, 1, 1]}, r"shape \(6, 8, 10\) has no whole voxel left with `downsample: \[7, 1, 1\]`"),
    ],
)
def test_sources_that_do_not_fit_are_refused_with_both_values(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        opened(tmp_path, **settings)


def test_a_voxel_size_of_labels_is_compared_with_the_one_that_counts(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack")
    labels = hdf5(tmp_path / "b.h5", IDS, resolution=(50, 8, 8))
    raw = str(tmp_path / "a.tif")
    open_volume(VolumeConfig(raw=raw, labels=labels, voxel_size_nm=(50, 8, 8)))
    with pytest.raises(SourceError, match=r"b\.h5.*\(50, 8, 8\) nm, but .*a\.tif says \(50, 4, 4\) nm"):
        open_volume(VolumeConfig(raw=raw, labels=labels, voxel_size_nm=(50, 4, 4)))
    sources = open_volume(
        VolumeConfig(raw=raw, labels=labels, voxel_size_nm=(50, 4, 4), voxel_size_from="configuration")
    )
    assert sources.voxel_size_nm == (50, 4, 4)


def test_a_known_size_of_a_pixel_is_compared_with_the_configuration(tmp_path: Path) -> None:
    """Most files of one section know it, and not how thick the section is; this one has the tags of a microscope."""
    metadata = {"axes": "YX", "unit": "nm"}
    for z in range(2):
        values = np.zeros((8, 9), np.uint8)
        tifffile.imwrite(tmp_path / f"{z}.tif", values, imagej=True, metadata=metadata, resolution=(1 / 8, 1 / 8))
    for config, told in (([50, 4, 4], True), ([50, 8, 8], False)):
        remarks = open_volume(VolumeConfig.model_validate({"raw": str(tmp_path), "voxel_size_nm": config})).remarks
        assert [bool(remarks), "pixels of (8, 8) nm by ImageJ's metadata" in "".join(remarks)] == [told, told]
    with pytest.raises(SourceError, match=r"set `voxel_size_nm.*pixels of 8 x 8 nm \(y, x\) by ImageJ's metadata"):
        open_volume(VolumeConfig.model_validate({"raw": str(tmp_path)}))


def test_an_address_of_neuroglancer_is_opened_with_all_that_a_volume_needs(
    tmp_path: Path, s3: S3Server, bucket: str
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((2, 8, 9), np.uint8))
    s3.upload(bucket, {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()})
    volume = {"raw": f"zarr://s3://{bucket}/a.zarr", "mask": f"s3://{bucket}/a.zarr:/", "voxel_size_nm": [50, 4, 4]}
    assert open_volume(VolumeConfig.model_validate(volume)).raw.shape == (2, 8, 9)


def test_labels_of_another_order_of_axes_are_told_the_order(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.zeros((6, 8, 10), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros((8, 10, 6), np.uint16))
    volume = {"raw": f"{tmp_path}/raw.npy", "labels": f"{tmp_path}/labels.npy", "voxel_size_nm": [50, 4, 4]}
    with pytest.raises(
        SourceError, match="stored in another order, write `axes: yxz` at this source; else crop or pad"
    ):
        open_volume(VolumeConfig.model_validate(volume))
    volume["labels"] = {"path": volume["labels"], "axes": "yxz"}
    labels = open_volume(VolumeConfig.model_validate(volume)).labels
    assert labels is not None
    assert labels.shape == (6, 8, 10)


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    tifffile.imwrite(folder / "raw.tif", np.zeros((2, 8, 9), np.uint8), photometric="minisblack")
    address = f"file://{tmp_path}/my%20data/raw.tif"
    assert SourceConfig(path=address).path == f"{folder}/raw.tif"
    assert open_volume(VolumeConfig.model_validate({"raw": address, "voxel_size_nm": [50, 4, 4]})).raw.shape == (
        2,
        8,
        9,
    )


def test_all_that_headers_tell_is_told_at_once(tmp_path: Path) -> None:
    raw, resolution = hdf5(tmp_path / "raw.h5", VALUES.astype(np.uint32)), (50, 4, 4)
    files = {"labels": IDS[:4], "mask": np.stack([IDS, IDS]), "other": IDS[:, :3]}
    addresses = {name: hdf5(tmp_path / f"{name}.h5", values, resolution=resolution) for name, values in files.items()}
    volume = VolumeConfig.model_validate(
        {
            "raw": raw,
            "labels": [addresses["labels"], str(tmp_path / "gone.tif")],
            "mask": {"path": addresses["mask"], "axes": "czyx"},
            "compare": {"peer": addresses["other"]},
            "voxel_size_nm": resolution,
            "sections": [0, 99],
        }
    )
    with pytest.raises(SourceError) as refused:
        open_volume(volume, compared=True)
    first, *lines = str(refused.value).splitlines()
    keys = ["raw", "raw", "labels.1", "labels.0", "mask", "compare.peer"]
    assert first == "6 problems with its files:"
    assert [line.partition(": ")[0] for line in lines] == keys
    assert "dtype uint32 is not supported for intensities" in lines[0]
    assert "sections [0, 99] are not inside its 6 sections" in lines[1]
    with pytest.raises(SourceError, match=r"^\S*labels\.h5.*shape \(4, 8, 10\)"):  # a single one as it is
        opened(tmp_path, labels=IDS[:4])


def test_headers_of_sections_are_told_beside_what_else_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for z in range(5):
        tifffile.imwrite(tmp_path / "raw" / f"s{z}.tif", np.zeros((8, 10 - z % 2), np.uint8))
    settings = {"raw": str(tmp_path / "raw"), "labels": str(tmp_path / "gone.tif"), "voxel_size_nm": (50, 4, 4)}
    with pytest.raises(SourceError) as refused:
        open_volume(VolumeConfig.model_validate(settings))
    assert [part in str(refused.value) for part in ("s1.tif: 8 x 9", "s3.tif: 8 x 9", "gone.tif")] == [True] * 3
    with pytest.raises(SourceError) as refused:  # sections that are not used are not looked at
        open_volume(VolumeConfig.model_validate({**settings, "sections": [2, 5]}))
    assert [part in str(refused.value) for part in ("s1.tif: 8 x 9", "s3.tif: 8 x 9", "gone.tif")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("settings", "used"),
    [({}, np.s_[:]), ({"crop": [[1, 5], [0, 8], [2, 10]]}, np.s_[1:5, :, 2:]), ({"downsample": [1, 2, 2]}, None)],
)
def test_what_is_not_finite_outside_the_mask_reads_as_zero(
    tmp_path: Path, bad: float, settings: dict[str, Any], used: Any
) -> None:
    """And within it is refused, with its place. Coarse voxels are outside where most of their voxels are."""
    raw, mask = VALUES.astype(np.float32) + 1, np.ones(SHAPE, np.uint8)
    mask[:, :, 6:] = 0
    holed = np.where((mask == 0) & (VALUES > 100), np.float32(bad), raw)
    given = {"mask": hdf5(tmp_path / "mask.h5", mask), **settings}
    found = everything(opened(tmp_path, raw=holed, **given).raw)
    if used is None:
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[..., :3], everything(opened(tmp_path, raw=raw, **given).raw)[..., :3])
    else:
        np.testing.assert_array_equal(found, np.where(np.isfinite(holed), holed, 0)[used])
    holed[2, 4, 4] = bad
    with pytest.raises(SourceError, match=r"intensity .* \(z, y, x\) = .* not finite .* `mask`"):
        opened(tmp_path, raw=holed, **given).raw.read(Box((0, 0, 0), found.shape))


def test_without_a_mask_nothing_may_be_missing(tmp_path: Path) -> None:
    raw = np.where(VALUES > 250, np.nan, VALUES).astype(np.float32)
    source = opened(tmp_path, raw=raw).raw
    with pytest.raises(SourceError, match="not finite"):
        source.read(Box.of_shape(SHAPE))
