"""Ingest beside dask, ngff-zarr, decoding alone and a plain copy: time, processor time and memory of each, by format.

    python benchmarks/ingest.py                                  # 16 x 8192 x 16384 = 2 Gvoxel; 25 GB of disk
    python benchmarks/ingest.py --shape 16 4096 8192 --rounds 3
    python benchmarks/ingest.py --inputs png --contestants unet-em dask
    python benchmarks/ingest.py --memory --shape 64 2048 2048    # one job for N and for 4 N sections

1. A volume of grey values is written in each format: a folder of PNG, TIFF of one zlib strip per page, uncompressed
   TIFF, HDF5 with one gzip chunk per section. The last format is Zarr with the chunks of the result.
2. Each contestant reads it in a process of its own. All write Zarr v3 with the chunks, shards, codec and level of
   `raw.zarr`: 16 x 128 x 128 in 16 x 1024 x 1024, zstd 1, crc32c. dask and ngff-zarr write the finest level only.
   `unet-em` writes a pyramid, a third more voxels, and digests and a journal. ngff-zarr takes no crc32c.
3. Voxels are compared with those that went in. `copy` copies the files, `decode` decodes each section once.
4. A volume of twice the sections shows whether the memory of `unet-em` grows.

`--memory` measures the peak of one job that takes a whole volume, and a volume of four times the sections: of PNG, of
HDF5 in packed chunks of 32 x 128 x 128, and of Zarr in chunks of 64 x 256 x 256, four times as deep as a block.

All have as many threads as there are cores, zarr-python's own included. It would start four more, and on a shared
machine more threads get more of the time. Processor seconds are the figure to compare there; they contain the start of
Python and its libraries. The rounds of the contestants alternate, and the best round counts.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import starter
import tifffile
import zarr
from starter import ROOT, Spent
from zarr.codecs import Crc32cCodec, ZstdCodec

from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry import compiled
from unet.geometry.block_ranges import block_range_names, voxels_per_job
from unet.geometry.grid import Grid
from unet.training.synthetic import synthesise
from unet.volumes.volume import Volume

BLOCK, CHUNK = (16, 1024, 1024), (16, 128, 128)
PIECE = 512
"""Side of the generated cells, by which a section is tiled."""
WHOLE = ("png", "strip.tif", "sections.h5")
"""Inputs whose sections can only be decoded as a whole."""
NAMES = {
    "png": "png",
    "strip": "strip.tif",
    "tiff": "plain.tif",
    "hdf5": "sections.h5",
    "zarr": "grey.zarr",
    "chunks": "chunks.h5",
    "deep": "deep.zarr",
}
IN_MEMORY_MODE = ("png", "chunks", "deep")
COMPARED_INPUTS = ["png", "strip", "tiff", "hdf5", "zarr"]
DEEP = 64
"""Sections that are written together."""
ENDS = "ends.npy"
"""The first and the last section, with which the results are compared."""
STORED = "volumes/all/raw.zarr/0"
Contestant = Callable[[Path, Path, int], None]


# Inputs


def sections(shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yield the sections of a volume: generated cells, side by side, with noise of their own."""
    piece = min(PIECE, max(shape[1:]))
    cells, _ = synthesise(sections=min(16, shape[0]), size=piece, seed=1)
    random, repeats = np.random.default_rng(1), (-(-shape[1] // piece), -(-shape[2] // piece))
    for z in range(shape[0]):
        tiled = np.tile(np.clip(cells[z % 16], 4, 251).astype(np.uint8), repeats)[: shape[1], : shape[2]]
        yield tiled + random.integers(-3, 4, tiled.shape, np.int8).view(np.uint8)


def write_inputs(folder: Path, shape: tuple[int, int, int], names: list[str]) -> None:
    """Write the volume in some formats."""
    (folder / "png").mkdir(parents=True)
    h5 = h5py.File(folder / "sections.h5", "w")
    strip, plain = (tifffile.TiffWriter(folder / NAMES[name], bigtiff=True) for name in ("strip", "tiff"))
    layer, store, ends = [], dict[str, Any](), []
    if "hdf5" in names:
        h5.create_dataset("raw", shape, np.uint8, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1)
    if "zarr" in names:
        store["grey"] = zarr.create_array(folder / "grey.zarr", shape=shape, chunks=(16, 512, 512), dtype="uint8")
    if "deep" in names:
        store["deep"] = zarr.create_array(folder / "deep.zarr", shape=shape, chunks=(DEEP, 256, 256), dtype="uint8")
    chunks = h5py.File(folder / "chunks.h5", "w")
    if "chunks" in names:
        fitting = tuple(map(min, (32, 128, 128), shape))
        options = {"chunks": fitting, "compression": "gzip", "compression_opts": 1}
        store["chunks"] = chunks.create_dataset("raw", shape, np.uint8, **options)
    with h5, strip, plain, chunks:
        for z, section in enumerate(sections(shape)):
            if "png" in names:
                (folder / "png" / f"s{z:05}.png").write_bytes(imagecodecs.png_encode(section, level=1))
            if "strip" in names:
                strip.write(
                    section, compression="zlib", compressionargs={"level": 1}, rowsperstrip=shape[1], metadata=None
                )
            if "tiff" in names:
                plain.write(section, metadata=None)
            if "hdf5" in names:
                h5["raw"][z] = section
            ends += [section] if z in (0, shape[0] - 1) else []
            layer.append(section)
            if len(layer) == DEEP or z == shape[0] - 1:
                for one in store.values():
                    one[z + 1 - len(layer) : z + 1] = np.stack(layer)
                layer = []
    np.save(folder / ENDS, ends)


def decoder(path: Path) -> tuple[int, Callable[[int], np.ndarray]]:
    """Return the number of sections of an input, and a function that decodes one."""
    if path.name == "png":
        files = sorted(path.iterdir())
        return len(files), lambda z: imagecodecs.png_decode(files[z].read_bytes())
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as tiff:
            count = len(tiff.pages)
        # opened for each section, since a list of pages is not for several threads
        return count, lambda z: tifffile.imread(path, key=z, maxworkers=1)
    array = h5py.File(path)["raw"] if path.suffix == ".h5" else zarr.open_array(path, mode="r")
    return array.shape[0], lambda z: np.asarray(array[z])


class Sections:
    """An input as dask takes an array: `shape`, `dtype`, and slices, of which each decodes its sections."""

    dtype, ndim = np.dtype("uint8"), 3

    def __init__(self, path: Path) -> None:
        count, self._decode = decoder(path)
        self.shape = (count, *self._decode(0).shape)

    def __getitem__(self, part: tuple[slice, slice, slice]) -> np.ndarray:
        found = [self._decode(z)[part[1:]] for z in range(*part[0].indices(self.shape[0]))]
        return np.stack(found) if found else np.empty((0, 0, 0), np.uint8)


# Contestants: each reads the input, and writes the folder


def copy(path: Path, out: Path, threads: int) -> None:
    """Copy the files of the input."""
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, out)


def decode(path: Path, out: Path, threads: int) -> None:
    """Decode all sections, and drop them. Zarr is decoded by blocks."""
    count, section = decoder(path)
    if path.suffix == ".zarr":
        array = zarr.open_array(path, mode="r")
        boxes = Grid(array.shape, BLOCK).boxes()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda box: np.asarray(array[box.slices]).nbytes, boxes))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda z: section(z).nbytes, range(count)))


def _lazy(path: Path) -> Any:
    """Return the input as a dask array: by sections where these are decoded as a whole, else by blocks."""
    import dask.array

    if path.suffix == ".zarr":
        return dask.array.from_array(zarr.open_array(path, mode="r"), chunks=BLOCK)
    if path.name == "plain.tif":
        with tifffile.TiffFile(path) as tiff:
            offset, shape = tiff.pages[0].dataoffsets[0], (len(tiff.pages), *tiff.pages[0].shape)
            step = tiff.pages[1].dataoffsets[0] - offset if shape[0] > 1 else shape[1] * shape[2]
        whole = np.memmap(path, np.uint8, "r", offset, ((shape[0] - 1) * step + shape[1] * shape[2],))
        strided = np.lib.stride_tricks.as_strided(whole, shape, (step, shape[2], 1), writeable=False)
        return dask.array.from_array(strided, chunks=BLOCK, name=False)
    source: Any = h5py.File(path)["raw"] if path.suffix == ".h5" else Sections(path)
    return dask.array.from_array(source, chunks=(1, *source.shape[1:]), name=False).rechunk(BLOCK)


def dask_to_zarr(path: Path, out: Path, threads: int) -> None:
    """Write by `dask.array.from_array(...).to_zarr(...)`."""
    import dask

    array = _lazy(path)
    target = zarr.create_array(
        out,
        shape=array.shape,
        shards=BLOCK,
        chunks=CHUNK,
        dtype="uint8",
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
    )
    with dask.config.set(scheduler="threads", num_workers=threads):
        array.to_zarr(target)


def ngff_zarr(path: Path, out: Path, threads: int) -> None:
    """Write by `ngff_zarr.to_ngff_zarr(...)`, without a pyramid."""
    import dask
    import ngff_zarr as ngff

    with dask.config.set(scheduler="threads", num_workers=threads):
        image = ngff.to_ngff_image(_lazy(path), dims=["z", "y", "x"], scale={"z": 30.0, "y": 8.0, "x": 8.0})
        levels = ngff.to_multiscales(image, scale_factors=[], chunks=CHUNK, cache=False)
        shard = tuple(b // c for b, c in zip(BLOCK, CHUNK, strict=True))
        codecs = [ZstdCodec(level=1)]  # it takes no crc32c
        ngff.to_ngff_zarr(out, levels, version="0.5", chunks_per_shard=shard, compressors=codecs)


def unet_em(path: Path, out: Path, threads: int, jobs: int | None = None) -> None:
    """Run the rules `survey` and `ingest`, every block range one after the other."""
    address = f"{path}:/raw" if path.suffix == ".h5" else str(path)
    volume = VolumeConfig.model_validate({"raw": address, "voxel_size_nm": [30, 8, 8]})
    storage, survey = StorageConfig(chunk=CHUNK, block=BLOCK), out / "receipts" / "survey.json"
    starter.script("survey")(survey, "all", volume, storage, "benchmark")
    folder = out / "volumes" / "all"
    layout = Volume.open(folder, survey).layout
    main = starter.script("ingest")
    job = voxels_per_job(layout.shape, "auto") if jobs is None else prod(layout.shape) // jobs
    for name in block_range_names(layout.grid, job, layout.ingested_together):
        main(survey, out / "receipts" / f"{name}.json", folder, name, volume, "benchmark", threads)


def one_job(path: Path, out: Path, threads: int) -> None:
    """Rules `survey` and `ingest`: one job takes the whole volume, with compiled kernels from the first voxel."""
    compiled._seen = compiled.VOXELS_WHILE_COMPILING  # they take 110 MB, and would come in the larger volume alone
    unet_em(path, out, threads, jobs=1)


CONTESTANTS: dict[str, Contestant] = {
    "copy": copy,
    "decode": decode,
    "unet-em": unet_em,
    "one-job": one_job,
    "dask": dask_to_zarr,
    "ngff-zarr": ngff_zarr,
}


COMPARED = [name for name in CONTESTANTS if name != "one-job"]


def same_voxels(contestant: str, out: Path, truth: Path) -> bool:
    """Return whether the first and the last section that a contestant has written are those that went in."""
    inside = {"unet-em": STORED, "one-job": STORED, "dask": "", "ngff-zarr": "scale0/image"}
    if contestant not in inside:
        return True
    folder = out / inside[contestant]
    if not (folder / "zarr.json").exists():
        folder = next(path.parent for path in out.rglob("zarr.json") if '"array"' in path.read_text())
    array = zarr.open_array(folder, mode="r")
    return all(np.array_equal(np.asarray(array[z]), one) for z, one in zip((0, -1), np.load(truth), strict=False))


def measured(contestant: str, path: Path, out: Path, threads: int) -> Spent:
    """Run a contestant in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--work", contestant, str(path), str(out), "--threads", str(threads)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=starter.environment(OMP_NUM_THREADS="1", BLOSC_NTHREADS="1"))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contestant} failed on {path}")
    return Spent(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(folder: Path, shape: tuple[int, int, int], names: list[str], who: list[str], arguments: Any) -> Any:
    """Print a line per input and contestant; their best times and most memory."""
    voxels, table = int(np.prod(shape)), dict[str, Any]()
    for name in names:
        path, table[name] = folder / NAMES[name], {}
        for contestant in [one for _ in range(arguments.rounds) for one in who]:
            out = folder / "out"
            one = measured(contestant, path, out, arguments.threads)
            with ProcessPoolExecutor(1) as other:
                same = other.submit(same_voxels, contestant, out, folder / ENDS).result()
            assert same, f"{contestant} has written other voxels of {path}"
            before = table[name].get(contestant)
            best = [one.seconds, one.processor, one.memory_mb]
            if before is not None:
                best = [min(best[0], before[0]), min(best[1], before[1]), max(best[2], before[2])]
            table[name][contestant] = best
        for contestant, (clock, processor, memory) in table[name].items():
            nanoseconds = f"{1e9 * processor / voxels:8.1f} ns/voxel"
            print(f"{name:<8}{contestant:<12}{Spent(clock, processor, memory)}{nanoseconds}", flush=True)
    return table


def main() -> None:
    """Write the inputs, compare, print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[16, 8192, 16384])
    parser.add_argument("--inputs", nargs="*", choices=list(NAMES), help="by default those of the mode")
    parser.add_argument("--contestants", nargs="*", choices=list(CONTESTANTS), default=COMPARED)
    parser.add_argument("--memory", action="store_true", help="the peak of one job, for N and for 4 N sections")
    parser.add_argument("--once", action="store_true", help="without the volume of twice the sections")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-ingest")
    parser.add_argument("--work", nargs=3, metavar=("CONTESTANT", "INPUT", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        contestant, path, out = arguments.work
        zarr.config.set({"threading.max_workers": arguments.threads})
        CONTESTANTS[contestant](Path(path), Path(out), arguments.threads)
        return
    if find_spec("ngff_zarr") is None and "ngff-zarr" in arguments.contestants:
        print("ngff-zarr is not installed, and is left out")
        arguments.contestants.remove("ngff-zarr")
    if arguments.memory:
        arguments.contestants = ["one-job"]
    arguments.inputs = arguments.inputs or (list(IN_MEMORY_MODE) if arguments.memory else COMPARED_INPUTS)
    tables: list[Any] = []
    deeper = [one for one in arguments.contestants if one in ("unet-em", "one-job") and not arguments.once]
    times = 4 if arguments.memory else 2
    for depth, who in ((1, arguments.contestants), *([(times, deeper)] if deeper else [])):
        shape = (depth * arguments.shape[0], arguments.shape[1], arguments.shape[2])
        folder = arguments.folder.absolute() / str(shape[0])
        shutil.rmtree(folder, ignore_errors=True)
        print(" x ".join(map(str, shape)), flush=True)
        # beside this process, whose size every process that it starts would be said to have had
        with ProcessPoolExecutor(1) as other:
            other.submit(write_inputs, folder, shape, arguments.inputs).result()
        tables.append(compare(folder, shape, arguments.inputs, who, arguments))
        shutil.rmtree(folder)
    table, deep = tables if deeper else (tables[0], {})
    print(json.dumps({"unet-em": summary(table, deep), "table": table, "deeper": deep}))


def summary(table: Any, deeper: Any) -> dict[str, Any]:
    """Return, by input, the processor time of `unet-em` over that of the others, and memory of twice the sections."""
    found = {}
    for name, row in table.items():
        who = "one-job" if "one-job" in row else "unet-em"
        ours = row.get(who)
        if ours:
            ratios = {f"over {other}": round(ours[1] / one[1], 3) for other, one in row.items() if other != who}
            found[name] = ratios | ({"memory": round(deeper[name][who][2] / ours[2], 3)} if deeper else {})
    return found


if __name__ == "__main__":
    main()
