"""Predict a block range of a volume by overlap tiles: blocks are read, inferred and written side by side.

Each finished block is recorded, so a killed job redoes only the blocks that were in flight.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import prod
from pathlib import Path
from uuid import uuid4

from distributed import Client

from unet.config.predict import PredictConfig
from unet.config.slurm import SlurmConfig
from unet.jobs.blockwise import BlockRangeJob
from unet.jobs.devices import LOCK_FOLDER, torch_device
from unet.jobs.pipeline import Work, local_client, run_pipeline, scheduler_client
from unet.jobs.script import run_script
from unet.jobs.slurm_workers import slurm_client
from unet.network.complexity import keep_freed_memory
from unet.network.worker import Choice, Lease, Prediction, PreparedPrediction, choose_on_worker, predict_on_worker
from unet.storage.digests import bytes_digest
from unet.volumes.volume import Volume

Backend = tuple[Client, Choice, Callable[[], Work]]
"""Where blocks are predicted, what was chosen there, and how to begin once the blocks are ours."""


def main(
    survey: Path,
    intensity_statistics: Path,
    model: Path,
    receipt: Path,
    folder: Path,
    block_range: str,
    predict: PredictConfig,
    slurm: SlurmConfig,
    worker_logs: Path,
    code: str,
    threads: int = 1,
) -> None:
    """Write the blocks of `block_range` to `probability.zarr`."""
    keep_freed_memory()
    source, digest = Volume.open(folder, survey), bytes_digest(model.read_bytes())
    survey, intensity_statistics, model, folder = (
        path.absolute() for path in (survey, intensity_statistics, model, folder)
    )
    prediction = Prediction(survey, intensity_statistics, model, folder, predict, digest)
    if predict.scheduler is not None:
        place = _elsewhere(scheduler_client(predict.scheduler), prediction, receipt)
    elif predict.workers == "slurm":
        workers = slurm_client(slurm, len(source.blocks(block_range)), worker_logs, predict.dashboard)
        place = _elsewhere(workers, prediction, receipt)
    else:
        place = _here(prediction, threads)
    with place as (client, choice, begin):
        job = BlockRangeJob(
            "predict",
            source.blocks(block_range),
            [source.create("probability", predict.dtype, channels=choice.channels)],
            receipt=receipt,
            fingerprint=prediction.made_from(choice, code),
            inputs_of=prediction.inputs_of(choice),
            total_voxels=prod(source.layout.shape),
        )
        with job:
            begun = time.perf_counter()
            run_pipeline(
                job.unfinished,
                begin(),
                client,
                done=lambda box, digest: job.record(box, (digest, {})),
                max_in_flight=predict.max_blocks_in_flight,
                block_timeout=60 * predict.block_timeout_minutes,
            )
            seconds = round(time.perf_counter() - begun, 2)
            chosen = {"tile": choice.tile, "batch": choice.batch, "precision": choice.precision}
            job.finish(run={"device": choice.device, "threads": threads, "seconds": seconds, **chosen})


@contextmanager
def _here(prediction: Prediction, threads: int) -> Iterator[Backend]:
    """On a device of this machine, by this process."""
    predict = prediction.predict
    with torch_device(LOCK_FOLDER) as device, local_client(predict.max_blocks_in_flight, predict.dashboard) as client:
        prepared = PreparedPrediction(prediction, device, threads)
        yield client, prepared.choice, prepared.work


@contextmanager
def _elsewhere(place: AbstractContextManager[Client], prediction: Prediction, receipt: Path) -> Iterator[Backend]:
    """On the devices of a scheduler's workers, which see the same files."""
    with place as client:
        choice = client.submit(choose_on_worker, prediction, pure=False).result()
        chosen = prediction.with_choice(choice)
        yield client, choice, lambda: partial(predict_on_worker, chosen, Lease.make(receipt, uuid4().hex))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
