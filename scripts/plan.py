"""Foresee what a run will cost, before anything is computed: tiles, arithmetic, memory, disk and files."""

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from unet.config import Config, VolumeConfig
from unet.cost import measured_rate
from unet.devices import choose_precision
from unet.geometry import Index
from unet.job import run
from unet.model_file import architecture
from unet.plan import as_text, plan_volume, training_flops
from unet.predicting import stored_classes
from unet.receipts import write_json
from unet.sources import agree_voxel_size, check_sections, open_raw
from unet.tile_choice import Task, choose_tile, kept, kind_of
from unet.tiling import tile_geometry
from unet.volume import Layout


def main(plan: Path, config: Config, shard_voxels: int, threads: int = 1) -> None:
    """Print the plan, and write it to `plan` as JSON."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    config, classes, training = _with_model(config)
    plans = []
    for name in config.predict.volumes:
        task = Task(
            config.model,
            len(classes),
            len(stored_classes(classes)),
            _layout(config, name),
            config.predict,
            choose_precision(config.predict.precision, device),
        )
        folder = Path(config.results) / "volumes" / name
        choice = kept(folder, task) or choose_tile(task, device, threads)
        plans.append(
            plan_volume(
                name,
                task,
                choice,
                shard_voxels,
                kind=kind_of(device),
                threads=threads,
                has_graph=config.segment.has_graph,
            )
        )
    rate = measured_rate(device)
    sys.stdout.write(as_text(plans, training, rate, device.type.upper()) + "\n")
    write_json(plan, {"volumes": [asdict(one) for one in plans], "training_flops": training, "flops_per_second": rate})


def _with_model(config: Config) -> tuple[Config, list[str], float]:
    """The configuration with the architecture of the model that is used, its classes, and the FLOPs of training it."""
    model, classes = architecture(config)
    if config.model.checkpoint is not None:
        return config.model_copy(update={"model": model}), classes, 0.0
    tile = tile_geometry(config.model, config.train.tile).input
    channels = _layout(config, config.train.volumes[0]).channels
    return config, classes, training_flops(config, len(classes), tile, channels)


def _layout(config: Config, name: str) -> Layout:
    """As `survey` will find it; of the sample from its settings alone, since it is not made yet."""
    volume: VolumeConfig = config.volumes[name]
    storage, channels = config.storage, 1
    if _is_sample(config, volume):
        depth, side = config.sample.sections, config.sample.size
        first, stop = volume.sections or (0, depth)
        shape: Index = (stop - first, side, side)
        dtype, voxel_nm = "uint8", (50.0, 4.0, 4.0)
    else:
        raw = open_raw(volume.raw)
        first, stop = check_sections(raw, volume.sections)
        shape, dtype, channels = (stop - first, *raw.shape[1:]), raw.dtype.name, raw.channels
        voxel_nm = agree_voxel_size(volume.voxel_nm, raw.voxel_nm, raw.address)
    masked = volume.mask is not None
    return Layout(shape, dtype, voxel_nm, (0.0, 0.0, 0.0), storage.chunk, storage.block, None, masked, channels)


def _is_sample(config: Config, volume: VolumeConfig) -> bool:
    """Whether the volume is the sample that this workflow has yet to make."""
    raw = Path(volume.raw) if isinstance(volume.raw, str) else None
    return raw is not None and raw.parent == Path(config.results) / "sample" and not raw.exists()


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
