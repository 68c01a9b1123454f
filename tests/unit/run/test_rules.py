"""The table of rules, against the rules themselves, and against jobs that were counted by hand."""

import re
from collections import Counter
from typing import Any

import pytest

from tests.test_house import rules
from unet.config.root import Config, load_config
from unet.run.rules import RULES, SOLVED, WATERSHED, cost_of, intermediate_rules, job_counts, result_rules
from unet.volumes.layout import VolumeLayout


def configuration(kind: str = "instances", **sections: Any) -> Config:
    """Two volumes: `a` is learnt from and scored, `b` has no labels."""
    volumes = {"a": {"raw": "a.tif", "labels": "l.tif", "label_kind": kind}, "b": {"raw": "b.tif"}}
    predict = {"volumes": ["a", "b"], "job_voxels": 64}
    return load_config({"volumes": volumes, "train": {"volumes": ["a"]}, "predict": predict, **sections})


def layout(sections: int) -> VolumeLayout:
    """The layout of a volume with a block range per section (`job_voxels` of `configuration`)."""
    return VolumeLayout((sections, 8, 8), "uint8", (50, 4, 4), (0, 0, 0), (1, 8, 8), (1, 8, 8), None, False)


def counted(config: Config) -> Counter[str]:
    """Jobs of each rule; `a` has 3 block ranges and `b` 2."""
    counts: Counter[str] = Counter()
    for one in job_counts(config, {"a": layout(3), "b": layout(2)}):
        counts[one.rule] += one.jobs
    return counts


def test_the_table_names_the_rules_of_the_workflow() -> None:
    assert RULES.keys() == rules().keys()


@pytest.mark.parametrize("rule", RULES)
def test_the_table_agrees_with_the_rule(rule: str) -> None:
    """The wildcards of its output say whether it is of a volume, of block ranges, and of a store."""
    text, own = rules()[rule], RULES[rule]
    wildcards = set(re.findall(r"\{(volume|block_range|store)\}", text))
    assert own.blockwise == ("block_range" in wildcards)
    assert (own.label_volumes is not None) == ("store" in wildcards)
    if own.volumes is not None:
        assert own.per_volume == ("volume" in wildcards)
    [threads] = re.findall(r"^    threads: (.+)$", text, re.MULTILINE)
    assert threads in ("PREDICT_THREADS", "TRAIN_THREADS") or own.cost.threads == int(threads), threads


def test_jobs_from_nothing_to_the_report() -> None:
    learned = counted(configuration(segment={"threshold": 0.5}))
    assert learned == {
        **{"survey": 2, "check_model": 2, "ingest": 5, "histogram": 5, "intensity_statistics": 2},
        **{"targets": 3, "check_labels": 1, "weight_map": 3, "train": 1, "predict": 5},
        **{"segment": 5, "merge": 2, "relabel": 5, "report": 1},
    }


def test_scores_and_a_chosen_threshold_are_more_jobs() -> None:
    segment = {"method": "watershed", "threshold": "auto", "agglomerate": {"threshold": "auto"}}
    evaluate = {"volumes": ["a"], "threshold_volumes": ["a"]}
    more = counted(configuration(segment=segment, evaluate=evaluate)) - counted(configuration())
    assert more == {
        **{"threshold_sweep": 1, "choose_threshold": 1, "region_graph": 5, "evaluate": 1},
        **{"agglomeration_threshold_sweep": 1, "choose_agglomeration_threshold": 1},
    }


def test_parts_of_a_large_volume_are_jobs_before_the_merge() -> None:
    one = counted(configuration())
    several = counted(configuration(segment={"merge_voxels": 64}))
    assert several - one == {"merge_part": 3 + 2}
    assert not one["merge_part"]


def test_merge_errors_are_looked_for_once_per_predicted_volume() -> None:
    segment = {"method": "watershed"}
    more = counted(configuration(segment={**segment, "suspected_merges": {}})) - counted(configuration(segment=segment))
    assert more == {"suspected_merges": 2}


def test_affinities_have_no_threshold_of_a_class() -> None:
    evaluate = {"volumes": ["a"], "threshold_volumes": ["a"]}

    def jobs(output: str, method: str) -> Counter[str]:
        segment = {"method": "watershed", "agglomerate": {"threshold": "auto", "method": method}}
        return counted(configuration(model={"output": output}, segment=segment, evaluate=evaluate))

    of_classes, of_affinities = jobs("classes", "mean"), jobs("affinities", "average_linkage")
    assert of_classes - of_affinities == {"threshold_sweep": 1, "choose_threshold": 1}
    assert not of_affinities - of_classes


def test_a_chosen_decoder_is_more_jobs_on_the_volumes_that_choose_it() -> None:
    segment, evaluate = {"method": "watershed"}, {"threshold_volumes": ["a"]}
    fixed, auto = (configuration(segment=one, evaluate=evaluate) for one in (segment, {**segment, "decoder": "auto"}))
    chosen = {"candidate_fragments": 3, "candidate_graph": 3, "decoder_sweep": 1, "choose_decoder": 1}
    assert counted(auto) - counted(fixed) == chosen
    assert not counted(fixed) - counted(auto)


def test_what_a_candidate_costs_is_counted_for_each() -> None:
    def seconds(rule: str, **candidates: Any) -> float:
        segment = {"method": "watershed", "decoder": "auto", "candidates": candidates}
        return 1 / cost_of(rule, configuration(segment=segment, evaluate={"threshold_volumes": ["a"]})).rate

    one: dict[str, Any] = {"fragments": [{}], "thresholds": [0.5], "join_fragments_below": [0]}
    for more, rules_of_more in (
        ({"fragments": [{}, {"threshold": 0.4}]}, {"candidate_fragments", "candidate_graph", "decoder_sweep"}),
        ({"thresholds": [0.4, 0.5]}, {"decoder_sweep"}),
    ):
        for rule in ("candidate_fragments", "candidate_graph", "decoder_sweep"):
            factor = 2 if rule in rules_of_more else 1
            assert seconds(rule, **{**one, **more}) == pytest.approx(factor * seconds(rule, **one))


def test_the_widest_candidate_decides_what_is_read_around_a_block() -> None:
    layout = VolumeLayout((64, 64, 64), "uint8", (8, 8, 8), (0, 0, 0), (8, 8, 8), (16, 16, 16), None, False)
    wide, narrow = ({"watershed": {"expand_px": length}} for length in (20, 2))

    def halo(*fragments: dict[str, Any]) -> tuple[int, ...]:
        segment = {"method": "watershed", "connectivity": "volume", "decoder": "auto"}
        segment["candidates"] = {"fragments": list(fragments)}
        asked = configuration(segment=segment, evaluate={"threshold_volumes": ["a"]})
        assert RULES["segment"].halo(asked, layout) == RULES["candidate_fragments"].halo(asked, layout)
        return RULES["segment"].halo(asked, layout)

    assert halo(narrow, wide) == halo(wide) > halo(narrow)


def test_annotated_classes_are_labelled_as_well() -> None:
    assert counted(configuration("interior")) - counted(configuration()) == {"segment": 3, "merge": 1, "relabel": 3}


def test_with_a_given_model_nothing_is_learnt() -> None:
    jobs = counted(configuration(model={"checkpoint": "model.pt"}))
    assert not {"train", "weight_map", "targets"} & jobs.keys()


def test_the_sample_is_made_where_a_volume_is_a_part_of_it() -> None:
    volumes = {"a": {"raw": "results/sample/raw.tif", "labels": "l.tif"}, "b": {"raw": "b.tif"}}
    sampled = configuration(volumes=volumes)
    assert counted(sampled)["sample"] == 1
    assert "sample" not in counted(configuration())


def test_a_watershed_and_a_region_graph_have_costs_of_their_own() -> None:
    plain, watershed = configuration(), configuration(segment={"method": "watershed"})
    assert cost_of("segment", watershed) is WATERSHED
    assert cost_of("merge", watershed) is SOLVED
    assert cost_of("segment", plain) is RULES["segment"].cost
    assert cost_of("ingest", watershed) is RULES["ingest"].cost


def test_verify_reads_the_stores_that_are_results() -> None:
    assert result_rules() == ["ingest", "targets", "weight_map", "predict", "relabel"]
    between = ["candidate_fragments", "candidate_graph", "segment", "region_graph", "measure"]
    assert sorted(intermediate_rules()) == sorted(between)


def test_a_region_graph_reads_as_far_as_its_longest_step() -> None:
    """Two sections are skipped, so that a contact is up to three sections long."""
    layout = VolumeLayout((9, 9, 9), "uint8", (50, 4, 4), (0, 0, 0), (1, 3, 3), (3, 3, 3), None, False)
    segment = {"method": "watershed", "connectivity": "section", "max_section_gap": 2}
    asked = configuration(segment=segment)
    assert RULES["region_graph"].halo(asked, layout) == (3, 1, 1)
    assert RULES["segment"].halo(asked, layout)[0] == 0
    assert RULES["ingest"].halo(asked, layout) == (0, 0, 0)


def test_jobs_of_affinities_read_as_far_as_these_reach() -> None:
    layout = VolumeLayout((64, 64, 64), "uint8", (8, 8, 8), (0, 0, 0), (8, 8, 8), (16, 16, 16), None, False)
    linked = {"method": "watershed", "connectivity": "volume", "agglomerate": {"method": "average_linkage"}}
    offsets = [[8, 0, 0], [0, 8, 0], [0, 0, 8], [0, 24, -40]]  # nm
    affinities = {"output": "affinities", "offsets": offsets, "offset_unit": "nm", "dimensions": 3, "depth": 2}
    found = configuration(model=affinities, train={"volumes": ["a"], "tile": [28, 28, 28]}, segment=linked)
    classes = configuration(segment={"method": "watershed", "connectivity": "volume"})
    assert RULES["region_graph"].halo(found, layout) == (1, 3, 5)
    more = (a - b for a, b in zip(*(RULES["segment"].halo(one, layout) for one in (found, classes)), strict=True))
    assert list(more) == [1, 1, 1]
    assert cost_of("region_graph", found).block_bytes > cost_of("region_graph", classes).block_bytes
    assert cost_of("suspected_merges", found).rate < cost_of("suspected_merges", classes).rate
    assert cost_of("segment", found) is WATERSHED
    assert cost_of("merge", found) is SOLVED
