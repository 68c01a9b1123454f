"""The verdict: levels at their limits, and every rule with a run that it speaks of and one beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unet.run.report import next_steps as rules
from unet.run.report.next_steps import GAP, RULES, RunNumbers, ScoredVolume, Sweep, next_steps
from unet.run.report.usual_scores import LEVELS, USUAL, Kind
from unet.run.report.verdict import SegmentedVolume, judged_volume, verdict

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "report.md"
GOOD = {
    "true_objects": 100,
    "segmentation_v_rand": 0.98,
    "segmentation_v_info": 0.99,
    "v_rand": 0.98,
    "adapted_rand_error": 0.03,
    "voi_split": 0.2,
    "voi_merge": 0.2,
    "cremi_voi_split": 0.1,
    "cremi_voi_merge": 0.1,
    "average_precision_50": 0.9,
}


def volume(name: str = "new", learnt: bool = False, kind: Kind = "sections", **scores: Any) -> ScoredVolume:
    """A volume with good scores but for those that are given."""
    return ScoredVolume(name, learnt, kind, {**GOOD, **scores})


def run_of(*scored: ScoredVolume, **numbers: Any) -> RunNumbers:
    """A run of which no rule has anything to say but for what is given."""
    return RunNumbers(objects={"new": 90}, scored=scored or (volume(),), **numbers)


def told(run: RunNumbers) -> list[str]:
    """The rules that have something to say."""
    return [one.rule for one in next_steps(run)]


def sweep(chosen: float, *scores: float, score: str = "V_rand") -> Sweep:
    """Scores at thresholds 0.1, 0.2, ..."""
    return Sweep("segment.threshold", score, [((i + 1) / 10, value) for i, value in enumerate(scores)], chosen)


def test_of_a_good_run_no_rule_has_anything_to_say() -> None:
    assert told(run_of()) == []
    assert told(run_of(volume("old", learnt=True), volume())) == []


NOISY = dict.fromkeys(("cremi_voi_split", "cremi_voi_merge"), 0.02)
CASES = [
    ("no_objects", run_of(), replace(run_of(), objects={"new": 1})),
    ("not_scored", run_of(), replace(run_of(), scored=())),
    ("nothing_held_out", run_of(), run_of(volume(learnt=True))),
    ("few_objects", run_of(volume(true_objects=30)), run_of(volume(true_objects=29))),
    (
        "far_below_training",
        run_of(volume("old", learnt=True), volume(segmentation_v_rand=0.951, v_rand=0.951)),
        run_of(volume("old", learnt=True), volume(segmentation_v_rand=0.949, v_rand=0.949)),
    ),
    (
        "far_below_training",
        run_of(volume("old", True, "volume"), volume(kind="volume", voi_split=0.39)),
        run_of(volume("old", True, "volume"), volume(kind="volume", voi_merge=0.41)),
    ),
    (
        "far_below_training",
        run_of(volume("old", True, "separate"), volume(kind="separate", average_precision_50=0.81)),
        run_of(volume("old", True, "separate"), volume(kind="separate", average_precision_50=0.79)),
    ),
    ("membranes_left_out", run_of(volume(v_rand=0.999)), run_of(volume(segmentation_v_rand=0.95))),
    (
        "membranes_left_out",
        run_of(volume(segmentation_v_rand=0.95), method="watershed"),
        run_of(volume(segmentation_v_rand=0.95)),
    ),
    ("merges_dominate", run_of(volume(cremi_voi_merge=0.15)), run_of(volume(cremi_voi_merge=0.151))),
    ("merges_dominate", run_of(volume(**{**NOISY, "cremi_voi_merge": 0.049})), run_of(volume(cremi_voi_merge=2))),
    ("splits_dominate", run_of(volume(cremi_voi_split=0.15)), run_of(volume(cremi_voi_split=0.151))),
    ("largest_holds_most", run_of(largest_share={"new": 0.5}), run_of(largest_share={"new": 0.51})),
    ("many_small", run_of(small_share={"new": 0.2}), run_of(small_share={"new": 0.21})),
    ("optimum_not_flat", run_of(sweeps=[sweep(0.2, 0.96, 0.97, 0.96)]), run_of(sweeps=[sweep(0.2, 0.9, 0.97, 0.97)])),
    (
        "optimum_not_flat",
        run_of(sweeps=[sweep(0.2, 1.05, 1.0, 0.5, score="VOI")]),
        run_of(sweeps=[sweep(0.2, 1.06, 1.0, 0.5, score="VOI")]),
    ),
    ("optimum_at_the_end", run_of(sweeps=[sweep(0.2, 0.9, 0.9, 0.9)]), run_of(sweeps=[sweep(0.3, 0.9, 0.9, 0.9)])),
    ("still_learning", run_of(validation_losses=[4, 3, 2, 1.97]), run_of(validation_losses=[4, 3, 2, 1.95])),
]


@pytest.mark.parametrize(("rule", "silent", "speaking"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_speaks_beyond_its_limit_alone(rule: str, silent: RunNumbers, speaking: RunNumbers) -> None:
    assert told(silent) == []
    assert told(speaking) == [rule]


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, _, _ in CASES} == {rule.__name__ for rule in RULES}


def test_urgent_advice_comes_first() -> None:
    run = run_of(volume(true_objects=3, cremi_voi_merge=1.0), small_share={"new": 0.9}, sweeps=[sweep(0.1, 1, 0, 0)])
    assert told(run) == ["few_objects", "merges_dominate", "many_small", "optimum_at_the_end"]


@pytest.mark.parametrize(
    ("kind_of_error", "numbers", "words"),
    [
        ("merge", {"method": "components", "border_weight": 5.0}, ["Raise segment.threshold", "weights.w0 than 5"]),
        ("merge", {"method": "watershed"}, ["Lower segment.agglomerate.threshold"]),
        ("merge", {"method": "watershed", "affinities": True}, ["Raise segment.agglomerate.threshold"]),
        ("split", {"method": "components"}, ["Lower segment.threshold"]),
        ("split", {"method": "watershed"}, ["Raise segment.agglomerate.threshold"]),
        ("split", {"method": "watershed", "affinities": True}, ["Lower segment.agglomerate.threshold"]),
    ],
)
def test_advice_turns_the_threshold_the_right_way(kind_of_error: str, numbers: dict, words: list[str]) -> None:
    [advice] = next_steps(run_of(volume(**{f"cremi_voi_{kind_of_error}": 1.0}), **numbers))
    assert all(word in advice.do for word in words)


def test_held_out_volumes_are_judged_where_there_are_any() -> None:
    old, new = volume("old", learnt=True), volume("new", segmentation_v_rand=0.96)
    found = verdict([SegmentedVolume("new", (1, 10, 10), (40, 4, 4), 1)], "components", run_of(old, new))
    assert [(one.name, one.level) for one in found.judged] == [("new", "usual")]
    assert found.made == ["new: 1 object, components, in 1 × 10 × 10 voxels (0.04 × 0.04 × 0.04 µm)."]
    [alone] = verdict([], "components", run_of(old)).judged
    assert "from which the network learnt" in alone.sentence


def test_a_generated_volume_is_said_to_be_one() -> None:
    sample = SegmentedVolume("new", (1, 10, 10), (40, 4, 4), 1, is_generated=True)
    assert (
        verdict([sample], "components", run_of())
        .made[0]
        .endswith("µm). The volume is generated; real tissue is harder.")
    )


@pytest.mark.parametrize("kind", USUAL)
def test_a_score_on_a_limit_has_the_better_level(kind: Kind) -> None:
    for usual in USUAL[kind]:
        sign = 1 if usual.higher_is_better else -1
        assert [usual.level(limit) for limit in usual.limits] == [0, 1, 2]
        assert [usual.level(limit - sign * 1e-9) for limit in usual.limits] == [1, 2, 3]


def test_the_worst_score_of_a_volume_is_its_level() -> None:
    found = judged_volume(volume(segmentation_v_info=0.8))
    assert found is not None
    assert found.level == LEVELS[3]
    assert [one.level for one in found.scores] == [LEVELS[0], LEVELS[3]]
    assert judged_volume(ScoredVolume("new", False, "sections", {})) is None


def test_the_page_lists_every_rule_and_every_limit() -> None:
    page = PAGE.read_text()
    named = [
        line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.split("`")[1].islower()
    ]
    assert [name for name in named if hasattr(rules, name)] == [rule.__name__ for rule in RULES]
    for usual in [one for scores in USUAL.values() for one in scores]:
        assert f"| {usual.name} |" in page
        assert " | ".join(f"{limit:g}" for limit in usual.limits) in page
    constants = [rules.FEW_OBJECTS, rules.DOMINATES, rules.MIN_BITS, rules.BETTER_BY_THRESHOLDING]
    for limit in [*constants, *GAP.values(), *rules.FLAT.values(), rules.SMALL_VOXELS]:
        assert f"{limit:g}" in page
