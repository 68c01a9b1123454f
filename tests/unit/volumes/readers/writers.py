"""A table of writers: what each writes with a given volume, for the tests that every reader passes.

A new format needs one function `write(folder, values, Stored)`, and one row of `WRITERS`.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import mrcfile
import numpy as np
import tifffile
import zarr

from tests.unit.volumes.readers.dm_files import dm_file

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
ALL = (*INTEGERS, "float32")
IMAGEJ = ("uint8", "uint16", "float32")
OME = (*INTEGERS[:6], "float32")
PERMUTATIONS = ("zyx", "zxy", "yzx", "yxz", "xzy", "xyz")


@dataclass(frozen=True)
class Stored:
    """Storage of a volume, beside its values."""

    voxel_size_nm: tuple[float, float, float] | None = None
    offset_nm: tuple[float, float, float] | None = None
    axes: str = "zyx"
    byteorder: str = "<"

    def arranged(self, values: np.ndarray, c_contiguous: bool = True) -> np.ndarray:
        """The values `(z, y, x)` with their axes and bytes in the order in which they are stored."""
        moved = values.transpose(["zyx".index(axis) for axis in self.axes]).astype(
            values.dtype.newbyteorder(self.byteorder)
        )
        return np.ascontiguousarray(moved) if c_contiguous else moved

    def by_axis(self, values: tuple[float, ...] | None) -> list[float]:
        """Numbers `(z, y, x)` in the order of the stored axes."""
        assert values is not None
        return [values["zyx".index(axis)] for axis in self.axes]


Write = Callable[[Path, np.ndarray, Stored], str]


@dataclass(frozen=True)
class Writer:
    """One writer of a format, and what it can store.

    Attributes
    ----------
    format : str
        Name of the reader's `Format`.
    write : callable
        Writes a volume into an empty folder, and returns the address of the source.
    axes : tuple of str
        Orders of axes that the file names. The first is the usual one.
    names_axes : bool
        Whether the file says which axis is which, so that one of length 1 is not taken for another.
    overrules : str or None
        `axes` of the user that turn the usual order around; None where the format has no array with axes.
    unread : dict
        By the name of a test, why today's reader does not pass it.
    """

    format: str
    write: Write
    dtypes: tuple[str, ...] = ALL
    axes: tuple[str, ...] = ("zyx",)
    big_endian: bool = False
    voxel_size: bool = True
    offset: bool = False
    overrules: str | None = "xyz"
    names_axes: bool = True
    unread: dict[str, str] = field(default_factory=dict)


def tiff(folder: Path, values: np.ndarray, stored: Stored) -> str:
    tifffile.imwrite(folder / "a.tif", values, photometric="minisblack", byteorder=stored.byteorder)  # type: ignore[arg-type]
    return str(folder / "a.tif")


def tiff_compressed(folder: Path, values: np.ndarray, stored: Stored) -> str:
    options: Any = {"compression": "zlib", "tile": (16, 16), "byteorder": stored.byteorder, "photometric": "minisblack"}
    tifffile.imwrite(folder / "a.tif", values, **options)
    return str(folder / "a.tif")


def tiff_imagej(folder: Path, values: np.ndarray, stored: Stored) -> str:
    z, y, x = stored.voxel_size_nm or (1.0, 1.0, 1.0)
    metadata = {"axes": "ZYX", "spacing": z, "unit": "nm"} if stored.voxel_size_nm else {"axes": "ZYX"}
    tifffile.imwrite(folder / "a.tif", values, imagej=True, metadata=metadata, resolution=(1 / x, 1 / y))
    return str(folder / "a.tif")


def tiff_ome(folder: Path, values: np.ndarray, stored: Stored) -> str:
    sizes = dict(zip("ZYX", stored.voxel_size_nm or (), strict=False))
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in sizes}
    metadata = {"axes": "ZYX", **{f"PhysicalSize{axis}": nm for axis, nm in sizes.items()}, **units}
    tifffile.imwrite(folder / "a.ome.tif", values, metadata=metadata, photometric="minisblack")
    return str(folder / "a.ome.tif")


def tiff_folder(folder: Path, values: np.ndarray, stored: Stored) -> str:
    for z, section in enumerate(values):
        tifffile.imwrite(folder / f"s{z:03d}.tif", section, photometric="minisblack")
    return str(folder)


def png_folder(folder: Path, values: np.ndarray, stored: Stored) -> str:
    for z, section in enumerate(values):
        (folder / f"s{z:03d}.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(section)))
    return str(folder)


def hdf5(folder: Path, values: np.ndarray, stored: Stored, **options: Any) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        dataset = file.create_dataset("volumes/raw", data=stored.arranged(values), **options)
        if stored.voxel_size_nm is not None:
            dataset.attrs["resolution"] = stored.voxel_size_nm
        if stored.offset_nm is not None:
            dataset.attrs["offset"] = stored.offset_nm
    return f"{folder}/a.h5:/volumes/raw"


def hdf5_chunks(folder: Path, values: np.ndarray, stored: Stored) -> str:
    chunks = tuple(min(n, edge) for n, edge in zip(values.shape, (2, 16, 16), strict=True))
    return hdf5(folder, values, stored, chunks=chunks, compression="gzip", fletcher32=True)


def mrc(folder: Path, values: np.ndarray, stored: Stored) -> str:
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(stored.arranged(values))
        maps, mapr, mapc = ("_xyz".index(axis) for axis in stored.axes)
        file.header.mapc, file.header.mapr, file.header.maps = mapc, mapr, maps
        z, y, x = values.shape
        file.header.mz, file.header.my, file.header.mx = z, y, x
        if stored.voxel_size_nm is not None:
            file.header.cella = tuple(nm * 10 * n for nm, n in zip(stored.voxel_size_nm[::-1], (x, y, z), strict=True))
    return str(folder / "a.mrc")


def ome_zarr(folder: Path, values: np.ndarray, stored: Stored, version: int) -> str:
    chunks = tuple(min(n, edge) for n, edge in zip(values.shape, (2, 16, 16), strict=True))
    group = zarr.open_group(str(folder / "a.zarr"), mode="w", zarr_format=version)  # type: ignore[arg-type]
    options: Any = {"dimension_names": list(stored.axes)} if version == 3 else {}
    given = stored.arranged(values)
    array = group.create_array("0", shape=given.shape, dtype=given.dtype, chunks=chunks, **options)
    array[...] = given
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in stored.axes]
    steps: list[Any] = [{"type": "scale", "scale": list(stored.voxel_size_nm or (1.0, 1.0, 1.0))}]
    if stored.offset_nm is not None:
        steps.append({"type": "translation", "translation": list(stored.offset_nm)})
    multiscales = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}]
    attributes: Any = {"multiscales": multiscales}
    group.attrs.update(attributes if version == 2 else {"ome": {"version": "0.5", **attributes}})
    return str(folder / "a.zarr")


def zarr_array(folder: Path, values: np.ndarray, stored: Stored) -> str:
    zarr.create_array(str(folder / "a.zarr"), data=stored.arranged(values), chunks=values.shape, zarr_format=2)
    return str(folder / "a.zarr")


def nrrd(folder: Path, values: np.ndarray, stored: Stored, name: str = "a.nrrd", **options: Any) -> str:
    """The directions say of each axis, the fastest first, along which axis of space it runs."""
    import nrrd

    steps = np.diag([1.0, 1.0, 1.0]) if stored.voxel_size_nm is None else np.diag(stored.voxel_size_nm[::-1])
    header = {"space dimension": 3, "space directions": np.array([steps["xyz".index(a)] for a in stored.axes[::-1]])}
    if stored.voxel_size_nm is not None:
        header["space units"] = ["nm", "nm", "nm"]
    if stored.offset_nm is not None:
        header["space origin"] = np.array(stored.offset_nm[::-1])
    given = stored.arranged(values).T  # pynrrd takes the fastest axis first
    nrrd.write(str(folder / name), given, header | {"encoding": "raw"} | options, index_order="F")
    return str(folder / name)


def nrrd_files(folder: Path, values: np.ndarray, stored: Stored, listed: bool = False) -> str:
    """A detached header of pynrrd, whose voxels are put into a file each slice of the slowest axis."""
    path = Path(nrrd(folder, values, stored, name="a.nhdr"))
    whole, slices = (folder / "a.raw").read_bytes(), stored.arranged(values).shape[0]
    (folder / "a.raw").unlink()
    size = len(whole) // slices
    for k in range(slices):
        (folder / f"s{k:02d}.raw").write_bytes(whole[k * size : (k + 1) * size])
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith("data file:")]
    names = [f"s{k:02d}.raw" for k in range(slices)] if listed else []
    last = "data file: LIST" if listed else f"data file: s%02d.raw 0 {slices - 1} 1"
    path.write_text("\n".join([*kept, last, *names, ""]))
    return str(path)


def nifti(folder: Path, values: np.ndarray, stored: Stored, name: str = "a.nii", kind: str = "Nifti1") -> str:
    import nibabel

    header = getattr(nibabel, f"{kind.removesuffix('Pair')}Header")(endianness=stored.byteorder)
    header.set_data_dtype(values.dtype)
    affine = np.diag([*(nm / 1e3 for nm in (stored.voxel_size_nm or (1e3, 1e3, 1e3))[::-1]), 1.0])
    affine = affine[:, [*("xyz".index(axis) for axis in stored.axes[::-1]), 3]]
    if stored.offset_nm is not None:
        affine[:3, 3] = [nm / 1e3 for nm in stored.offset_nm[::-1]]
    given = stored.arranged(values).T  # the fastest axis first
    image = getattr(nibabel, kind if kind.endswith("Pair") else f"{kind}Image")(given, affine, header)
    image.header.set_xyzt_units("micron" if stored.voxel_size_nm else "unknown")
    nibabel.save(image, str(folder / name))
    return str(folder / name)


def npy(folder: Path, values: np.ndarray, stored: Stored, fortran: bool = False) -> str:
    given = stored.arranged(values)
    np.save(folder / "a.npy", np.asfortranarray(given) if fortran else given)
    return str(folder / "a.npy")


def dm(folder: Path, values: np.ndarray, stored: Stored, version: int) -> str:
    path = folder / f"a.dm{version}"
    path.write_bytes(dm_file(values, stored.voxel_size_nm, version))
    return str(path)


def wkw(folder: Path, values: np.ndarray, stored: Stored, block_type: int) -> str:
    import wkw

    low = [n // 4 for n in (stored.offset_nm or (0, 0, 0))[::-1]] if stored.offset_nm else [0, 0, 0]
    if stored.offset_nm is not None:
        assert stored.voxel_size_nm is not None
        places = zip(stored.offset_nm[::-1], stored.voxel_size_nm[::-1], strict=True)
        low = [round(nm / edge) for nm, edge in places]
    header = wkw.Header(values.dtype.type, block_len=8, file_len=4, block_type=block_type)
    padded = np.zeros([-(-(a + n) // 32) * 32 for a, n in zip(low, values.shape[::-1], strict=True)], values.dtype)
    padded[tuple(slice(a, a + n) for a, n in zip(low, values.shape[::-1], strict=True))] = values.T
    folder.joinpath("color").mkdir(parents=True)
    with wkw.Dataset.create(str(folder / "color" / "1"), header) as dataset:
        dataset.write((0, 0, 0), np.asfortranarray(padded))
    box = {"topLeft": [int(a) for a in low], **dict(zip(("depth", "height", "width"), values.shape, strict=True))}
    properties: dict[str, Any] = {"dataLayers": [{"name": "color", "boundingBox": box}]}
    if stored.voxel_size_nm is not None:
        properties["scale"] = {"factor": list(stored.voxel_size_nm[::-1]), "unit": "nanometer"}
    (folder / "datasource-properties.json").write_text(json.dumps(properties))
    return f"{folder}:/color/1"


def knossos(folder: Path, values: np.ndarray, stored: Stored) -> str:
    padded = np.zeros([-(-n // 128) * 128 for n in values.shape], values.dtype)
    padded[tuple(slice(n) for n in values.shape)] = values
    for z, y, x in np.ndindex(*(n // 128 for n in padded.shape)):
        cube = folder / "mag1" / f"x{x:04d}" / f"y{y:04d}" / f"z{z:04d}"
        cube.mkdir(parents=True)
        box = tuple(slice(128 * i, 128 * i + 128) for i in (z, y, x))
        padded[box].astype(values.dtype.newbyteorder("<")).tofile(cube / f"test_mag1_x{x:04d}_y{y:04d}_z{z:04d}.raw")
    lines = ['experiment name "test";', *(f"boundary {a} {n};" for a, n in zip("xyz", values.shape[::-1], strict=True))]
    lines += [f"scale {a} {nm};" for a, nm in zip("xyz", (stored.voxel_size_nm or ())[::-1], strict=False)]
    (folder / "knossos.conf").write_text("\n".join([*lines, "magnification 1;", ""]))
    return str(folder)


def n5(folder: Path, values: np.ndarray, stored: Stored) -> str:
    import tensorstore

    metadata = {"compression": {"type": "gzip"}, "dataType": values.dtype.name, "dimensions": list(values.shape[::-1])}
    where = {"driver": "file", "path": f"{folder}/a.n5"}
    spec = {"driver": "n5", "kvstore": where, "metadata": {**metadata, "blockSize": [16, 16, 2]}}
    tensorstore.open(spec, create=True).result().write(values.transpose()).result()
    if stored.voxel_size_nm is not None:
        file = folder / "a.n5" / "attributes.json"
        size = {"unit": "nm", "dimensions": list(stored.voxel_size_nm[::-1])}
        file.write_text(json.dumps({**json.loads(file.read_text()), "pixelResolution": size}))
    return f"{folder}/a.n5"


def ser_file(values: np.ndarray, version: int = 0x220, tag: int = 0x4152, edge_m: float = 4e-9) -> bytes:
    """A series of TIA, of which the rows of an image begin at the bottom; version 0x220 has offsets of 8 bytes."""
    number = ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8", "c8"].index(values.dtype.str[1:]) + 1
    words, n = (b"Number", b""), len(values)
    dimension = struct.pack("<iddi", n, 0.0, 1.0, 0) + b"".join(struct.pack("<i", len(w)) + w for w in words)
    width = "<q" if version == 0x220 else "<i"
    begin = 3 * 2 + 4 * 4 + struct.calcsize(width) + 4
    offsets_at = begin + len(dimension)
    body, places = b"", []
    for image in values:
        places.append(offsets_at + 2 * n * struct.calcsize(width) + len(body))
        body += struct.pack("<ddiddihii", 0, edge_m, 0, 0, edge_m, 0, number, image.shape[1], image.shape[0])
        body += image[::-1].astype(values.dtype.newbyteorder("<")).tobytes()
    head = struct.pack("<HHHiiii", 0x4949, 0x0197, version, 0x4122, tag, n, n) + struct.pack(width, offsets_at)
    return head + struct.pack("<i", 1) + dimension + b"".join(struct.pack(width, at) for at in 2 * places) + body


def ser(folder: Path, values: np.ndarray, stored: Stored, version: int) -> str:
    (folder / "a.ser").write_bytes(ser_file(values, version))
    return f"{folder}/a.ser"


def precomputed(folder: Path, values: np.ndarray, stored: Stored) -> str:
    import tensorstore

    edges = (stored.voxel_size_nm or (1.0, 1.0, 1.0))[::-1]
    begin = [round(nm / edge) for nm, edge in zip((stored.offset_nm or (0.0, 0.0, 0.0))[::-1], edges, strict=True)]
    scale = {"size": list(values.shape[::-1]), "resolution": list(edges), "voxel_offset": begin, "encoding": "raw"}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/em"},
        "multiscale_metadata": {"type": "image", "data_type": values.dtype.name, "num_channels": 1},
        "scale_metadata": {**scale, "chunk_size": [16, 16, 2]},
    }
    tensorstore.open(spec, create=True).result().write(values.transpose()[..., None]).result()
    return f"{folder}/em"


def keyed(write: Callable[..., str], **options: Any) -> Write:
    """A writer with some options."""
    return lambda folder, values, stored: write(folder, values, stored, **options)


UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
DM_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
NIFTI: dict[str, Any] = {"axes": PERMUTATIONS, "big_endian": True, "offset": True, "overrules": "zyx"}
WRITERS: dict[str, Writer] = {
    "tifffile": Writer("TIFF", tiff, big_endian=True, voxel_size=False, names_axes=False),
    "tifffile, compressed tiles": Writer("TIFF", tiff_compressed, big_endian=True, voxel_size=False, names_axes=False),
    "tifffile, ImageJ": Writer("TIFF", tiff_imagej, IMAGEJ, names_axes=False),
    "tifffile, OME": Writer("TIFF", tiff_ome, OME, names_axes=False),
    "folder of TIFF": Writer("Folder of sections, PNG, JPEG", tiff_folder, voxel_size=False, overrules=None),
    "folder of PNG": Writer(
        "Folder of sections, PNG, JPEG", png_folder, ("uint8", "uint16"), voxel_size=False, overrules=None
    ),
    "h5py": Writer("HDF5", hdf5, big_endian=True, names_axes=False, offset=True),
    "h5py, chunks": Writer("HDF5", hdf5_chunks, big_endian=True, names_axes=False, offset=True),
    "mrcfile": Writer("MRC", mrc, ("int8", "int16", "uint16", "float32"), PERMUTATIONS),
    "zarr, OME-Zarr 0.4": Writer("Zarr and OME-Zarr", keyed(ome_zarr, version=2), big_endian=True, offset=True),
    "zarr, OME-Zarr 0.5": Writer("Zarr and OME-Zarr", keyed(ome_zarr, version=3), offset=True),
    "zarr, one chunk": Writer("Zarr and OME-Zarr", zarr_array, big_endian=True, names_axes=False, voxel_size=False),
    "tensorstore, N5": Writer("N5", n5, names_axes=False, overrules="zyx"),
    "tensorstore, precomputed": Writer("neuroglancer precomputed", precomputed, UNSIGNED, offset=True, overrules="zyx"),
    "pynrrd": Writer("NRRD", nrrd, axes=PERMUTATIONS, big_endian=True, offset=True, overrules="zyx"),
    "pynrrd, gzip": Writer(
        "NRRD", keyed(nrrd, encoding="gzip"), axes=PERMUTATIONS, big_endian=True, offset=True, overrules="zyx"
    ),
    "pynrrd, bzip2": Writer("NRRD", keyed(nrrd, encoding="bzip2"), offset=True, overrules="zyx"),
    "pynrrd, detached": Writer("NRRD", keyed(nrrd, name="a.nhdr"), big_endian=True, offset=True, overrules="zyx"),
    "pynrrd, numbered files": Writer(
        "NRRD", nrrd_files, axes=PERMUTATIONS, big_endian=True, offset=True, overrules="zyx"
    ),
    "pynrrd, listed files": Writer("NRRD", keyed(nrrd_files, listed=True), offset=True, overrules="zyx"),
    "nibabel": Writer("NIfTI", nifti, **NIFTI),
    "nibabel, NIfTI-2": Writer("NIfTI", keyed(nifti, kind="Nifti2"), **NIFTI),
    "nibabel, gzip": Writer("NIfTI", keyed(nifti, name="a.nii.gz"), **NIFTI),
    "nibabel, a pair": Writer(
        "NIfTI", keyed(nifti, name="a.img", kind="Nifti1Pair"), ("uint16", "float32"), offset=True, overrules="zyx"
    ),
    "numpy": Writer("NumPy", npy, big_endian=True, voxel_size=False, names_axes=False, overrules="xyz"),
    "numpy, Fortran": Writer(
        "NumPy", keyed(npy, fortran=True), ("uint16",), voxel_size=False, names_axes=False, overrules="xyz"
    ),
    "DM3": Writer("DM3 and DM4", keyed(dm, version=3), DM_DTYPES),
    "DM4": Writer("DM3 and DM4", keyed(dm, version=4), DM_DTYPES),
    "SER": Writer("TIA SER", keyed(ser, version=0x220), DM_DTYPES, voxel_size=False),
    "SER, old": Writer("TIA SER", keyed(ser, version=0x210), ("int16",), voxel_size=False),
    "wkw": Writer("WEBKNOSSOS wkw", keyed(wkw, block_type=1), offset=True, overrules="zyx"),
    "wkw, LZ4": Writer("WEBKNOSSOS wkw", keyed(wkw, block_type=2), offset=True, overrules="zyx"),
    "KNOSSOS": Writer("KNOSSOS", knossos, ("uint8",), overrules="zyx"),
}
"""All writers by their names."""
