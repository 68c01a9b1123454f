"""Blocks scheduled by dask: each once, memory bounded, failures and signals raised after the others are finished."""

import errno
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs import pipeline
from unet.jobs.dask_clients import local_client, scheduler_client
from unet.jobs.pipeline import (
    BlockError,
    Interrupted,
    ReadInferWrite,
    Stop,
    Stopped,
    run_pipeline,
)

BOXES = Grid((12, 4, 4), (1, 4, 4)).boxes()


def nothing(array: Any, box: Box, stop: Stop | None = None) -> None:
    return None


def run(boxes: Iterable[Box], read: Any, infer: Any, write: Any, max_in_flight: int = 3, **how: Any) -> int:
    """Run the three steps on every block, in this process."""
    work = ReadInferWrite(read, lambda array, box, stop: infer(array, box), write)
    with local_client(max_in_flight) as client:
        return run_pipeline(boxes, work, client, max_in_flight=max_in_flight, **how)


@pytest.mark.parametrize("max_in_flight", [1, 3, 20])
def test_every_block_goes_through_the_three_steps_once(max_in_flight: int) -> None:
    results: dict[Box, int] = {}
    threads = set()

    def done(box: Box, result: int) -> None:
        threads.add(threading.current_thread())
        assert box not in results
        results[box] = result

    finished = run(
        BOXES,
        lambda box: box.start[0],
        lambda z, box: 10 * z + box.stop[0],
        lambda value, box: value + 1000,
        done=done,
        max_in_flight=max_in_flight,
    )
    assert finished == len(BOXES)
    assert results == {box: 10 * box.start[0] + box.stop[0] + 1000 for box in BOXES}
    assert threads == {threading.current_thread()}


def test_no_blocks_at_all() -> None:
    assert run([], lambda box: 0, nothing, nothing) == 0


def test_one_block_holds_the_device_and_the_window_bounds_what_is_in_flight() -> None:
    counts = {"device": 0, "flight": 0}
    peaks = dict(counts)
    lock = threading.Lock()

    def change(name: str, by: int) -> None:
        with lock:
            counts[name] += by
            peaks[name] = max(peaks[name], counts[name])

    def infer(array: Any, box: Box) -> None:
        change("device", 1)
        time.sleep(0.005)
        change("device", -1)

    run(
        BOXES,
        lambda box: change("flight", 1),
        infer,
        nothing,
        done=lambda box, result: change("flight", -1),
        max_in_flight=3,
    )
    assert peaks == {"device": 1, "flight": 3}


def test_arrays_are_passed_without_a_copy_and_dropped_once_written() -> None:
    alive: list[weakref.ref] = []
    peak = 0

    def read(box: Box) -> np.ndarray:
        array = np.full(100_000, box.start[0])
        alive.append(weakref.ref(array))
        return array

    def infer(array: np.ndarray, box: Box) -> np.ndarray:
        assert any(reference() is array for reference in alive)
        return read(box)

    def write(array: np.ndarray, box: Box) -> None:
        nonlocal peak
        assert any(reference() is array for reference in alive)
        peak = max(peak, sum(reference() is not None for reference in alive))

    run(Grid((40, 1, 1), (1, 1, 1)).boxes(), read, infer, write, max_in_flight=3)
    assert len(alive) == 80
    assert peak <= 2 * 3 + 2  # window and result of each block in flight, and what is being dropped
    assert not any(reference() is not None for reference in alive)


def test_a_block_that_fails_once_is_repeated() -> None:
    failed = set()

    def infer(array: Any, box: Box) -> int:
        if box in BOXES[3:5] and box not in failed:
            failed.add(box)
            raise OSError("a hiccup")
        return box.start[0]

    results: list[int] = []
    run(BOXES, lambda box: 0, infer, lambda z, box: z, done=lambda box, z: results.append(z))
    assert sorted(results) == list(range(12))
    assert len(failed) == 2


@pytest.mark.parametrize("failing_step", [0, 1, 2])
def test_a_block_that_fails_twice_is_named_after_the_blocks_in_flight_are_done(
    failing_step: int, capfd: pytest.CaptureFixture
) -> None:
    started, finished = set(), set()

    def step(number: int, box: Box) -> None:
        started.add(box)
        if number == failing_step and box == BOXES[4]:
            raise OSError("no space left")

    with pytest.raises(BlockError, match=r"block 4:5,0:4,0:4 .*no space left") as caught:
        run(
            BOXES,
            lambda box: step(0, box),
            lambda array, box: step(1, box),
            lambda array, box: step(2, box),
            done=lambda box, result: finished.add(box),
        )
    assert isinstance(caught.value.__cause__, OSError)
    assert finished == started - {BOXES[4]}
    assert len(finished) < len(BOXES) - 1
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_keeps_its_cause() -> None:
    def write(array: Any, box: Box) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/a.partial")

    with pytest.raises(BlockError, match=r"OSError: .*No space left on device: '/disk/a.partial'") as caught:
        run(BOXES, lambda box: 0, nothing, write)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_a_block_that_hangs_is_named_and_the_others_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "DRAIN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(pipeline, "STOP_TIMEOUT_S", 0.5)
    released, finished = threading.Event(), []

    def read(box: Box) -> None:
        if box == BOXES[2]:
            released.wait(60)

    with local_client(3) as client:
        work = ReadInferWrite(read, nothing, nothing)
        with pytest.raises(BlockError, match=r"block 2:3,0:4,0:4 failed twice, .*not finished after 3 s"):
            run_pipeline(
                BOXES, work, client, max_in_flight=3, block_timeout=3, done=lambda box, _: finished.append(box)
            )
        released.set()
    assert sorted(finished) == [box for box in BOXES if box != BOXES[2]]


def test_blocks_that_cannot_finish_in_time_after_a_signal_are_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "DRAIN_TIMEOUT_S", 0.5)
    finished = []

    def infer(array: Any, box: Box, stop: Stop) -> None:
        while box.start[0] > 1:  # endless but for the asking
            time.sleep(0.01)
            if stop():
                raise Stopped("cancelled")

    def done(box: Box, result: Any) -> None:
        finished.append(box)
        if len(finished) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    begin = time.monotonic()
    with local_client(2) as client, pytest.raises(Interrupted, match="SIGTERM received; 2 blocks are finished"):
        run_pipeline(BOXES, ReadInferWrite(lambda box: 0, infer, nothing), client, done=done, max_in_flight=2)
    assert finished == BOXES[:2]
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_sigterm_does_not_cut_the_blocks_in_flight_short(first: signal.Signals) -> None:
    """SLURM sends two to every job that it ends."""
    started, finished = [], []

    def read(box: Box) -> None:
        started.append(box)
        time.sleep(0.05)

    def done(box: Box, result: Any) -> None:
        finished.append(box)
        if len(finished) in (2, 3):
            os.kill(os.getpid(), first if len(finished) == 2 else signal.SIGTERM)

    with pytest.raises(Interrupted, match=f"{first.name} received"):
        run(BOXES, read, nothing, nothing, done=done, max_in_flight=3)
    assert sorted(started) == sorted(finished)
    assert 3 <= len(finished) < len(BOXES)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_blocks_in_flight(number: signal.Signals) -> None:
    started, finished = [], []
    usual = signal.getsignal(number)

    def read(box: Box) -> None:
        started.append(box)

    def done(box: Box, result: Any) -> None:
        finished.append(box)
        if len(finished) == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match=number.name):
        run(BOXES, read, nothing, nothing, done=done, max_in_flight=2)
    assert sorted(started) == sorted(finished)
    assert 3 <= len(finished) < len(BOXES)
    assert signal.getsignal(number) is usual


def test_an_error_of_the_callback_ends_the_run() -> None:
    def done(box: Box, result: Any) -> None:
        raise OSError("the journal cannot be written")

    with pytest.raises(OSError, match="journal"):
        run(BOXES, lambda box: 0, nothing, nothing, done=done)


def test_runs_from_another_thread_than_the_main_one() -> None:
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(run(BOXES, lambda box: 0, nothing, nothing)))
    thread.start()
    thread.join()
    assert counts == [len(BOXES)]


def test_steps_are_never_pickled() -> None:
    class Model:
        def __reduce__(self) -> Any:
            raise AssertionError("pickled")

        def infer(self, array: Any, box: Box) -> int:
            return 1

    assert run(BOXES, lambda box: 0, Model().infer, nothing) == len(BOXES)


def listening() -> set[tuple[str, int]]:
    """Addresses at which this process can be reached."""
    return {tuple(one.laddr) for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("asked", [False, True])
def test_a_dashboard_is_for_this_machine_alone_and_told_where_it_was_asked_for(
    caplog: pytest.LogCaptureFixture, asked: bool
) -> None:
    caplog.set_level("INFO", "unet.jobs.dask_clients")
    before = listening()
    with local_client(1, dashboard=asked):
        assert {address for address, _ in listening() - before} == {"127.0.0.1"}
    told = [one.getMessage().rpartition(":")[0] for one in caplog.records if one.name == "unet.jobs.dask_clients"]
    assert told == ["dask dashboard: http://127.0.0.1"] * asked


def test_no_scheduler_at_the_address_is_told_with_the_key_and_the_address() -> None:
    with (
        pytest.raises(ConnectionError, match=r"predict\.scheduler: no dask scheduler answers at tcp://127\.0\.0\.1:9 "),
        scheduler_client("tcp://127.0.0.1:9", timeout=1),
    ):
        pass


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\nServer: other\r\n\r\n"], ids=["silent", "other"])
def test_a_program_that_is_no_scheduler_is_not_waited_for(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        connection = pool.submit(server.accept)
        pool.submit(lambda: connection.result()[0].sendall(answer))
        begin = time.perf_counter()
        with (
            pytest.raises(
                ConnectionError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:\d+ \(.+\); start one"
            ),
            scheduler_client(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout=0.5),
        ):
            pass
        assert time.perf_counter() - begin < 10
        connection.result()[0].close()
