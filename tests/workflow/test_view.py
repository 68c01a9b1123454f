"""`snakemake view` serves a run until Ctrl-C: it runs nothing else, and leaves no lock behind."""

import json
import os
import re
import signal
import time
import urllib.request

import pytest

from tests.workflow.conftest import PATIENCE, Project, kill_session

pytest.importorskip("neuroglancer", reason="needs neuroglancer: pip install '.[view]'")


def test_a_run_is_served_until_it_is_stopped(copy_of_finished: Project) -> None:
    said = copy_of_finished.folder / "said.txt"
    process = copy_of_finished.start("view", "--config", "view={position: [1, 20, 30]}", output=said)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (link := re.search(r"Open (\S+)open.html\n", said.read_text() if said.exists() else "")):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert b'"v/view/#!%7B' in urllib.request.urlopen(f"{link[1]}open.html").read()
        assert b"<script" in urllib.request.urlopen(f"{link[1]}v/view/").read()
        state = json.load(urllib.request.urlopen(f"{link[1]}state.json"))
        names = ["splits", "merges", "raw", "probability", "truth", "segmentation", "errors"]
        assert [layer["name"] for layer in state["layers"]] == names
        assert list(copy_of_finished.folder.glob(".snakemake/locks/*")) == []  # another run may start
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    finally:
        kill_session(process)
    text = said.read_text()
    assert re.findall(r"\d+ jobs?: (.*)", text) == ["view"]
    assert "stopped; the link no longer works" in text
    assert list(copy_of_finished.folder.glob(".snakemake/locks/*")) == []
