"""Let SIGTERM or SIGINT stop a training after its next step, with its state written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TrainingStoppedError(RuntimeError):
    """A signal has stopped the training; the state is written, and the next run continues from it."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets. All ranks learn it at the next step; then the state is written."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread may handle signals
        return
    before = {s: signal.signal(s, lambda *_: stopped.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
