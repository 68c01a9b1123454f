"""A training that was killed or stopped goes on, and ends with the bits of one that was not."""

import os
import signal

import pytest
import torch

from tests.unit.training.stripes import (
    MODEL,
    SHORT,
    KilledAt,
    Scores,
    affinity_sampler,
    assert_same_bits,
    lines,
    sampler,
    trained,
)
from unet.training.affinity_loss import AffinityLoss
from unet.training.loss import WeightedCrossEntropy
from unet.training.shape_descriptor_loss import WithShapeDescriptors
from unet.training.shape_descriptors import ShapeDescriptors
from unet.training.state import StateFile, TrainingStateError
from unet.training.stop_requests import TrainingStoppedError

LEARNT = {
    "classes": (lambda config: sampler(config, config.augment), WeightedCrossEntropy),
    "affinities": (affinity_sampler, AffinityLoss),
    "descriptors": (
        lambda config: affinity_sampler(config, ShapeDescriptors((1, 2, 2), axes=(1, 2))),
        lambda: WithShapeDescriptors(AffinityLoss(), 6, weight=1.0),
    ),
}


@pytest.mark.parametrize(
    ("optimizer", "normalisation", "output"),
    [
        *(("sgd", "none", "classes"), ("sgd", "batch", "classes")),
        *(("adamw", "none", "descriptors"), ("adamw", "batch", "affinities")),
    ],
)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, optimizer, normalisation, output):
    average = 0.9 if output == "descriptors" else None  # of the auxiliary head too
    config = SHORT.model_copy(update={"optimizer": optimizer, "weight_average": average})
    model = MODEL.model_copy(update={"normalisation": normalisation})
    patches, objective = LEARNT[output]
    whole, expected = trained(tmp_path / "whole", config, patches(config), model, objective=objective())
    for killed_at in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", config, KilledAt(patches(config), killed_at), model, objective=objective())
    resumed, result = trained(tmp_path / "killed", config, patches(config), model, objective=objective())
    assert_same_bits(whole, resumed)
    assert (result.resumed_from, result.steps, result.loss) == (6, 8, expected.loss)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "killed")] == [
        (line["step"], line["loss"]) for line in lines(tmp_path / "whole")
    ]


def test_before_its_minutes_are_over_a_state_is_not_written(tmp_path, monkeypatch):
    saved = []
    save = StateFile.save
    monkeypatch.setattr(StateFile, "save", lambda file, *what: (saved.append(what[0].step), save(file, *what)))
    trained(tmp_path, SHORT.model_copy(update={"checkpoint_minutes": 600}))
    assert saved == [8]


def test_a_finished_training_is_not_repeated(tmp_path):
    model, _ = trained(tmp_path, SHORT)
    again, result = trained(tmp_path, SHORT)
    assert_same_bits(model, again)
    assert result.resumed_from == 8
    assert [line["step"] for line in lines(tmp_path)] == [4, 8]


def test_a_state_of_another_training_is_refused_and_left_as_it_is(tmp_path):
    trained(tmp_path, SHORT, fingerprint="a")
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(TrainingStateError, match=r"its fingerprint is a, this one's b. Move it away"):
        trained(tmp_path, SHORT, fingerprint="b")
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_state_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"cut short")
    with pytest.raises(TrainingStateError, match=r"state.pt cannot be read: .*Remove it to train from the start"):
        trained(tmp_path, SHORT)


def test_going_on_with_other_threads_is_told(tmp_path, caplog):
    threads = torch.get_num_threads()
    trained(tmp_path, SHORT)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({**state, "threads": threads + 1}, tmp_path / "state.pt")
    trained(tmp_path, SHORT)
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"was written with {threads + 1} threads, and the training goes on with {threads}" in warning.message


def test_going_on_with_the_same_threads_is_not_told(tmp_path, caplog):
    for killed_at in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, SHORT, KilledAt(sampler(SHORT), killed_at))
    assert "threads" not in caplog.text


def test_the_same_threads_give_the_same_bits_on_any_cores(tmp_path):
    """A sum of several threads depends on how many share it, not on where they run."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    config = SHORT.model_copy(update={"batch": 1})
    try:
        torch.set_num_threads(2)
        everywhere, _ = trained(tmp_path / "a", config, threads=2)
        os.sched_setaffinity(0, {min(cores)})
        on_one, _ = trained(tmp_path / "b", config, threads=2)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    assert_same_bits(everywhere, on_one)


def test_up_to_one_thread_per_sample_gives_the_same_bits_also_after_a_kill(tmp_path):
    config, model = SHORT.model_copy(update={"batch": 3}), MODEL.model_copy(update={"normalisation": "batch"})
    alone, _ = trained(tmp_path / "alone", config, model=model, threads=1)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", config, KilledAt(sampler(config, config.augment), 5), model=model, threads=2)
    resumed, result = trained(tmp_path / "killed", config, model=model, threads=3)
    assert result.resumed_from == 5
    assert_same_bits(alone, resumed)


def test_lines_after_the_resumed_step_and_broken_ones_are_dropped(tmp_path):
    config = SHORT.model_copy(update={"checkpoint_minutes": 60.0})
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, config, KilledAt(sampler(config), 6))
    with (tmp_path / "training.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    trained(tmp_path, config)
    assert [line["step"] for line in lines(tmp_path)] == [4, 8]


def test_a_signal_stops_after_one_more_step_with_the_state_written(tmp_path):
    config = SHORT.model_copy(update={"checkpoint_minutes": 60.0, "log_steps": 3})
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStoppedError, match="after step 4 of 8"):
        trained(tmp_path, config, on_line=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before
    resumed, result = trained(tmp_path, config)
    assert result.resumed_from == 4
    assert_same_bits(resumed, trained(tmp_path / "whole", config)[0])


def test_the_best_weights_outlive_a_kill(tmp_path):
    config = SHORT.model_copy(update={"validation_steps": 2})
    whole, expected = trained(tmp_path / "whole", config, validation=Scores(0.3, 0.7, 0.6, 0.5))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", config, KilledAt(sampler(config, config.augment), 5), validation=Scores(0.3, 0.7))
    resumed, result = trained(tmp_path / "killed", config, validation=Scores(0.6, 0.5))
    assert_same_bits(whole, resumed)
    assert result[1:2] + result[3:5] == expected[1:2] + expected[3:5]


def test_a_signal_in_the_last_step_loses_nothing(tmp_path):
    """The training is finished then, and need not be run again."""
    config = SHORT.model_copy(update={"log_steps": SHORT.steps - 1, "checkpoint_minutes": 60.0})
    _, result = trained(tmp_path, config, on_line=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    assert result.steps == config.steps
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"]["step"] == config.steps
