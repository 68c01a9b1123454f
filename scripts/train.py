"""Train the network on patches of the annotated volumes, continuing from the last state if a run was killed."""

import logging
from pathlib import Path

import torch

from unet.config import AugmentConfig, ModelConfig, TrainConfig
from unet.devices import LOCKS, torch_device
from unet.job import run
from unet.model import build_model
from unet.model_file import save_model
from unet.patches import CachedVolume, LabelledVolume, PatchSampler
from unet.receipts import bytes_digest, content_digest, fingerprint, read_json, write_json
from unet.tiling import TileGeometry, tile_geometry
from unet.training import train as train_network
from unet.volume import Volume

CACHE_MB = 1536
"""Of recently read chunks, all training volumes together."""

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    grey_values: list[Path],
    targets: list[Path],
    weighted: list[Path],
    model: Path,
    receipt: Path,
    folders: list[Path],
    state: Path,
    curve: Path,
    model_config: ModelConfig,
    train: TrainConfig,
    classes: list[str],
    code: str,
    threads: int = 1,
) -> None:
    """Write the trained model to `model`, and the learning curve to `curve` while it goes on."""
    torch.set_num_threads(threads)
    geometry = tile_geometry(model_config, train.tile)
    opened = [
        _labelled_volume(Volume.open(folder, survey), read_json(values)["statistics"], CACHE_MB / (3 * len(folders)))
        for folder, survey, values in zip(folders, surveys, grey_values, strict=True)
    ]
    of = {folder.name: volume for folder, volume in zip(folders, opened, strict=True)}
    made_from = fingerprint(
        data=content_digest([*grey_values, *targets, *weighted]),
        model=model_config.model_dump(mode="json", exclude={"checkpoint"}),
        train=train.model_dump(mode="json", exclude={"checkpoint_minutes", "log_steps"}),
        classes=classes,
        code=code,
    )
    torch.manual_seed(train.seed)
    network = build_model(model_config, channels=1, classes=len(classes))
    with torch_device(LOCKS) as device:
        result = train_network(
            network,
            _sampler([of[name] for name in train.volumes], geometry, model_config, train, train.augment),
            train,
            state_path=state,
            log_path=curve,
            fingerprint=made_from,
            validation=_sampler([of[name] for name in train.validation], geometry, model_config, train, None)
            if train.validation
            else None,
            device=device,
        )
    statistics = {folder.name: read_json(v)["statistics"] for folder, v in zip(folders, grey_values, strict=True)}
    save_model(
        model,
        network,
        model_config,
        classes,
        normalisation={"method": "mean and standard deviation of the whole volume", "trained_on": statistics},
        voxel_nm=Volume.open(folders[0], surveys[0]).layout.voxel_nm,
        extra={"fingerprint": made_from, "steps": result.steps},
    )
    digest = bytes_digest(model.read_bytes())
    loss = {"loss": result.loss, "validation_loss": result.validation_loss}
    run_facts = {"seconds": result.seconds, "resumed_from": result.resumed_from, "device": str(device)}
    write_json(
        receipt,
        {"rule": "train", "fingerprint": made_from, "digest": digest, "steps": result.steps, **loss, "run": run_facts},
    )


def _labelled_volume(volume: Volume, statistics: dict[str, float], megabytes: float) -> LabelledVolume:
    raw, targets, weights = (
        CachedVolume(volume.image(store), cube=volume.layout.chunk, megabytes=megabytes)
        for store in ("raw", "targets", "weights")
    )
    return LabelledVolume(raw, targets, weights, statistics["mean"], statistics["std"])


def _sampler(
    volumes: list[LabelledVolume],
    geometry: TileGeometry,
    model: ModelConfig,
    train: TrainConfig,
    augment: AugmentConfig | None,
) -> PatchSampler:
    return PatchSampler(
        volumes, geometry.input, geometry.output, augment, model.dimensions, batch=train.batch, seed=train.seed
    )


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
