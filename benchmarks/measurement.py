"""Objects, contacts, meshes and skeletons of any segmentation, by the rules' scripts, and what they cost per voxel.

    OMP_NUM_THREADS=1 python benchmarks/measurement.py                    # objects of 134 million voxels
    OMP_NUM_THREADS=1 python benchmarks/measurement.py --voxel-size 10 10 10 \
        --segmentation ../shared/data/fib25/validation.h5:/volumes/peers/ffn --only objects,meshes,skeletons

One run with one thread. The generated volume is a piece of cells around random points, repeated with ids of its own.
A segmentation of others may have any format that a volume may have. Its ids are numbered from 1, because the tables of
the workflow are; the probability is 1 everywhere. Seconds are those of the processor, and by the clock. What tables of
a billion voxels would take follows from the rate per voxel, since a block costs the same among many. Meshes and
skeletons cost by the object.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from segmentation import cells
from starter import script

from unet.config.meshes import MeshesConfig, SkeletonsConfig
from unet.config.objects import ObjectsConfig
from unet.config.segment import SegmentConfig
from unet.config.source import SourceConfig
from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.block_ranges import block_range_names
from unet.geometry.box import Box
from unet.segmentation.merge_table import ObjectTable, save_merge_table
from unet.storage.files import write_json
from unet.volumes.readers.open import open_source
from unet.volumes.volume import Volume

PIECE = (32, 256, 256)
GIGAVOXEL = 10**9
ROOT = Path(__file__).parents[1]


def repeated(depth: int, side: int) -> np.ndarray:
    """Return cells in pieces of `PIECE`, each with ids of its own, (z, y, x) uint32."""
    piece = cells(PIECE[0], PIECE[1])
    found = np.empty((depth, side, side), np.uint32)
    for number, index in enumerate(np.ndindex(*(-(-n // p) for n, p in zip(found.shape, PIECE, strict=True)))):
        part = found[tuple(slice(i * p, (i + 1) * p) for i, p in zip(index, PIECE, strict=True))]
        part[:] = piece[tuple(slice(n) for n in part.shape)] + number * int(piece.max())
    return found


def given(address: str) -> np.ndarray:
    """Return the ids of a file, numbered from 1; 0 stays."""
    source = open_source(SourceConfig(path=address))
    ids = source.read(Box.of_shape(source.shape))
    known, numbered = np.unique(ids, return_inverse=True)
    return numbered.reshape(ids.shape).astype(np.uint32) + np.uint32(known[0] != 0)


def stored(folder: Path, ids: np.ndarray, voxel_size_nm: list[float]) -> Volume:
    """Write and return the volume as the workflow has it after `relabel`, in its default chunks and blocks."""
    storage = StorageConfig()
    layout: dict[str, Any] = {
        "shape": ids.shape,
        "dtype": "uint8",
        "voxel_size_nm": voxel_size_nm,
        "offset_nm": [0.0, 0.0, 0.0],
    }
    layout |= {"chunk": storage.chunk, "block": storage.block, "labels_dtype": None, "masked": False}
    write_json(folder / "survey.json", {"layout": layout})
    volume = Volume.open(folder / "volume", folder / "survey.json")
    found = volume.create("segmentation", "uint32", kind="label")
    probability = volume.create("probability", "uint8", channels=["interior"])
    for box in volume.layout.grid.boxes():
        found.write_block(box, ids[box.slices])
        probability.write_block(box, np.full((1, *box.shape), 255, np.uint8))
    sizes = np.bincount(ids.ravel())[1:]
    table = ObjectTable(np.zeros(0, np.uint32), np.arange(len(sizes)), sizes, np.ones(len(sizes), np.uint8))
    save_merge_table(volume.merge_table("segmentation"), np.zeros(1, np.int64), 1, len(sizes), [table])
    write_json(folder / "merge" / "all.json", {"rule": "merge", "digest": "1"})
    return volume


def rules_of(folder: Path, volume: Volume, formats: list[str]) -> dict[str, Callable[[], None]]:
    """Return what makes each product, by the name of its rule."""
    [block_range] = block_range_names(volume.layout.grid, volume.layout.shape[0] * 10**9)
    survey, meshes = folder / "survey.json", MeshesConfig(formats=formats)
    own = {"survey": survey, "folder": volume.folder, "block_range": block_range, "code": "one"}
    every = {"surveys": [survey], "folders": [volume.folder]}
    config = VolumeConfig(raw="raw.tif")

    def receipt(rule: str) -> Path:
        return folder / rule / "all.json"

    def table(rule: str) -> dict[str, Any]:
        return {"receipts": [receipt(rule)], "tables": [volume.folder / f"{rule}.csv"], "code": "one"}

    page = {"report": folder / "report.html", "template": ROOT / "workflow" / "report" / "meshes.html.j2"}
    solid = {**every, "merged": [folder / "merge" / "all.json"]}
    counted = {"segment": SegmentConfig(), "has_labels": False}
    listed = {"volumes": [config], "classes": [None], "objects": ObjectsConfig()}
    return {
        "measure": lambda: script("measure")(receipt=receipt("measure"), **counted, **own),
        "objects": lambda: script("objects")(receipts=[receipt("objects")], **listed, **every),
        "surface_faces": lambda: script("surface_faces")(receipt=receipt("surface_faces"), meshes=meshes, **own),
        "meshes": lambda: script("meshes")(**table("meshes"), meshes=meshes, **page, **solid),
        "skeletons": lambda: script("skeletons")(**table("skeletons"), skeletons=SkeletonsConfig(), **solid),
    }


def in_short(volume: Volume) -> dict[str, float]:
    """Return what the tables hold, in short."""
    tables = {path.stem: list(csv.DictReader(path.open())) for path in volume.folder.glob("*.csv")}
    found: dict[str, float] = {name: len(rows) for name, rows in tables.items()}
    summed = {"contacts": "area_um2", "meshes": "triangles", "skeletons": "length_um"}
    found |= {f"{name}: {key}": sum(float(r[key]) for r in tables.get(name, ())) for name, key in summed.items()}
    return found


def main() -> None:
    """Make what is asked for, print a row per rule, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmentation", help="a file as volumes.<name>.raw names it; else a generated volume")
    parser.add_argument("--voxel-size", type=float, nargs=3, default=[10.0, 10.0, 10.0], help="nm along z, y, x")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--only", default="objects", help="of objects, meshes, skeletons")
    parser.add_argument("--formats", default="ply,neuroglancer", help="of the meshes")
    asked = parser.parse_args()
    products = asked.only.split(",")
    first = {"objects": ["measure"], "skeletons": [] if "objects" in products else ["measure"]}
    wanted = [rule for one in products for rule in (*first.get(one, ["surface_faces"]), one)]
    ids = given(asked.segmentation) if asked.segmentation else repeated(asked.depth, asked.side)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        volume = stored(Path(temporary), ids, asked.voxel_size)
        rules = rules_of(Path(temporary), volume, asked.formats.split(","))
        print("| rule | processor s | s | ns per voxel |\n|---|---|---|---|")
        for rule in wanted:
            processor, clock = time.process_time(), time.perf_counter()
            rules[rule]()
            processor, clock = time.process_time() - processor, time.perf_counter() - clock
            per_voxel = 1e9 * processor / ids.size
            print(f"| {rule} | {processor:.1f} | {clock:.1f} | {per_voxel:.1f} |", flush=True)
            rows.append({"rule": rule, "processor_s": processor, "clock_s": clock, "ns_per_voxel": per_voxel})
        counted = sum(row["processor_s"] for row in rows if row["rule"] in ("measure", "objects"))
        minutes = counted / ids.size * GIGAVOXEL / 60
        found = in_short(volume)
    print(f"{ids.size / 1e6:.1f} million voxels; objects of a billion: {minutes:.1f} min of one processor; {found}")
    print(json.dumps({"voxels": ids.size, "rows": rows, "minutes_per_gigavoxel": minutes, "found": found}))


if __name__ == "__main__":
    main()
