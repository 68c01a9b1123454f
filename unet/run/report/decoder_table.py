"""The table of the decoders that were compared: the chosen one, all scores, and how flat the optimum is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unet.config.segment import SegmentConfig


class DecoderRow(NamedTuple):
    """A combination of settings, the scores at its best threshold, and its VOI at every threshold."""

    fragments: str
    offsets: str
    method: str
    join_fragments_below: int
    threshold: float
    voi: float
    smoothed_voi: float
    adapted_rand_error: float
    flat: str
    curve: Sequence[float]


class DecoderTable(NamedTuple):
    """All combinations, the chosen one first; the thresholds of the curves; the volumes that were scored."""

    volumes: str
    thresholds: Sequence[float]
    rows: Sequence[DecoderRow]


def decoder_table(chosen: Mapping[str, Any], segment: SegmentConfig, volumes: Sequence[str]) -> DecoderTable:
    """Return the table of the receipt of `choose_decoder`."""
    rows = [
        DecoderRow(
            _fragments(segment, one["fragments"]),
            "all" if one["max_offset_px"] is None else f"to {one['max_offset_px']}",
            one["method"],
            one["join_fragments_below"],
            one["threshold"],
            one["voi"],
            one["smoothed_voi"],
            one["adapted_rand_error"],
            "{:g} to {:g}".format(*one["flat"]),
            one["curve"],
        )
        for one in chosen["candidates"]
    ]
    return DecoderTable(", ".join(volumes), chosen["thresholds"], rows)


def _fragments(segment: SegmentConfig, number: int) -> str:
    """Return the settings of a set of fragments in one line."""
    own = segment.candidates.fragments[number]
    lengths = own.watershed.model_dump(exclude_defaults=True)
    return ", ".join(f"{key} {value:g}" for key, value in {"threshold": own.threshold, **lengths}.items())
