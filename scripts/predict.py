"""Predict class probabilities for the blocks of a block range, tile by tile.

Inputs: `raw.zarr`, the receipt of `intensity_statistics`, the model file.

Outputs: blocks of `probability.zarr`, uint8 or float32 `(class, z, y, x)`; a receipt and a journal per block range.

1. Take a device: a free GPU of this machine, its CPU, or workers of a dask scheduler or of SLURM.
2. Choose tile and batch by the free memory, once per volume.
3. Read, predict and write several blocks at a time.
4. Record each finished block in the journal. A killed job repeats only the blocks that were in flight.
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
from unet.jobs.dask_clients import call_on_worker, local_client, scheduler_client
from unet.jobs.device_capacity import keep_freed_memory
from unet.jobs.devices import LOCK_FOLDER, torch_device
from unet.jobs.pipeline import Work, run_pipeline
from unet.jobs.script import run_script
from unet.jobs.slurm_workers import slurm_client
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
"""Client of the workers, tile and batch chosen there, and the function that begins once the job owns its blocks."""


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
        backend = _on_workers(scheduler_client(predict.scheduler), prediction, receipt)
    elif predict.workers == "slurm":
        workers = slurm_client(slurm, len(source.blocks(block_range)), worker_logs, predict.dashboard)
        backend = _on_workers(workers, prediction, receipt)
    else:
        backend = _on_this_machine(prediction, threads)
    with backend as (client, settings, begin):
        job = BlockRangeJob(
            "predict",
            source.blocks(block_range),
            [source.create("probability", predict.dtype, channels=settings.channels)],
            receipt=receipt,
            fingerprint=prediction.input_fingerprint(settings, code),
            inputs_of=prediction.block_inputs(settings),
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
            chosen = {"tile": settings.tile, "batch": settings.batch, "precision": settings.precision}
            job.finish(run={"device": settings.device, "threads": threads, "seconds": seconds, **chosen})


@contextmanager
def _on_this_machine(prediction: PredictionSpec, threads: int) -> Iterator[Backend]:
    """Predict on a device of this machine, in this process."""
    predict = prediction.predict
    with torch_device(LOCK_FOLDER) as device, local_client(predict.max_blocks_in_flight, predict.dashboard) as client:
        prepared = BlockPredictor(prediction, device, threads)
        yield client, prepared.settings, prepared.work


@contextmanager
def _on_workers(
    cluster: AbstractContextManager[Client], prediction: PredictionSpec, receipt: Path
) -> Iterator[Backend]:
    """Predict on the devices of a scheduler's workers, which see the same files."""
    with cluster as client:
        timeout = 60 * prediction.predict.block_timeout_minutes
        settings = call_on_worker(client, resolve_on_worker, prediction, timeout=timeout)
        chosen = prediction.resolved(settings)
        yield client, settings, lambda: partial(predict_on_worker, chosen, Lease.acquire(receipt, uuid4().hex))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
