"""Train the network on patches of the annotated volumes, continuing from the last state if a run was killed."""

import logging
from pathlib import Path
from typing import Any

from unet.config.model import ModelConfig
from unet.config.train import TrainConfig
from unet.jobs.devices import LOCK_FOLDER, scheduler_assignment, torch_devices
from unet.jobs.script import run_script
from unet.network.model_file import save_model
from unet.storage.digests import bytes_digest, fingerprint, receipts_digest
from unet.storage.files import read_json, write_json
from unet.storage.locks import lock_exclusive
from unet.training.distributed import run_ranks
from unet.training.folder import TrainingFolder, differences
from unet.training.job import TrainingJob
from unet.training.trainer import TrainingError
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

WITHOUT_EFFECT = {"checkpoint_minutes", "log_steps", "spike_factor", "tensorboard"}
"""Settings of the training that its model does not depend on: a change of them goes on from the same state."""

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    intensity_statistics: list[Path],
    targets: list[Path],
    weighted: list[Path],
    model: Path,
    curve: Path,
    receipt: Path,
    folders: list[Path],
    model_config: ModelConfig,
    train: TrainConfig,
    classes: list[str],
    code: str,
    threads: int = 1,
) -> None:
    """Write the trained model to `model` and its learning curve to `curve`, copies of what is kept by fingerprint."""
    volumes = {folder.name: Volume.open(folder, survey) for folder, survey in zip(folders, surveys, strict=True)}
    grey = {folder.name: read_json(path) for folder, path in zip(folders, intensity_statistics, strict=True)}
    statistics = {name: values["statistics"] for name, values in grey.items()}
    depends_on = {
        "data": receipts_digest([*intensity_statistics, *targets, *weighted]),
        "statistics": statistics,
        "model": model_config.model_dump(mode="json", exclude={"checkpoint", "voxel_size_tolerance"}),
        "train": train.model_dump(mode="json", exclude=WITHOUT_EFFECT),
        "classes": classes,
        "code": code,
    }
    made_from = fingerprint(**depends_on)
    kept = TrainingFolder(model.parent / made_from)
    lock_exclusive(model.parent / "lock")
    kept.begin(depends_on)
    tell_of_others(kept)
    done = kept.receipt()
    if done is None:
        normalisations = {name: Normalisation.of(channels) for name, channels in statistics.items()}
        job = TrainingJob(
            volumes,
            normalisations,
            model_config,
            train,
            len(classes),
            kept.state,
            kept.curve,
            kept.tensorboard if train.tensorboard else None,
            made_from,
            threads,
        )
        rule = grey[train.volumes[0]]["normalisation"]
        done = trained(kept, job, classes, {"rule": rule, "trained_on": statistics})
    else:
        log.info("this training is finished: its model of step %d is taken from %s", done["kept_step"], kept.path)
    kept.publish(model, curve)
    write_json(receipt, done)


def tell_of_others(kept: TrainingFolder) -> None:
    """Log where this training is kept, and which others are."""
    log.info("this training is kept in %s", kept.path)
    for other in kept.others():
        found, megabytes = differences(kept.settings, other.settings), other.size() / 1e6
        log.info(
            "%s holds another one, with %s (%.0f MB; remove it if not wanted)", other.path, "; ".join(found), megabytes
        )


def trained(
    kept: TrainingFolder, job: TrainingJob, classes: list[str], normalisation: dict[str, Any]
) -> dict[str, Any]:
    """Train, or train on; the receipt, written beside the model."""
    before = kept.stopped()
    if before is not None:
        log.warning("an earlier attempt at this training ended, and this one may end the same: %s", before)
    try:
        with torch_devices(LOCK_FOLDER, job.train.gpus) as devices:
            network, result = run_ranks(devices, job.run)
    except TrainingError as error:
        kept.stop(str(error))
        raise
    if result.validation is not None:
        log.info("kept the weights of step %d: %s", result.kept_step, result.validation.line())
    first = job.train.volumes[0]
    save_model(
        kept.model,
        network,
        job.model,
        classes,
        normalisation=normalisation,
        voxel_size_nm=job.volumes[first].layout.voxel_size_nm,
        channels=job.normalisations[first].channels,
        extra={"fingerprint": job.fingerprint, "steps": result.kept_step},
    )
    facts = {"seconds": result.seconds, "resumed_from": result.resumed_from, "threads": job.threads}
    receipt = {
        "rule": "train",
        "fingerprint": job.fingerprint,
        "digest": bytes_digest(kept.model.read_bytes()),
        **{"steps": result.steps, "kept_step": result.kept_step, "loss": result.loss},
        **(result.validation.line() if result.validation else {}),
        "run": {**facts, "devices": [str(device) for device in devices], **scheduler_assignment()},
    }
    kept.finish(receipt)
    return receipt


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
