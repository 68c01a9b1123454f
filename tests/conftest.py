"""What all tests share: how hypothesis draws its examples, and a process left as it was."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: a busy machine is not a defect. The same examples on every CI run; elsewhere they are drawn anew.
settings.register_profile("unet-em", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unet-em")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """A job sets up the whole process: its log and its answer to SIGTERM."""
    handler, root = signal.getsignal(signal.SIGTERM), logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = handlers
    root.setLevel(level)
