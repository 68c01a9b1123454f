"""Train the network on patches of the annotated volumes.

Inputs: `raw.zarr`, `targets.zarr` and `weights.zarr` of `train.volumes` and `train.validation`, and their receipts;
the model file of `train.start_from`.

Outputs: `model/model.pt`, `model/training.jsonl`, and a receipt. Both files are copies from a folder
`model/{fingerprint}/`, which outlives other configurations.

1. Compute the fingerprint of everything that the model depends on. A finished training of that fingerprint is reused.
2. Otherwise train on the free GPUs, or on the CPU, continuing from the last saved state of a killed run.
3. Save the weights with the best validation score, or those of the last step without validation.
"""

import logging
from pathlib import Path
from typing import Any

from unet.config.model import ModelConfig
from unet.config.train import TrainConfig
from unet.jobs.device_capacity import keep_freed_memory
from unet.jobs.devices import LOCK_FOLDER, scheduler_assignment, torch_devices
from unet.jobs.script import run_script
from unet.network.model_file import save_model
from unet.network.output_channels import output_channels
from unet.storage.digests import bytes_digest, fingerprint, receipts_digest
from unet.storage.files import read_json, write_receipt
from unet.storage.locks import lock_exclusive
from unet.training.distributed import run_ranks
from unet.training.divergence import TrainingError
from unet.training.folder import TrainingFolder, setting_differences
from unet.training.job import TrainingJob
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

NOT_IN_FINGERPRINT = {"checkpoint_minutes", "log_steps", "spike_factor", "start_from", "tensorboard", "held_back"}
"""Keys of `train` that the model does not depend on. After a change of them a training continues from its state.

Of `start_from` the content of the file counts, not its path; of `held_back` the sections that it names."""

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    intensity_statistics: list[Path],
    targets: list[Path],
    weighted: list[Path],
    checked: list[Path],
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
    """Write the trained model to `model` and its learning curve to `curve`, as copies from the training's folder."""
    keep_freed_memory()
    volumes = {folder.name: Volume.open(folder, survey) for folder, survey in zip(folders, surveys, strict=True)}
    outputs = output_channels(model_config, classes, volumes[train.volumes[0]].layout.voxel_size_nm)
    receipts = {folder.name: read_json(path) for folder, path in zip(folders, intensity_statistics, strict=True)}
    statistics = {name: values["statistics"] for name, values in receipts.items()}
    held_back = {folder.name: read_json(path)["held_back"] for folder, path in zip(folders, checked, strict=True)}
    depends_on = {
        "data": receipts_digest([*intensity_statistics, *targets, *weighted]),
        "statistics": statistics,
        "model": model_config.model_dump(mode="json", exclude={"checkpoint", "voxel_size_tolerance"}),
        "train": train.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT),
        "held_back": held_back,
        "classes": outputs,
        "code": code,
    }
    if train.start_from is not None:
        depends_on["start_from"] = bytes_digest(Path(train.start_from).read_bytes())
    own_fingerprint = fingerprint(**depends_on)
    kept = TrainingFolder(model.parent / own_fingerprint)
    lock_exclusive(model.parent / "lock")
    kept.write_settings(depends_on)
    log_other_trainings(kept)
    done = kept.valid_receipt()
    if done is None:
        normalisations = {name: Normalisation.of(channels) for name, channels in statistics.items()}
        job = TrainingJob(
            volumes,
            normalisations,
            held_back,
            model_config,
            train,
            outputs,
            kept.state,
            kept.curve,
            kept.tensorboard if train.tensorboard else None,
            own_fingerprint,
            threads,
        )
        rule = receipts[train.volumes[0]]["normalisation"]
        done = trained(kept, job, {"rule": rule, "trained_on": statistics})
    else:
        log.info("this training is finished: its model of step %d is taken from %s", done["kept_step"], kept.path)
    kept.publish(model, curve)
    write_receipt(receipt, done)


def log_other_trainings(kept: TrainingFolder) -> None:
    """Log the folder of this training, and the folders of other trainings."""
    log.info("this training is kept in %s", kept.path)
    for other in kept.siblings():
        found, megabytes = setting_differences(kept.settings, other.settings), other.size_bytes() / 1e6
        log.info(
            "%s holds another one, with %s (%.0f MB; remove it if not wanted)", other.path, "; ".join(found), megabytes
        )


def trained(kept: TrainingFolder, job: TrainingJob, normalisation: dict[str, Any]) -> dict[str, Any]:
    """Train, or continue a training; return the receipt, which is also written beside the model."""
    before = kept.stop_reason()
    if before is not None:
        log.warning("an earlier attempt at this training ended, and this one may end the same: %s", before)
    try:
        with torch_devices(LOCK_FOLDER, job.train.gpus) as devices:
            network, result = run_ranks(devices, job.run)
    except TrainingError as error:
        kept.write_stop_reason(str(error))
        raise
    if result.validation is not None:
        log.info("kept the weights of step %d: %s", result.kept_step, result.validation.curve_values())
    first = job.train.volumes[0]
    save_model(
        kept.model,
        network,
        job.model,
        job.outputs,
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
        **(result.validation.curve_values() if result.validation else {}),
        "run": {**facts, "devices": [str(device) for device in devices], **scheduler_assignment()},
    }
    kept.write_receipt(receipt)
    return receipt


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
