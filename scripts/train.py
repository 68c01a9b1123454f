"""Train the network on patches of the annotated volumes, continuing from the last state if a run was killed."""

import logging
from pathlib import Path

from unet.config import ModelConfig, TrainConfig
from unet.devices import LOCKS, place_of_job, torch_devices
from unet.distributed import run_ranks
from unet.grey_values import Normalisation
from unet.job import run
from unet.model_file import save_model
from unet.receipts import bytes_digest, content_digest, fingerprint, read_json, write_json
from unet.training_job import TrainingJob
from unet.volume import Volume

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
    tensorboard: Path,
    model_config: ModelConfig,
    train: TrainConfig,
    classes: list[str],
    code: str,
    threads: int = 1,
) -> None:
    """Write the trained model to `model`, and the learning curve to `curve` while it goes on."""
    volumes = {folder.name: Volume.open(folder, survey) for folder, survey in zip(folders, surveys, strict=True)}
    grey = {folder.name: read_json(path) for folder, path in zip(folders, grey_values, strict=True)}
    statistics = {name: values["statistics"] for name, values in grey.items()}
    made_from = fingerprint(
        data=content_digest([*grey_values, *targets, *weighted]),
        statistics=statistics,
        model=model_config.model_dump(mode="json", exclude={"checkpoint", "voxel_tolerance"}),
        train=train.model_dump(mode="json", exclude={"checkpoint_minutes", "log_steps", "tensorboard"}),
        classes=classes,
        code=code,
    )
    normalisations = {name: Normalisation.of(channels) for name, channels in statistics.items()}
    job = TrainingJob(
        volumes,
        normalisations,
        model_config,
        train,
        len(classes),
        state,
        curve,
        tensorboard if train.tensorboard else None,
        made_from,
        threads,
    )
    with torch_devices(LOCKS, train.gpus) as devices:
        network, result = run_ranks(devices, job.run)
    if result.validation is not None:
        log.info("kept the weights of step %d: %s", result.kept_step, result.validation.line())
    save_model(
        model,
        network,
        model_config,
        classes,
        normalisation={"rule": grey[train.volumes[0]]["normalisation"], "trained_on": statistics},
        voxel_nm=volumes[train.volumes[0]].layout.voxel_nm,
        channels=normalisations[train.volumes[0]].channels,
        extra={"fingerprint": made_from, "steps": result.kept_step},
    )
    learnt = {"steps": result.steps, "kept_step": result.kept_step, "loss": result.loss}
    looked = result.validation.line() if result.validation else {}
    facts = {"seconds": result.seconds, "resumed_from": result.resumed_from, "devices": [str(d) for d in devices]}
    facts |= place_of_job()
    digest = bytes_digest(model.read_bytes())
    write_json(
        receipt,
        {"rule": "train", "fingerprint": made_from, "digest": digest, **learnt, **looked, "run": facts},
    )


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
