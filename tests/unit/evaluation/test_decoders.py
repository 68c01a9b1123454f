"""Choosing a decoder: the mean over volumes, the mean over neighbouring thresholds, and the flat part."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.config.decoder import CandidatesConfig, FragmentSettings
from unet.config.segment import AgglomerateConfig
from unet.evaluation.contingency import contingency
from unet.evaluation.decoders import DecoderCurve, Row, curves_of, decoder_scores, mean_over_volumes
from unet.evaluation.scores import EvaluationError
from unet.segmentation.edge_slabs import EdgeSlabs
from unet.segmentation.fragments import Fragments
from unet.segmentation.region_graph import Edges

THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5]
CANDIDATES = CandidatesConfig(
    fragments=[FragmentSettings(), FragmentSettings(threshold=0.5)],
    thresholds=THRESHOLDS,
    max_offset_px=[1, None],
    join_fragments_below=[0],
    methods=["mean"],
)
DECODERS = CANDIDATES.decoders(affinities=True)
CURVES = len(DECODERS) // len(THRESHOLDS)


def rows(voi: list[float]) -> list[dict[str, Any]]:
    """A row per decoder with this VOI, all of it split."""
    scores = [{"voi_split": one, "voi_merge": 0.0, "adapted_rand_error": one / 10} for one in voi]
    return [{**decoder.model_dump(), **row} for decoder, row in zip(DECODERS, scores, strict=True)]


def best(found: list[Row]) -> DecoderCurve:
    """The chosen curve."""
    return curves_of(found)[0]


def test_one_lucky_threshold_is_not_chosen() -> None:
    lucky, flat = [3.0, 3.0, 0.5, 3.0, 3.0], [2.0, 1.0, 1.0, 1.02, 2.0]
    chosen = best(rows(lucky + flat + lucky + lucky))
    assert chosen.decoders[0].max_offset_px is None
    assert chosen.decoders[0].fragments == 0
    row = chosen.row()
    assert (row["threshold"], row["voi"]) == (0.3, 1.0)
    assert row["smoothed_voi"] == pytest.approx(3.02 / 3)
    assert row["flat"] == [0.2, 0.4]
    assert row["curve"] == flat
    assert not chosen.beyond


def test_an_optimum_at_the_end_of_the_list_is_told() -> None:
    assert best(rows([1.0, 2, 3, 4, 5] * CURVES)).beyond
    assert best(rows([5.0, 4, 3, 2, 1] * CURVES)).row()["threshold"] == 0.4


def test_of_equal_thresholds_the_middle_one_is_chosen() -> None:
    assert best(rows([1.0] * len(DECODERS))).row()["threshold"] == 0.3
    assert not best(rows([1.0] * len(DECODERS))).beyond


def test_volumes_count_by_their_labelled_voxels() -> None:
    one, other, empty = rows([4.0] * len(DECODERS)), rows([1.0] * len(DECODERS)), [{} for _ in DECODERS]
    mean = mean_over_volumes([one, other, empty], [100, 300, 0])
    assert {row["voi_split"] for row in mean} == {1.75}
    assert [row["threshold"] for row in mean] == [decoder.threshold for decoder in DECODERS]
    with pytest.raises(EvaluationError, match="no labelled voxel"):
        mean_over_volumes([empty], [0])


@given(st.lists(st.integers(0, 40), min_size=len(DECODERS), max_size=len(DECODERS)))
def test_no_other_inner_threshold_has_a_lower_mean_with_its_neighbours(voi: list[int]) -> None:
    values = np.array(voi, float).reshape(CURVES, len(THRESHOLDS))
    chosen = best(rows(values.ravel().tolist()))
    means = (values[:, :-2] + values[:, 1:-1] + values[:, 2:]) / 3
    assert chosen.smoothed[chosen.best] == pytest.approx(means.min())
    low, high = chosen.flat
    assert low <= chosen.decoders[chosen.best].threshold <= high


def test_of_two_thresholds_each_stands_for_itself() -> None:
    candidates = CandidatesConfig(thresholds=[0.2, 0.4], fragments=CANDIDATES.fragments[:1], join_fragments_below=[0])
    decoders = candidates.decoders(affinities=False)
    curve = DecoderCurve([0.2, 0.4], np.array([2.0, 1.0]), np.zeros(2), decoders)
    assert curve.best == 1
    assert not curve.beyond


def test_four_fragments_are_joined_as_each_decoder_says() -> None:
    """Two true cells of 8 and 5 voxels, each in two fragments; the last fragment, of one voxel, hardly touches.

    ```
    fragments   0 (4) --0.9-- 1 (4) --0.3-- 2 (4) --0.1-- 3 (1)      affinities
    truth       1             1             2             2
    ```
    """
    size = np.array([4, 4, 4, 1])
    zeros = np.zeros(4, np.int64)
    numbers = np.arange(4, dtype=np.int32)
    fragments = Fragments(np.array([0, 4]), numbers * 4, size, zeros.astype(np.uint8) + 1, zeros > 0, numbers)
    boundary = np.array([26, 179, 230])
    graph = EdgeSlabs.whole(Edges(numbers[:3], numbers[1:], np.ones(3, np.int64), boundary, None), 4)
    table = contingency(np.repeat([1, 1, 2, 2], size), np.repeat([1, 2, 3, 4], size))
    candidates = CandidatesConfig(fragments=[FragmentSettings()], thresholds=[0.2, 0.5], max_offset_px=[None])
    decoders = candidates.decoders(affinities=True)
    found = list(decoder_scores(table, fragments, graph, decoders, AgglomerateConfig(), None))
    assert [{key: row[key] for key in decoder.model_dump()} for decoder, row in zip(decoders, found, strict=True)] == [
        decoder.model_dump() for decoder in decoders
    ]
    linked = [row for row in found if row["method"] == "average_linkage"]
    apart, small_joined = ([row for row in linked if row["join_fragments_below"] == n] for n in (0, 500))
    assert [row["voi_merge"] > 0 for row in apart] == [True, False]  # 0.3 is above 0.2, so 1 and 2 are joined
    assert apart[1]["voi_split"] == pytest.approx(5 / 13 * (np.log2(5) - 4 / 5 * 2))  # of the second cell: 4 + 1
    assert [row["voi_split"] for row in small_joined] == [0, 0]
