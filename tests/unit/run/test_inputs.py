"""The inputs of jobs, against lists made by hand: 2 x 3 blocks in 3 block ranges of a row of blocks each."""

from pathlib import Path
from typing import Any

import pytest

from unet.config.root import load_config
from unet.run.inputs import RunInputs
from unet.run.parameters import given_model, segment_settings, settings, volume_settings
from unet.run.receipts import TooManyRangesError
from unet.volumes.integrity import StaleMarkers
from unet.volumes.layout import VolumeLayout

LAYOUT = VolumeLayout((2, 30, 20), "uint8", (50, 4, 4), (0, 0, 0), (1, 10, 10), (2, 10, 10), "uint32", False)
"""1 x 3 x 2 blocks of 200 voxels."""
RANGES = ("0-of-3", "1-of-3", "2-of-3")
AUTO = {"threshold": "auto", "agglomerate": {"threshold": "auto"}}


def inputs(results: Path | str = "r", layout: VolumeLayout = LAYOUT, **sections: Any) -> RunInputs:
    """Inputs of a run with an annotated and a plain volume."""
    volumes = {
        "train": {"raw": "raw.tif", "labels": "labels.tif", **sections.pop("train_volume", {})},
        "plain": {"raw": "plain.tif"},
    }
    values = {"volumes": volumes, "train": {"volumes": ["train"]}, "predict": {"volumes": ["train", "plain"]}}
    merged = {key: {**values.get(key, {}), **sections.get(key, {})} for key in values.keys() | sections.keys()}
    merged["predict"]["job_voxels"] = sections.get("job_voxels", 400)
    merged.pop("job_voxels", None)
    return RunInputs(load_config(merged), str(results), lambda volume: layout, StaleMarkers(dry_run=True))


def receipts(rule: str, *path: str, ranges: tuple[str, ...] = RANGES) -> list[str]:
    """Receipts of block ranges."""
    return ["/".join(["r", "receipts", rule, *path, f"{name}.json"]) for name in ranges]


def test_a_blockwise_rule_has_a_receipt_per_block_range_and_others_one() -> None:
    run = inputs()
    assert run.receipts("ingest", "train") == receipts("ingest", "train")
    assert run.receipts("relabel", "train", "labels") == receipts("relabel", "train", "labels")
    assert run.receipts("merge", "train", "segmentation") == ["r/receipts/merge/train/segmentation.json"]
    assert run.receipts_of("survey", ["train", "plain"]) == [
        "r/receipts/survey/train.json",
        "r/receipts/survey/plain.json",
    ]
    assert run.receipts_of("predict", ["train", "plain"]) == receipts("predict", "train") + receipts("predict", "plain")


def test_receipts_around_a_block_range_are_those_within_the_margin() -> None:
    run = inputs()
    for margin, found in (((0, 0, 0), RANGES[:1]), ((0, 10, 0), RANGES[:2]), ((0, 11, 0), RANGES)):
        assert run.receipts_around("ingest", "train", "0-of-3", margin) == receipts("ingest", "train", ranges=found)


def test_ingest_takes_whole_layers_where_sections_are_decoded_as_a_whole() -> None:
    """Two layers of 3 x 2 blocks of 200 voxels: a job of `ingest` takes a layer, the others 400 voxels."""
    layout = VolumeLayout(**{**vars(LAYOUT), "shape": (4, 30, 20), "decoded": (1, 30, 20)})
    run, six = inputs(layout=layout), tuple(f"{k}-of-6" for k in range(6))
    assert run.receipts("ingest", "train") == receipts("ingest", "train", ranges=("0-of-2", "1-of-2"))
    assert run.receipts("histogram", "train") == receipts("histogram", "train", ranges=six)
    for name, margin, found in (
        ("2-of-6", 0, ["0-of-2"]),
        ("3-of-6", 0, ["1-of-2"]),
        ("3-of-6", 1, ["0-of-2", "1-of-2"]),
    ):
        around = run.receipts_around("ingest", "train", name, (margin, 0, 0))
        assert around == receipts("ingest", "train", ranges=tuple(found))


def test_block_ranges_are_named_anew_when_a_survey_has_run_again() -> None:
    layouts = [LAYOUT, LAYOUT, VolumeLayout(**{**vars(LAYOUT), "shape": (2, 30, 40)})]
    run = RunInputs(inputs().config, "r", lambda volume: layouts.pop(0), StaleMarkers(dry_run=True))
    assert [len(run.block_ranges("train")) for _ in range(3)] == [3, 3, 6]


def test_too_many_block_ranges_are_refused() -> None:
    huge = VolumeLayout(**{**vars(LAYOUT), "shape": (2, 1000, 2020)})
    with pytest.raises(TooManyRangesError, match="'train' would have 10100 block ranges"):
        inputs(layout=huge).block_ranges("train")


def test_labels_are_ingested_instances_or_made_of_annotated_classes() -> None:
    assert inputs().labels("train") == ["r/receipts/intensity_statistics/train.json"]
    assert inputs(train_volume={"label_kind": "interior"}).labels("train") == receipts("relabel", "train", "labels")


def test_labels_of_a_training_volume_are_checked_with_those_of_all_training_volumes() -> None:
    assert inputs().check_labels("train") == {
        "survey": "r/receipts/survey/train.json",
        "intensity_statistics": "r/receipts/intensity_statistics/train.json",
        "targets": receipts("targets", "train"),
        "training_targets": receipts("targets", "train"),
    }
    assert inputs().check_labels("plain") == {"survey": "r/receipts/survey/plain.json"}
    assert inputs().checked(["train", "plain"]) == ["r/receipts/check_labels/train.json"]


def test_merge_errors_are_looked_for_in_what_was_merged_with_the_threshold_that_was_chosen() -> None:
    segment = {"method": "watershed", "suspected_merges": {}, "agglomerate": {"threshold": "auto"}}
    run = inputs(segment=segment, evaluate={"volumes": ["train"], "threshold_volumes": ["train"]})
    assert run.suspected_merges("plain") == {
        "survey": "r/receipts/survey/plain.json",
        "segmented": receipts("segment", "plain", "segmentation"),
        "edges": receipts("region_graph", "plain"),
        "threshold": "r/receipts/choose_agglomeration_threshold/all.json",
        "merged": "r/receipts/merge/plain/segmentation.json",
    }
    assert run.searched_for_merges == ["train", "plain"]
    assert inputs(segment={"method": "watershed"}).searched_for_merges == []


@pytest.mark.parametrize(
    ("segment", "store", "source", "ranges"),
    [
        ({}, "segmentation", "predict", RANGES[:1]),
        ({}, "labels", "ingest", RANGES[:1]),
        ({"method": "watershed"}, "segmentation", "predict", RANGES),  # reads 17 px around a block of 10
        ({"method": "watershed"}, "labels", "ingest", RANGES[:1]),
    ],
)
def test_a_block_range_is_segmented_from_its_own_voxels_and_for_a_watershed_from_those_around(
    segment: dict[str, Any], store: str, source: str, ranges: tuple[str, ...]
) -> None:
    found = inputs(segment={"threshold": 0.5, **segment}).segment("train", store, "0-of-3")
    assert found == {
        "survey": "r/receipts/survey/train.json",
        "made": receipts(source, "train", ranges=ranges),
        "damage": [],
    }


def test_a_threshold_that_is_chosen_is_an_input_of_the_segmentation_alone() -> None:
    run = inputs(segment={"threshold": "auto"}, evaluate={"threshold_volumes": ["train"]})
    assert run.segment("train", "segmentation", "0-of-3")["threshold"] == "r/receipts/choose_threshold/all.json"
    assert "threshold" not in run.segment("train", "labels", "0-of-3")
    assert run.evaluate("train")["threshold"] == "r/receipts/choose_threshold/all.json"
    assert "threshold" not in inputs().evaluate("train")


def test_a_merge_reads_the_region_graph_where_there_is_one() -> None:
    segmented = receipts("segment", "train", "segmentation")
    plain = {"survey": "r/receipts/survey/train.json", "made": segmented, "damage": []}
    assert inputs(segment={"fill_holes": 0}).merge("train", "segmentation") == plain
    graph = inputs(segment={"method": "watershed"}).merge("train", "segmentation")
    assert graph == {**plain, "made": [*segmented, *receipts("region_graph", "train")]}
    auto = inputs(segment={"method": "watershed", **AUTO}, evaluate={"threshold_volumes": ["train"]})
    assert auto.merge("train", "segmentation")["threshold"] == "r/receipts/choose_agglomeration_threshold/all.json"
    assert auto.merge("train", "labels") == {**plain, "made": receipts("segment", "train", "labels")}


def test_a_large_volume_is_merged_part_by_part() -> None:
    """Three layers of blocks of 1,200 voxels, in parts of two and one; a layer has three block ranges."""
    layout = VolumeLayout(**{**vars(LAYOUT), "shape": (6, 30, 20)})
    run = inputs(layout=layout, segment={"method": "watershed", "merge_voxels": 2 * 1200})
    assert [part.name for part in run.merge_tree("train").parts()] == ["0-2", "2-3", "0-3"]
    parts = [f"r/receipts/merge_part/train/segmentation/{name}.json" for name in ("0-2", "2-3")]
    assert run.merge("train", "segmentation")["made"] == parts
    nine = tuple(f"{k}-of-9" for k in range(9))
    for name, own in (("0-2", nine[:6]), ("2-3", nine[6:])):
        expected = receipts("segment", "train", "segmentation", ranges=own) + receipts(
            "region_graph", "train", ranges=own
        )
        assert run.merge_part("train", "segmentation", name)["made"] == expected


def test_a_chosen_decoder_is_an_input_of_all_that_follows_it_and_of_nothing_before() -> None:
    segment = {"method": "watershed", "decoder": "auto"}
    run = inputs(segment=segment, evaluate={"threshold_volumes": ["train"]})
    chosen = {"decoder": "r/receipts/choose_decoder/all.json"}
    for found in (
        run.segment("plain", "segmentation", "0-of-3"),
        run.region_graph("plain", "0-of-3"),
        run.merge("plain", "segmentation"),
    ):
        assert found.items() >= chosen.items()
    assert "decoder" not in {**run.segment("train", "labels", "0-of-3"), **run.merge("train", "labels")}
    survey = {"survey": "r/receipts/survey/train.json", "damage": []}
    assert run.candidate_fragments("train", "0-of-3") == {**survey, "made": receipts("predict", "train")}
    around = receipts("candidate_fragments", "train")  # a link may skip a section, of which there are two
    assert run.candidate_graph("train", "0-of-3") == {**survey, "segmented": around}
    assert inputs(segment={"method": "watershed"}).decoder == {}


def test_a_region_graph_reads_over_the_sections_that_are_skipped() -> None:
    deep = VolumeLayout(
        **{**vars(LAYOUT), "shape": (12, 10, 20), "block": (2, 10, 10)}
    )  # a block range per layer of blocks
    for gap, ranges in ((None, 3), (2, 4)):
        run = inputs(layout=deep, segment={"method": "watershed", "connectivity": "section", "max_section_gap": gap})
        assert len(run.region_graph("train", "2-of-6")["segmented"]) >= ranges


def test_a_given_model_is_a_parameter_and_nothing_is_trained() -> None:
    run = inputs(model={"checkpoint": "given.pt"})
    assert (run.model, run.training_volumes, given_model(run.config)) == ({}, [], {"model": "given.pt"})
    assert inputs().model == {"model": "r/model/model.pt"}
    assert (inputs().training_volumes, given_model(inputs().config)) == (["train"], {})


def test_only_the_files_of_the_sample_are_made_here() -> None:
    run = inputs(train_volume={"raw": "r/sample/raw.tif"})
    assert (run.sampled("train"), run.sampled("plain")) == (["r/sample/raw.tif"], [])


def test_a_note_on_damage_is_an_input(tmp_path: Path) -> None:
    run = inputs(tmp_path)
    assert run.damage("ingest", "train", "0-of-3") == []
    run.markers.write(Path(run.receipt("ingest", "train", "0-of-3")), "block is missing")
    assert len(run.damage("ingest", "train", "0-of-3")) == 1
    assert run.damage("ingest", "train", "1-of-3") == []


def test_a_volume_has_no_parameters_that_only_its_scores_or_its_survey_need() -> None:
    found = volume_settings(inputs().config, "train")
    assert not {"compare", "skeletons", "label_check", "missing_chunks"} & found.keys()
    assert found["raw"][0]["path"] == "raw.tif"


def test_annotated_classes_are_labelled_by_defaults() -> None:
    config = inputs(segment={"threshold": 0.7, "min_size": 9}).config
    assert segment_settings(config, "segmentation", ["min_size"])["threshold"] == 0.7
    assert segment_settings(config, "labels", ["min_size"])["threshold"] != 0.7
    assert "min_size" not in segment_settings(config, "labels", ["min_size"])
    assert settings(config.segment, unset=False) == {"threshold": 0.7, "min_size": 9}


def test_a_volume_without_a_layout_has_no_block_ranges() -> None:
    run = RunInputs(inputs().config, "r", lambda volume: None, StaleMarkers(dry_run=True))
    assert run.receipts("ingest", "train") == run.receipts_around("ingest", "train", "0-of-3", (0, 0, 0)) == []
    assert run.receipts("survey", "train") == ["r/receipts/survey/train.json"]


def test_exports_read_the_stores_that_are_asked_for() -> None:
    run = inputs(export_tiff={"volume": "plain", "store": "probability", "box": [[0, 2], [5, 9], [0, 20]]})
    asked = run.export("export_tiff")
    assert asked["survey"] == "r/receipts/survey/plain.json"
    assert asked["made"] == receipts("predict", "plain")
    assert run.exported_tiff == "r/exports/plain/probability-z0-2-y5-9-x0-20.ome.tif"
    both = inputs(export_webknossos={"stores": ["raw", "labels", "segmentation"]})
    assert both.export("export_webknossos")["made"] == [  # instance labels are ingested with the intensities
        *receipts("ingest", "train"),
        *receipts("relabel", "train", "segmentation"),
    ]
    classes = inputs(train_volume={"label_kind": "interior"}, export_precomputed={"stores": ["labels", "weights"]})
    made = [*receipts("relabel", "train", "labels"), *receipts("weight_map", "train")]
    assert classes.export("export_precomputed")["made"] == made


def test_objects_are_measured_where_they_and_their_probabilities_are_beside_the_block_range() -> None:
    run = inputs(objects={"parquet": True}, train_volume={"inside": {"vesicles": "v.tif"}})
    found = run.measure("train", "0-of-3")
    assert found["segmented"] == receipts("relabel", "train", "segmentation", ranges=RANGES)
    assert found["predicted"] == receipts("predict", "train", ranges=RANGES)
    assert found["labelled"] == ["r/receipts/intensity_statistics/train.json"]
    assert run.measure("plain", "0-of-3")["labelled"] == []
    assert run.objects()["measured"] == receipts("measure", "train") + receipts("measure", "plain")
    kinds = [f"r/volumes/train/{name}.{kind}" for name in ("objects", "contacts") for kind in ("csv", "parquet")]
    assert run.object_tables("train") == [*kinds, *(f"r/volumes/train/inside-vesicles.{k}" for k in ("csv", "parquet"))]
