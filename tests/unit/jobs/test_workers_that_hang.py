"""Workers that stop answering: their blocks go elsewhere, they get no more, and nothing waits for them forever."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from distributed import Client, LocalCluster

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs import pipeline
from unet.jobs.dask_clients import call_on_worker
from unet.jobs.pipeline import BlockError, Stop, run_pipeline

BOXES = Grid((12, 4, 4), (1, 4, 4)).boxes()


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Two workers, each a process that a test can stop with SIGSTOP."""
    for name, seconds in (("DRAIN_TIMEOUT_S", 0.5), ("STOP_TIMEOUT_S", 0.5), ("MESSAGE_TIMEOUT_S", 1)):
        monkeypatch.setattr(pipeline, name, seconds)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
        for pid in _pids(client):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _pids(client: Client) -> list[int]:
    nannies = client.cluster.workers.values()
    return [nanny.pid for nanny in nannies if nanny.pid is not None]


def hangs_on(pids: list[int]) -> Callable[[Box, Stop], int]:
    """Return work that stops the worker's whole process where its PID is one of `pids`."""

    def work(box: Box, stop: Stop) -> int:
        if os.getpid() in pids:
            os.kill(os.getpid(), signal.SIGSTOP)
        return os.getpid()

    return work


def test_a_worker_that_hangs_gets_no_further_blocks(two_workers: Client) -> None:
    pids = _pids(two_workers)
    made_by: list[int] = []
    attempts: list[Any] = []
    submit = two_workers.submit
    two_workers.submit = lambda *arguments, **options: attempts.append(options) or submit(*arguments, **options)
    finished = run_pipeline(
        BOXES,
        hangs_on(pids[:1]),
        two_workers,
        max_in_flight=1,
        block_timeout=4,
        done=lambda box, pid: made_by.append(pid),
    )
    assert finished == len(BOXES)
    assert set(made_by) == {pids[1]}
    assert len(attempts) <= len(BOXES) + 2  # one block each at the worker that hangs, before and after it was noticed


def test_where_all_workers_hang_the_run_ends_with_an_error_in_bounded_time(two_workers: Client) -> None:
    begin = time.monotonic()
    with pytest.raises(BlockError, match=r"failed twice, .*not finished after 1 s"):
        run_pipeline(BOXES, hangs_on(_pids(two_workers)), two_workers, max_in_flight=1, block_timeout=1)
    assert time.monotonic() - begin < 120


def test_a_result_that_nobody_can_make_again_ends_the_run_in_bounded_time(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nanny in two_workers.cluster.workers.values():
        monkeypatch.setattr(nanny, "instantiate", stays_dead)
    lose_first_result(two_workers, monkeypatch, then=lambda pid: os.kill(pid, signal.SIGSTOP))
    begin = time.monotonic()
    with pytest.raises(BlockError, match=r"failed twice, .*not finished after 1 s"):
        run_pipeline(BOXES, hangs_on([]), two_workers, max_in_flight=1, block_timeout=1)
    assert time.monotonic() - begin < 120


async def stays_dead() -> None:
    """Take the place of a nanny's method that starts a worker again."""


def test_a_block_whose_result_was_lost_is_made_again(two_workers: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_first_result(two_workers, monkeypatch, then=lambda pid: None)
    assert run_pipeline(BOXES, hangs_on([]), two_workers, max_in_flight=1) == len(BOXES)


def lose_first_result(client: Client, monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None]) -> None:
    """Kill the worker that holds the first result before the result is asked for, and do something to the other."""
    pids, outcome, lost = client.run(os.getpid), pipeline._outcome, []

    def of_dead_worker(future: Any) -> Any:
        if not lost:
            [holder] = client.who_has([future])[future.key]
            [other] = set(pids) - {holder}
            then(pids[other])
            os.kill(pids[holder], signal.SIGKILL)
            lost.append(holder)
            while holder in client.nthreads():
                time.sleep(0.05)
        return outcome(future)

    monkeypatch.setattr(pipeline, "RESULT_TIMEOUT_S", 0.5)
    monkeypatch.setattr(pipeline, "_outcome", of_dead_worker)


def test_a_call_goes_to_another_worker_if_the_first_does_not_answer(two_workers: Client) -> None:
    os.kill(_pids(two_workers)[0], signal.SIGSTOP)
    answers = {call_on_worker(two_workers, os.getpid, timeout=4) for _ in range(3)}
    assert answers == {_pids(two_workers)[1]}


def test_a_call_that_no_worker_answers_fails(two_workers: Client) -> None:
    for pid in _pids(two_workers):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError, match=r"none of the 2 dask worker\(s\) has answered after 1 s"):
        call_on_worker(two_workers, os.getpid, timeout=1)


def test_an_error_of_a_call_is_raised_as_it_is(two_workers: Client) -> None:
    def fails() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        call_on_worker(two_workers, fails, timeout=30)
