"""What all tests share: how hypothesis draws its examples, a process left as it was, one finished run."""

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.workflow.conftest import CONFIG, Project, write_input

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


@pytest.fixture(scope="session")
def input_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image files of the volume, written once."""
    folder = tmp_path_factory.mktemp("workflow") / "input"
    write_input(folder)
    return folder


@pytest.fixture(scope="session")
def finished(input_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run, to be read only."""
    project = Project(tmp_path_factory.mktemp("workflow") / "finished")
    shutil.copytree(input_folder, project.folder / "input")
    project.configure(CONFIG)
    project.run()
    return project
