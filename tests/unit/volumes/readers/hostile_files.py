"""Files that were made by hand to crash, hang or fill the memory of a reader, by what is to become of them."""

import bz2
import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import zarr

from tests.unit.volumes.readers.test_every_format import small, volume
from tests.unit.volumes.readers.test_tiff_descriptions import write_micromanager
from tests.unit.volumes.readers.writers import WRITERS, Stored

SHAPE = (3, 9, 11)
STORED = Stored(voxel_size_nm=(40.0, 5.0, 4.0))


def written(folder: Path, name: str) -> str:
    """The address of a small valid volume."""
    folder.mkdir(parents=True)
    values = volume(small(WRITERS[name]), SHAPE)
    return WRITERS[name].write(folder, values, STORED)


def overwritten(address: str, at: int, content: bytes) -> str:
    """The address, after bytes of its file are replaced."""
    path = Path(address.partition(":/")[0])
    held = path.read_bytes()
    path.write_bytes(held[:at] + content + held[at + len(content) :])
    return address


def replaced(address: str, path: Path, old: str, new: str) -> str:
    """The address, after words of a file are replaced."""
    held = path.read_bytes()
    assert re.search(old.encode(), held), held[:300]
    path.write_bytes(re.sub(old.encode(), new.encode(), held, count=1))
    return address


def nrrd_text(folder: Path, header: str, data: bytes = b"", name: str = "a.nrrd") -> str:
    (folder / name).write_bytes(f"NRRD0004\ntype: uint8\ndimension: 3\n{header}\n\n".encode() + data)
    return str(folder / name)


def hdf5_text(folder: Path, fill: Callable[[h5py.File], Any]) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        fill(file)
    return f"{folder}/a.h5:/raw"


def tiff_cycle(folder: Path) -> str:
    """The offset of the page after the last is that of the first."""
    path = folder / "a.tif"
    tifffile.imwrite(path, volume("uint8", SHAPE), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        first, last = (int(file.pages[i].offset) for i in (0, -1))
    count = int.from_bytes(path.read_bytes()[last : last + 2], "little")
    return overwritten(str(path), last + 2 + 12 * count, first.to_bytes(4, "little"))


def tiff_huge(folder: Path, tag: str, number: int) -> str:
    path = folder / "a.tif"
    tifffile.imwrite(path, volume("uint8", SHAPE), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        at = page.tags[tag].valueoffset
    return overwritten(str(path), at, number.to_bytes(4, "little"))


def zeros_packed(count: int) -> bytes:
    """Return `count` zeros as zlib packs them: the same 16 MB repeated, and the checksum (RFC 1950) of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + piece * (count >> 24) + b"\3\0" + struct.pack(">HH", count % 65521, 1)


def tiff_bomb(folder: Path) -> str:
    """A page of 8 x 8 pixels whose strip inflates to 2 GB."""
    packed = zeros_packed(1 << 31)
    tifffile.imwrite(folder / "a.tif", np.zeros((8, 8), "u1"), compression="zlib", metadata=None)
    with tifffile.TiffFile(folder / "a.tif") as file:
        tags: Any = file.pages[0].tags  # type: ignore[union-attr]
        at, count = tags["StripOffsets"].valueoffset, tags["StripByteCounts"].valueoffset
    path = folder / "a.tif"
    held = bytearray(path.read_bytes())
    held[at : at + 4], held[count : count + 4] = len(held).to_bytes(4, "little"), len(packed).to_bytes(4, "little")
    path.write_bytes(bytes(held) + packed)
    return str(path)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(folder: Path) -> str:
    """A header of 60,000 x 60,000 pixels, with hardly any."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(100_000)))
    (folder / "s0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b""))
    return str(folder)


def nifti_bomb(folder: Path) -> str:
    """A small volume in a stream that goes on with 1 GB of zeros."""
    address = written(folder / "a", "nibabel")
    more = gzip.compress(bytes(1 << 24)) * 64
    (folder / "a.nii.gz").write_bytes(gzip.compress(Path(address).read_bytes()) + more)
    return str(folder / "a.nii.gz")


def nifti_dim(folder: Path, name: str, *dim: int) -> str:
    address = written(folder / "a", name)
    if name != "nibabel, gzip":
        return overwritten(address, 40, struct.pack("<8h", *dim, *[1] * (8 - len(dim))))
    held = bytearray(gzip.decompress(Path(address).read_bytes()))
    held[40 : 40 + 2 * len(dim)] = struct.pack(f"<{len(dim)}h", *dim)
    Path(address).write_bytes(gzip.compress(bytes(held)))
    return address


def json_changed(folder: Path, name: str, file: str, old: str, new: str) -> str:
    address = written(folder / "a", name)
    return replaced(address, folder / "a" / file, old, new)


def zarr_changed(folder: Path, key: str, first: int) -> str:
    """The first of three numbers in the metadata is another one."""
    return json_changed(folder, "zarr, one chunk", "a.zarr/.zarray", rf'"{key}": \[\s*3', f'"{key}": [{first}')


def hdf5_chunk_bomb(file: h5py.File) -> None:
    """One chunk of 1 GB of zeros, deflated to 1 MB."""
    edges = (1, 1 << 15, 1 << 15)
    dataset = file.create_dataset("raw", shape=edges, dtype="u1", chunks=edges, compression="gzip")
    dataset.id.write_direct_chunk((0, 0, 0), zeros_packed(1 << 30))


def folder_cycle(folder: Path) -> str:
    written(folder / "a", "folder of TIFF")
    (folder / "a" / "again").symlink_to(folder / "a")
    return str(folder / "a")


def wkw_cycle(folder: Path) -> str:
    written(folder / "a", "wkw")
    (folder / "a" / "again").symlink_to(folder / "a")
    return str(folder / "a")


def wkw_outside(folder: Path) -> str:
    written(folder / "b", "wkw")
    return written(folder / "a", "wkw").replace(":/", ":/../b/")


def wkw_huge_blocks(folder: Path) -> str:
    """Blocks of 32,768 voxels, 32,768 along each edge of a file."""
    address = written(folder / "a", "wkw")
    overwritten(str(folder / "a" / "color" / "1" / "header.wkw"), 4, b"\xff")
    return address


def link_to_itself(folder: Path) -> str:
    (folder / "a.tif").symlink_to(folder / "a.tif")
    return str(folder / "a.tif")


def hdf5_soft_cycle(file: h5py.File) -> None:
    file["raw"] = h5py.SoftLink("/other")
    file["other"] = h5py.SoftLink("/raw")


def hdf5_group_cycle(file: h5py.File) -> None:
    file.create_group("inside")["again"] = file["/"]
    file["raw"] = file["/inside"]


def escaping_nhdr(folder: Path, name: str) -> str:
    return nrrd_text(folder, f"sizes: 2 2 2\nencoding: raw\ndata file: {name}", name="a.nhdr")


def ndtiff(folder: Path, axes: dict[str, int], name: str) -> str:
    """A file as Micro-Manager writes it, with an index that says where the second of its planes lies."""
    own = folder / "a_NDTiffStack.tif"
    offset = write_micromanager(own, volume("uint8", SHAPE), ndtiff=True)[0] + 162
    with (folder / "NDTiff.index").open("wb") as file:
        for place, of in (({"z": -1}, own.name), (axes, name)):
            words = (json.dumps(place).encode(), of.encode())
            file.write(b"".join(struct.pack("<I", len(word)) + word for word in words))
            file.write(struct.pack("<8i", offset, SHAPE[2], SHAPE[1], 0, 0, offset, 2, 0))
    return str(own)


def ome_of_entities(folder: Path) -> str:
    """OME-XML of ten entities, each ten of the one before."""
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "0123456789">{entities}]><OME>&a9;</OME>'
    tifffile.imwrite(
        folder / "a.ome.tif", volume("uint8", SHAPE), photometric="minisblack", description=text, metadata=None
    )
    return str(folder / "a.ome.tif")


def hdf5_bytes_of(folder: Path, name: str) -> str:
    return hdf5_text(folder, lambda f: f.create_dataset("raw", shape=(8, 9, 9), dtype="u1", external=[(name, 0, 648)]))


def hdf5_links_in_a_circle(folder: Path) -> str:
    with h5py.File(folder / "b.h5", "w") as file:
        file["raw"] = h5py.ExternalLink("a.h5", "/raw")
    return hdf5_text(folder, lambda f: f.__setitem__("raw", h5py.ExternalLink("b.h5", "/raw")))


def zarr_level(folder: Path, path: str) -> str:
    """An image of OME-Zarr whose level is that of another store."""
    zarr.create_array(folder / "other.zarr", data=volume("uint8", SHAPE), zarr_format=2)
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    level = {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    return str(folder / "a.zarr")


def n5_outside(folder: Path) -> str:
    written(folder / "b", "tensorstore, N5")
    return f"{written(folder / 'a', 'tensorstore, N5')}:/../../b/a.n5"


def linked_to_itself(folder: Path, name: str, inside: str) -> str:
    """A volume with links in its folder that lead to it."""
    address = written(folder / "a", name)
    for link in ("one", "two"):
        (folder / "a" / inside / link).symlink_to(folder / "a" / inside)
    return address


def zarr_with_links_to_itself(folder: Path) -> str:
    return linked_to_itself(folder, "zarr, one chunk", "a.zarr")


HUGE = 10**12
REFUSED: dict[str, Callable[[Path], str]] = {
    "HDF5, huge, of which nothing is written": lambda d: hdf5_text(
        d, lambda f: f.create_dataset("raw", shape=(HUGE, HUGE // 1000, 64), dtype="u1", chunks=(1, 64, 64))
    ),
    "NRRD, huge sizes": lambda d: nrrd_text(d, "sizes: 1000000000 1000000000 1000000000\nencoding: raw", bytes(64)),
    "NRRD, huge sizes, gzip": lambda d: nrrd_text(d, f"sizes: {HUGE} 9 9\nencoding: gzip", gzip.compress(bytes(999))),
    "NRRD, huge sizes, bzip2": lambda d: nrrd_text(d, f"sizes: {HUGE} 9 9\nencoding: bz2", bz2.compress(bytes(999))),
    "NRRD, negative size": lambda d: nrrd_text(d, "sizes: -2 -2 2\nencoding: raw", bytes(64)),
    "NRRD, size 0": lambda d: nrrd_text(d, "sizes: 0 2 2\nencoding: raw", bytes(64)),
    "NRRD, negative skip": lambda d: nrrd_text(d, "sizes: 2 2 2\nencoding: raw\nbyte skip: -99", bytes(64)),
    "NRRD, huge skip": lambda d: nrrd_text(d, f"sizes: 2 2 2\nencoding: raw\nbyte skip: {HUGE}", bytes(64)),
    "NRRD, no end of the header": lambda d: nrrd_text(d, "sizes: 2 2 2\nencoding: raw\n#" + "x" * (2 << 20)),
    "NRRD, another folder": lambda d: escaping_nhdr(d, "../../etc/passwd"),
    "NRRD, absolute path": lambda d: escaping_nhdr(d, "/etc/passwd"),
    "NRRD, a device": lambda d: escaping_nhdr(d, "/dev/zero"),
    "NRRD, a list of files": lambda d: escaping_nhdr(d, "LIST"),
    "NIfTI, huge": lambda d: nifti_dim(d, "nibabel", 3, 32767, 32767, 32767),
    "NIfTI, huge, gzip": lambda d: nifti_dim(d, "nibabel, gzip", 3, 32767, 32767, 32767),
    "NIfTI, negative": lambda d: nifti_dim(d, "nibabel", 3, -9, -9, 3),
    "NIfTI, 99 axes": lambda d: nifti_dim(d, "nibabel", 99, 9, 9, 3),
    "NIfTI, 0 voxels": lambda d: nifti_dim(d, "nibabel", 3, 0, 9, 3),
    "KNOSSOS, negative": lambda d: json_changed(d, "KNOSSOS", "knossos.conf", "boundary x 11", "boundary x -11"),
    "KNOSSOS, infinite": lambda d: json_changed(d, "KNOSSOS", "knossos.conf", "boundary x 11", "boundary x inf"),
    "KNOSSOS, outside": lambda d: f"{written(d / 'a', 'KNOSSOS')}:/../a/mag1/..",
    "wkw, negative": lambda d: json_changed(d, "wkw", "datasource-properties.json", '"width": 11', '"width": -11'),
    "wkw, too long a width": lambda d: json_changed(
        d, "wkw", "datasource-properties.json", '"width": 11', f'"width": {"9" * 400}'
    ),
    "wkw, text": lambda d: json_changed(d, "wkw", "datasource-properties.json", '"width": 11', '"width": "x"'),
    "wkw, outside": wkw_outside,
    "wkw, huge blocks": wkw_huge_blocks,
    "DM3, huge": lambda d: replaced(w := written(d / "a", "DM3"), Path(w), r"\x0b\0\0\0", "\xff\xff\xff\x7f"),
    "MRC, huge": lambda d: overwritten(written(d / "a", "mrcfile"), 0, struct.pack("<3i", *[2**31 - 1] * 3)),
    "MRC, negative": lambda d: overwritten(written(d / "a", "mrcfile"), 0, struct.pack("<3i", -11, -9, 3)),
    "TIFF, huge width": lambda d: tiff_huge(d, "ImageWidth", 2**31 - 1),
    "TIFF, huge length": lambda d: tiff_huge(d, "ImageLength", 2**32 - 1),
    "TIFF, a cycle of pages": tiff_cycle,
    "TIFF, link to itself": link_to_itself,
    "TIFF, NDTiff of another folder": lambda d: ndtiff(d, {"z": 0}, "../other/a.tif"),
    "TIFF, NDTiff of 10**12 planes": lambda d: ndtiff(d, {"z": 10**12}, "a_NDTiffStack.tif"),
    "TIFF, OME with entities of entities": ome_of_entities,
    "PNG, huge": png_bomb,
    "HDF5, soft links in a circle": lambda d: hdf5_text(d, hdf5_soft_cycle),
    "HDF5, bytes of another folder": lambda d: hdf5_bytes_of(d, "/etc/passwd"),
    "HDF5, bytes of a device": lambda d: hdf5_bytes_of(d, "../../../../../../../../dev/zero"),
    "HDF5, links between files in a circle": hdf5_links_in_a_circle,
    "HDF5, groups in a circle": lambda d: hdf5_text(d, hdf5_group_cycle),
    "HDF5, 30 axes of length 0": lambda d: hdf5_text(d, lambda f: f.create_dataset("raw", shape=(0,) * 30, dtype="u1")),
    "Zarr, a level in another folder": lambda d: zarr_level(d, "../other.zarr"),
    "Zarr, a level of an absolute path": lambda d: zarr_level(d, f"{d}/other.zarr"),
    "Zarr, outside": lambda d: f"{zarr_level(d, '0')}:/../other.zarr",
    "N5, outside": n5_outside,
    "precomputed, a scale in another folder": lambda d: json_changed(
        d, "tensorstore, precomputed", "em/info", r'"key":"', '"key":"../a/'
    ),
    "precomputed, 1e308": lambda d: json_changed(
        d, "tensorstore, precomputed", "em/info", r'"size":\[11', '"size":[1e308'
    ),
    "Zarr, negative": lambda d: zarr_changed(d, "shape", -3),
    "Zarr, chunks of nothing": lambda d: zarr_changed(d, "chunks", 0),
    "Zarr, huge chunks": lambda d: zarr_changed(d, "chunks", HUGE),
    "Zarr, chunks of 2**64": lambda d: zarr_changed(d, "chunks", 2**64 - 1),
}
"""Files that are refused."""
READ: dict[str, Callable[[Path], str]] = {
    "NIfTI, a stream that goes on": nifti_bomb,
    "KNOSSOS, huge": lambda d: json_changed(d, "KNOSSOS", "knossos.conf", "boundary x 11", f"boundary x {10**11}"),
    "wkw, huge": lambda d: json_changed(d, "wkw", "datasource-properties.json", '"width": 11', f'"width": {2**31}'),
    "folder with a link to itself": folder_cycle,
    "wkw with a link to itself": wkw_cycle,
    "Zarr with links to itself": zarr_with_links_to_itself,
    "N5 with links to itself": lambda d: linked_to_itself(d, "tensorstore, N5", "a.n5"),
    "precomputed, huge": lambda d: json_changed(
        d, "tensorstore, precomputed", "em/info", r'"size":\[11', f'"size":[{2**61}'
    ),
    "Zarr, 2**64": lambda d: zarr_changed(d, "shape", 2**64 - 1),
    "Zarr, huge": lambda d: zarr_changed(d, "shape", HUGE),
}
"""Files that are read: what they say is allowed, and costs nothing."""
EITHER: dict[str, Callable[[Path], str]] = {
    "MRC, huge extended header": lambda d: overwritten(written(d / "a", "mrcfile"), 92, struct.pack("<i", 2**31 - 1)),
    "MRC, negative extended header": lambda d: overwritten(written(d / "a", "mrcfile"), 92, struct.pack("<i", -500)),
    "TIFF, a strip that inflates to 2 GB": tiff_bomb,
    "HDF5, a chunk that inflates to 1 GB": lambda d: hdf5_text(d, hdf5_chunk_bomb),
}
"""Files of which a part alone exceeds the memory: refused or read, but not decoded blindly."""
