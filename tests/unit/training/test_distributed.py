"""Two processes that train together do what one does with the doubled batch; neither outlives the other."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unet.config.model import ModelConfig
from unet.config.train import AugmentConfig, TrainConfig
from unet.training.distributed import Rank, run_ranks
from unet.training.job import TrainingJob
from unet.training.validation import Validation
from unet.volumes.intensity import Normalisation
from unet.volumes.layout import VolumeLayout
from unet.volumes.volume import Volume

SHAPE, BLOCK = (2, 96, 96), (2, 96, 96)
TRAIN = TrainConfig(
    steps=12,
    batch=2,
    tile=60,
    learning_rate=0.02,
    momentum=0.9,
    warmup_steps=2,
    log_steps=1,
    validation=["train"],
    validation_steps=6,
    augment=AugmentConfig(),
)


OUTPUTS = {"classes": ["membrane", "interior"], "affinities": ["y+1", "x+3"]}


def job(folder: Path, gpus: int, batch: int, output: str = "classes", **changes) -> TrainingJob:
    """On a volume of bright and dark stripes in `folder`; as ids, the bright ones are one body."""
    layout = VolumeLayout(SHAPE, "uint8", (50, 4, 4), (0, 0, 0), (1, 48, 48), BLOCK, None, False)
    volume = Volume(folder / "train", layout)
    if not volume.folder.exists():
        fill(volume)
    return TrainingJob(
        volumes={"train": volume},
        normalisations={"train": Normalisation((120.0,), (40.0,))},
        held_back={},
        model=ModelConfig(depth=2, base_channels=4, dropout=0, output=output),
        train=TRAIN.model_copy(update={"gpus": gpus, "batch": batch, **changes}),
        outputs=OUTPUTS[output],
        state=folder / f"{gpus}" / "state.pt",
        curve=folder / f"{gpus}" / "training.jsonl",
        tensorboard=None,
        fingerprint="same",
        threads=2,
    )


def fill(volume: Volume) -> None:
    x = np.arange(96)
    target = np.broadcast_to((x // 6 % 2).astype(np.uint8), SHAPE)
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    raw = np.clip(80 + 80 * target + noise, 0, 255).astype(np.uint8)
    weights = np.ones(SHAPE, np.float32)
    weights[0, :, :50] = 0  # the ranks hold different numbers of labelled pixels
    (box,) = volume.layout.grid.boxes()
    for store, values in (("raw", raw), ("targets", target), ("weights", weights)):
        volume.create(store, values.dtype.name).write_block(box, values)


def curve(one: TrainingJob) -> list[dict]:
    return [json.loads(line) for line in one.curve.read_text().splitlines()]


@pytest.mark.parametrize("output", OUTPUTS)
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path, output):
    alone, together = (job(tmp_path, gpus, batch, output) for gpus, batch in ((1, 4), (2, 2)))
    one, expected = run_ranks([torch.device("cpu")], alone.run)
    two, result = run_ranks([torch.device("cpu")] * 2, together.run)
    for a, b in zip(curve(alone), curve(together), strict=True):
        assert a["step"] == b["step"]
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    assert result.validation.score == pytest.approx(expected.validation.score, abs=1e-3)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    # and a rerun of both finds the training done
    _, again = run_ranks([torch.device("cpu")] * 2, together.run)
    assert again.resumed_from == result.steps == 12


def fails_on_the_second_rank(rank: Rank, device: torch.device) -> float:
    if rank.index == 1:
        os._exit(7)
    return rank.sum_over_ranks(torch.ones(1)).item()


def test_whole_tiles_are_learnt_and_validated_without_padding(tmp_path):
    """A padded network of depth 2 answers for the 48 px that it reads; a tile of the validation reads more."""
    one = job(tmp_path, 1, 2, tile=48, loss_region="tile")
    one = replace(one, model=one.model.model_copy(update={"convolution": "same"}))
    batch, validation = one._sampler().batch(0), one._validation(torch.device("cpu"), 1)
    assert batch.raw.shape[-2:] == batch.target.shape[-2:] == (48, 48)
    assert isinstance(validation, Validation)
    geometry = validation.geometry
    assert geometry.output == (1, 48, 48)
    assert min(geometry.margin[1:]) > 0
    one.run()
    assert [row["step"] for row in curve(one) if "validation_loss" in row] == [6, 12]


def test_the_death_of_one_process_ends_the_job():
    with pytest.raises(RuntimeError):
        run_ranks([torch.device("cpu")] * 2, fails_on_the_second_rank)


def waits(rank: Rank, device: torch.device) -> None:
    Path(os.environ["PIDS"], str(rank.index)).write_text(str(os.getpid()))
    time.sleep(600)


def test_a_killed_parent_leaves_no_child_behind(tmp_path):
    code = (
        "import importlib.util, sys, torch\n"
        "from unet.training.distributed import run_ranks\n"
        "import operator\n"
        f"spec = importlib.util.spec_from_file_location('ranks', {__file__!r})\n"
        "sys.path.insert(0, str(__import__('pathlib').Path(spec.origin).parent))\n"
        "import test_distributed\n"
        "run_ranks([torch.device('cpu')] * 2, test_distributed.waits)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.splitlines()))
    environment = {**os.environ, "PIDS": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    child = _pid_in(tmp_path / "1")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its parent by 60 s")


def _pid_in(path: Path) -> int:
    for _ in range(3000):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    pytest.fail(f"{path} did not appear within 300 s")
