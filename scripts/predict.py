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
from unet.jobs.device_capacity import keep_freed_memory
from unet.jobs.devices import LOCKS, torch_device
from unet.jobs.pipeline import Work, at_scheduler, in_this_process, run_pipeline
from unet.jobs.script import run
from unet.jobs.slurm_workers import at_slurm
from unet.network.worker import (
    BlockPredictor,
    Lease,
    PredictionSpec,
    ResolvedSettings,
    predict_on_worker,
    resolve_on_worker,
)
from unet.storage.digests import bytes_digest
from unet.volumes.volume import Volume

Backend = tuple[Client, ResolvedSettings, Callable[[], Work]]
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
    prediction = PredictionSpec(survey, intensity_statistics, model, folder, predict, digest)
    if predict.scheduler is not None:
        place = _elsewhere(at_scheduler(predict.scheduler), prediction, receipt)
    elif predict.workers == "slurm":
        workers = at_slurm(slurm, len(source.blocks(block_range)), worker_logs, predict.dashboard)
        place = _elsewhere(workers, prediction, receipt)
    else:
        place = _here(prediction, threads)
    with place as (client, settings, begin):
        job = BlockRangeJob(
            "predict",
            source.blocks(block_range),
            [source.create("probability", predict.dtype, channels=settings.channels)],
            receipt=receipt,
            fingerprint=prediction.input_fingerprint(settings, code),
            inputs_of=prediction.block_inputs(settings),
            whole=prod(source.layout.shape),
        )
        with job:
            begun = time.perf_counter()
            run_pipeline(
                job.waiting,
                begin(),
                client,
                done=lambda box, digest: job.keep(box, (digest, {})),
                window=predict.max_blocks_in_flight,
                patience=60 * predict.block_timeout_minutes,
            )
            seconds = round(time.perf_counter() - begun, 2)
            chosen = {"tile": settings.tile, "batch": settings.batch, "precision": settings.precision}
            job.finish(run={"device": settings.device, "threads": threads, "seconds": seconds, **chosen})


@contextmanager
def _here(prediction: PredictionSpec, threads: int) -> Iterator[Backend]:
    """On a device of this machine, by this process."""
    predict = prediction.predict
    with torch_device(LOCKS) as device, in_this_process(predict.max_blocks_in_flight, predict.dashboard) as client:
        prepared = BlockPredictor(prediction, device, threads)
        yield client, prepared.settings, prepared.work


@contextmanager
def _elsewhere(place: AbstractContextManager[Client], prediction: PredictionSpec, receipt: Path) -> Iterator[Backend]:
    """On the devices of a scheduler's workers, which see the same files."""
    with place as client:
        settings = client.submit(resolve_on_worker, prediction, pure=False).result()
        chosen = prediction.resolved(settings)
        yield client, settings, lambda: partial(predict_on_worker, chosen, Lease.acquire(receipt, uuid4().hex))


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
