"""Progress with a clock that the test sets."""

import logging
import sys

import pytest

from unet.jobs.progress import Progress


class Clock:
    """Clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines logged so far."""
    return [record.getMessage() for record in caplog.records]


def test_rate_and_time_left(clock: Clock) -> None:
    progress = Progress("predict", 12_000_000, "voxels", clock=clock)
    clock.now += 10
    progress.advance(3_000_000)
    assert progress.line() == "predict: 3M of 12M voxels (25 %), 300k voxels/s, 0:30 left"


def test_what_an_earlier_run_did_counts_as_done_but_not_as_speed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress("predict", 100, "blocks", done=60, clock=clock)
    assert messages(caplog) == ["predict: 60 of 100 blocks were done before"]
    clock.now += 10
    progress.advance(20)
    assert progress.line() == "predict: 80 of 100 blocks (80 %), 2 blocks/s, 0:10 left"


def test_lines_come_first_after_5_s_then_every_30_s_and_at_the_end(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress("ingest", 100, "blocks", clock=clock)
    for _ in range(100):
        clock.now += 1
        progress.advance(1)
    assert [line.split()[1] for line in messages(caplog)] == ["5", "35", "65", "95", "100"]


def test_nothing_to_do_is_all_done(clock: Clock) -> None:
    assert Progress("ingest", 0, "blocks", clock=clock).line().startswith("ingest: 0 of 0 blocks (100 %)")


def test_before_the_first_step_the_time_left_is_unknown(clock: Clock) -> None:
    clock.now += 1
    assert Progress("ingest", 9, "blocks", clock=clock).line().endswith("? left")


def test_a_terminal_gets_a_bar(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress("ingest", 4, "blocks", clock=clock)
    progress.advance(1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress.advance(1)
    assert capsys.readouterr().err.startswith("\r[############............] ingest: 2 of 4 blocks (50 %)")
    progress.advance(2)
    assert capsys.readouterr().err.endswith("\n")
