"""The report: complete with everything, valid with nothing, closed to the network, safe with any name."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.array_layers import ArrayLayers, noise
from unet.config.decoder import CandidatesConfig, FragmentSettings
from unet.config.segment import SegmentConfig
from unet.config.watershed import WatershedConfig
from unet.run.report.costs import rule_costs
from unet.run.report.decoder_table import DecoderTable, decoder_table
from unet.run.report.errors_section import error_rows
from unet.run.report.figures import agglomeration_curve, learning_curve, threshold_curve, validation_curve
from unet.run.report.inputs_section import InputsAsRead, grey_histogram, section_as_read
from unet.run.report.methods_section import Methods
from unet.run.report.next_steps import RunNumbers, ScoredVolume
from unet.run.report.page import ReportData, render
from unet.run.report.pictures import (
    Picture,
    block_centre,
    block_mean,
    contact_row,
    label_colours,
    overlay,
    stretch_contrast,
)
from unet.run.report.scores_section import KEY_SCORES, READINGS, SCORES, key_rows, reading
from unet.run.report.suspected_section import SuspectedInVolume
from unet.run.report.tiles import tile_levels
from unet.run.report.verdict import SegmentedVolume, verdict
from unet.run.report.viewer import SCRIPT_PARTS, Viewer, render_viewer, viewed_volume, viewer_script
from unet.volumes.histogram import histogram

TEMPLATES = Path(__file__).parents[4] / "workflow" / "report"
TEMPLATE = TEMPLATES / "report.html.j2"
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """All tags of a page; refuses tags closed in the wrong order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def addresses(self) -> list[str]:
        return [str(own[name]) for _, own in self.tags for name in ("src", "href", "xlink:href") if name in own]


def pixels(picture: Picture) -> np.ndarray:
    head, _, data = picture.uri.partition(",")
    assert head == "data:image/webp;base64"
    return imagecodecs.webp_decode(base64.b64decode(data))


def viewer_of(volume: str) -> Viewer:
    """Return the viewer of a single file."""
    shape, voxel = (2, 8, 8), (50.0, 4.0, 4.0)
    layers = ArrayLayers(raw=noise(shape)[..., 0], segmentation=noise(shape), errors=noise(shape))
    viewed = viewed_volume(volume, shape, voxel, layers, tile_levels(shape, [(1, 1, 1)], voxel), 10**6)
    return render_viewer(TEMPLATES / "viewer", [viewed], single_file=True)


def compared(volume: str) -> DecoderTable:
    """Two decoders at two thresholds."""
    candidates = CandidatesConfig(
        fragments=[FragmentSettings(watershed=WatershedConfig(expand_px=9))], thresholds=[0.2, 0.4]
    )
    segment = SegmentConfig(method="watershed", decoder="auto", candidates=candidates)
    one = {"fragments": 0, "max_offset_px": 3, "method": "average_linkage", "threshold": 0.4, "flat": [0.2, 0.4]}
    one |= {"join_fragments_below": 500, "voi": 1.5, "smoothed_voi": 1.5, "adapted_rand_error": 0.1}
    rows = [{**one, "curve": [1.8125, 1.5]}, {**one, "max_offset_px": None, "curve": [2.3125, 1.9375]}]
    return decoder_table({"candidates": rows, "thresholds": [0.2, 0.4]}, segment, [volume])


SUSPECTED = {
    **{"object": 5, "centre": [1, 20, 30], "centre_nm": [50.0, 80.0, 120.0], "larger": 70_000, "smaller": 20_000},
    **{"contacts": 12, "pairs": 12, "score": 0.475, "reason": "small and weak"},
}


def grey_values() -> Any:
    """The grey values of a few voxels."""
    counts = histogram(np.array([0, 0, 0, 255], np.uint8))
    return grey_histogram(counts, "uint8", {"mean": 63.75, "std": 110.4})


WORST = {"kind": "split", "object": 4, "size": 10, "wrong": 3, "partners": 2, "centre": [7, 1, 2]}


def full_report(volume: str = "isbi") -> ReportData:
    ids = np.arange(16).reshape(4, 4)
    sweep = [{"threshold": t, "v_rand": 1 - t, "v_info": t} for t in (0.1, 0.5, 0.9)]
    voi = [{"threshold": t, "voi": 1 + t, "voi_split": 1.0, "voi_merge": t} for t in (0.1, 0.5, 0.9)]
    scored = ScoredVolume(volume, False, "sections", {"segmentation_v_rand": 0.93})
    numbers = RunNumbers({volume: 1834}, scored=[scored])
    segmented = SegmentedVolume(volume, (4, 4, 4), (40, 4, 4), 1834)
    return ReportData(
        title=f"Report of {volume}",
        verdict=verdict([segmented], "connected components", numbers),
        inputs={
            volume: InputsAsRead([("shape", "4 x 4")], [], [section_as_read(ids, ids, "section 7")], grey_values())
        },
        scores={volume: {"v_rand": 0.97276, "pixel_error": 0.0611, "threshold": 0.55, "own_score": 0.125}, "other": {}},
        kinds={volume: "sections"},
        training=[{"step": s, "loss": 1 / s, "validation_loss": 2 / s, "validation_score": 0.5} for s in range(1, 90)],
        kept_step=88,
        sweeps={volume: sweep, "unlabelled": []},
        agglomeration={volume: voi},
        agglomeration_threshold=0.35,
        decoder=compared(volume),
        viewer=viewer_of(volume),
        suspected={volume: SuspectedInVolume(31, [SUSPECTED], [contact_row(ids, ids, ids, 5)])},
        worst={volume: [{**WORST, "kind": "merge", "centre_nm": [1, 2, 3]}, {**WORST, "centre_nm": [4, 5, 6]}]},
        methods=Methods(f"Volume {volume} was segmented.", ["A work, doi:10.1/2"]),
        benchmarks=[{"rule": "predict", "s": "90", "max_rss": "2048"}],
        configuration=f"volumes: {volume}\n",
        versions={"numpy": "2.0.1"},
    )


def test_all_that_is_given_is_told() -> None:
    text = Page(render(TEMPLATE, full_report())).text
    assert 'snakemake view --config view="{volume: isbi, error: 2}"' in text  # opens the second one of the list
    assert "isbi (held out): the cells of each section are below what is usual." in text
    assert "The scores rest on 0 true objects" in text
    assert "Volume isbi was segmented." in text
    for told in ["Report of isbi", "1,834 objects", "0.9728", "0.0611", "own_score", "0.1250", "segmentation over raw"]:
        assert told in text
    for told in [
        "isbi: 31",
        "50, 80, 120",
        "70,000 and 20,000",
        "small and weak",
        "at 1, 20, 30 · fragments of the object",
        "predict",
        "1 min 30 s",
        "2.0 GB",
        "volumes: isbi",
        "numpy 2.0.1",
        "weights kept: step 88",
        "chosen: 0.35",
        "VOI isbi",
        "logarithmic",
        "V_rand isbi",
        "chosen: 0.55",
        *("threshold 0.3, expand_px 9", "average_linkage", "0.2 to 0.4", "VOI at 0.2", "1.8125", "1.9375", "to 3"),
    ]:
        assert told in text
    assert "VOI split" not in text  # no volume has it


def test_nothing_given_makes_a_page_without_parts() -> None:
    page = Page(render(TEMPLATE, ReportData()))
    assert "Segmentation report" in page.text
    assert not {"section", "table", "svg", "img", "dl"} & {tag for tag, _ in page.tags}


PARTS = ["verdict", "inputs", "scores", "training", "sweeps", "agglomeration", "decoder", "viewer", "worst"]


@pytest.mark.parametrize("part", [*PARTS, "suspected", "methods", "benchmarks", "configuration"])
def test_each_part_stands_alone(part: str) -> None:
    page = Page(render(TEMPLATE, ReportData(**{part: getattr(full_report(), part)})))
    assert "section" in {tag for tag, _ in page.tags}
    anchors = {address[1:] for address in page.addresses() if re.match("#(?!volume=)", address)}
    assert anchors <= {own.get("id") for _, own in page.tags}
    ids = [own["id"] for _, own in page.tags if "id" in own]
    assert len(ids) == len(set(ids))


def test_the_page_asks_nothing_of_the_network() -> None:
    html = render(TEMPLATE, full_report())
    page = Page(html)
    assert page.addresses()
    assert all(address.startswith(("data:", "#")) for address in page.addresses())
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[\w+/=]*", "", html))
    assert [own for tag, own in page.tags if tag == "script"] == [{"type": "application/json", "id": "viewer-data"}, {}]


def test_every_part_of_the_script_is_on_the_page() -> None:
    script = viewer_script(TEMPLATES / "viewer")
    parts = {path.stem: path.read_text() for path in (TEMPLATES / "viewer").glob("*.js")}
    assert sorted(parts) == sorted(SCRIPT_PARTS)
    assert all(part in script for part in parts.values())


def test_only_the_script_of_the_viewer_may_run() -> None:
    [policy] = [own["content"] for _, own in Page(render(TEMPLATE, full_report())).tags if own.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(viewer_script(TEMPLATES / "viewer").encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    [policy] = [own["content"] for _, own in Page(render(TEMPLATE, ReportData())).tags if own.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_ids_of_the_two_curves_do_not_clash_where_they_are_referred_to() -> None:
    report = full_report()
    learning, thresholds = learning_curve(report.training), threshold_curve(report.sweeps)
    used = [set(re.findall(r'(?:url\(|href=")#([\w]+)', svg)) for svg in (learning, thresholds)]
    assert used[0]
    assert used[1]
    assert not used[0] & used[1]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"b&c', "$x_1$ of $", "_hidden", "{{ 7 * 6 }}"])
def test_names_are_shown_as_they_are(name: str) -> None:
    html = render(TEMPLATE, full_report(name))
    page = Page(html)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    [known] = re.findall(r'id="viewer-data">(.*)</script>', html)
    assert [volume["name"] for volume in json.loads(known)["volumes"]] == [name]
    assert page.text.count(name) >= 12
    assert any(own.get("alt") == f"{name}, as read: section 7" for _, own in page.tags)
    assert any(own.get("alt") == f"{name}: errors over raw, section 1" for _, own in page.tags)
    assert "{{" not in re.sub(re.escape(name), "", page.text)


def test_headings_and_tables_are_in_order_for_readers_who_do_not_see_them() -> None:
    page = Page(render(TEMPLATE, full_report()))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all("scope" in own for tag, own in page.tags if tag == "th")
    assert all(own.get("alt") for tag, own in page.tags if tag == "img")
    assert all(own.get("aria-label") for tag, own in page.tags if tag == "svg")


def test_pictures_of_inputs_are_small() -> None:
    rng = np.random.default_rng(0)
    picture = section_as_read(rng.integers(0, 256, (640, 640)), None, "noise, which no codec makes small")
    head, _, data = picture.uri.partition(",")
    assert head == "data:image/webp;base64"
    assert imagecodecs.webp_decode(base64.b64decode(data)).shape == (320, 320, 3)
    assert len(data) < 90_000


def test_a_histogram_has_its_ends_and_its_highest_bar() -> None:
    found = grey_values()
    assert (found.low, found.high) == (0, 255)
    assert found.bars == [(0.0, 100.0), (98.44, 33.3)]
    assert found.words.startswith("Histogram of grey values from 0 to 255: mean 63.75, standard deviation 110.4, most")
    assert grey_histogram(np.zeros((1, 65_536), np.int64), "uint8", {}) is None
    floats = grey_histogram(histogram(np.array([-1.5, 0.5, 0.5], np.float32)), "float32", {"mean": 0, "std": 1})
    assert floats is not None
    assert (floats.low, floats.high, floats.heights[0], floats.heights[-1]) == (-1.5, 0.5, 0.5, 1.0)


def test_few_scores_are_explained_by_those_of_the_first_volume() -> None:
    own = {"segmentation_v_rand": 0.93, "split_errors": 8, "objects": 90, "true_objects": 80, "v_rand": 0.97}
    rows = {row.name: row for row in key_rows({"new": own, "old": {}}, {"new": "sections", "old": "sections"})}
    assert list(rows) == ["V_rand, segmentation", "Objects", "Splits"]
    assert list(rows["Splits"].values) == [8, None]
    assert rows["Splits"].direction == "lower is better"
    assert rows["Splits"].reading == "0 is perfect; 8 splits: 10 for 100 true objects"
    assert rows["Objects"].reading == "90 found where 80 are annotated"
    assert key_rows({"new": own}, {"new": "volume"})[0].name == "Objects"


def test_every_score_that_is_shown_first_is_explained() -> None:
    shown = {key for keys in KEY_SCORES.values() for key in keys}
    assert shown == set(READINGS)
    assert shown <= {score.key for score in SCORES}
    assert reading("v_info", {"v_info": 1.0}) == ""


def test_an_error_is_opened_by_its_number_in_the_file() -> None:
    rows = error_rows("a-b", [{**WORST, "centre_nm": [280.0, 4.0, 8.0]}] * 2)
    assert rows[1].command == 'snakemake view --config view="{volume: a-b, error: 2}"'
    assert (rows[1].voxel, rows[1].nm, rows[1].link) == ("7, 1, 2", "280, 4, 8", "#volume=a-b&z=7&y=1&x=2")


def test_a_step_done_again_after_a_restart_counts_once() -> None:
    once = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    assert learning_curve([{"step": 2, "loss": 9.0}, *once]) == learning_curve(once)
    assert learning_curve(once) != learning_curve([{"step": 1, "loss": 1.0}])


def test_curves_without_a_value_are_empty() -> None:
    assert learning_curve([]) == ""
    assert learning_curve([{"step": 1, "loss": None}, {"step": 2, "loss": float("nan")}]) == ""
    assert threshold_curve({}) == ""
    assert threshold_curve({"unlabelled": []}) == ""
    assert validation_curve([{"step": 1, "loss": 0.5}]) == ""
    assert agglomeration_curve({}, affinities=True) == ""


def test_a_loss_of_zero_is_drawn() -> None:
    assert "<svg" in learning_curve([{"step": 1, "loss": 0.0}, {"step": 2, "loss": 1.0}])


def test_rules_sum_time_and_take_the_most_memory() -> None:
    rows = [
        {"rule": "ingest", "s": "10", "max_rss": "100"},
        {"rule": "predict", "s": "30", "max_rss": "400.5"},
        {"rule": "ingest", "s": 5.0, "max_rss": "NA"},
        {"rule": "plan", "s": "-", "max_rss": "-"},
    ]
    ingest, predict, plan = rule_costs(rows)
    assert (ingest.rule, ingest.jobs, ingest.seconds, ingest.longest_seconds) == ("ingest", 2, 15.0, 10.0)
    assert (ingest.memory_mb, predict.memory_mb, plan.memory_mb) == (100.0, 400.5, None)
    assert (ingest.time_share, predict.time_share, plan.time_share) == (0.5, 1.0, 0.0)
    assert rule_costs([]) == []


def test_raw_of_one_value_or_with_an_outlier_is_drawn() -> None:
    assert (stretch_contrast(np.full((4, 4), 7, np.uint8)) == 0).all()
    noisy = np.tile(np.array([10.0, 20.0]), (100, 50))
    noisy[0, 0] = 1e6
    assert stretch_contrast(noisy)[50, :2].tolist() == [0, 1]


def test_large_sections_shrink_by_a_whole_factor() -> None:
    ids = np.repeat(np.repeat([[3, 0], [0, 5]], 5, 0), 5, 1)  # 10 x 10 in steps of 3 px: the last pixel is left out
    assert block_mean(ids > 0, 3).shape == (3, 3)
    assert block_centre(ids, 3).tolist() == [[3, 3, 0], [3, 3, 0], [0, 0, 5]]


def test_an_id_has_one_colour_and_its_boundary_is_drawn_in_it() -> None:
    ids = np.zeros((7, 7), np.uint64)
    ids[1:6, 1:6] = 2**40 + 1
    colour = label_colours(ids[3:4, 3])
    shown = overlay(np.zeros((7, 7)), ids)
    assert (shown[1, 1:6] == colour).all()
    assert (shown[1:6, 5] == colour).all()
    assert np.allclose(shown[3, 3], 0.4 * colour)
    assert (shown[ids == 0] == 0).all()


def test_colours_of_neighbouring_ids_differ_and_are_bright() -> None:
    colours = label_colours(np.arange(1, 2001))
    assert colours.max(axis=1).min() >= 0.75
    assert len(np.unique(np.rint(colours * 255), axis=0)) > 1950
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).mean() > 0.7
