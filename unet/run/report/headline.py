"""What is said first of a result: of the stored objects, then of thresholding, and a warning where it looks wrong."""

from collections.abc import Iterator, Mapping
from typing import Any

FEW = {0: "no object", 1: "one object alone"}


def first_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a volume that come first, by their names for people; those that are missing are left out.

    V_rand and VOI of the stored objects come first, since these are delivered. V_rand of the thresholded probability,
    which the U-Net's paper reports, is about other objects and comes last.

    Parameters
    ----------
    scores : of one volume, as in ``scores.json``

    >>> first_scores({"v_rand": 0.97, "threshold": 0.6, "segmentation_v_rand": 0.9})
    {'V_rand of the objects': 0.9, 'V_rand of thresholding at 0.60': 0.97}
    """
    named = {
        "V_rand of the objects": scores.get("segmentation_v_rand"),
        "Adapted Rand error": scores.get("adapted_rand_error"),
    }
    if scores.get("voi_split") is not None:
        named["VOI, split + merge"] = f"{scores['voi_split']:.3f} + {scores['voi_merge']:.3f}"
    if scores.get("v_rand") is not None:
        named[f"V_rand of thresholding at {scores['threshold']:.2f}"] = scores["v_rand"]
    return {name: value for name, value in named.items() if value is not None}


def too_few(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A warning for every volume whose segmentation has no object or one: hardly what is wanted.

    Parameters
    ----------
    scores : volume -> scores, with `stored_objects`, the number of ids that are stored

    >>> [warning.split(";")[0] for warning in too_few({"a": {"stored_objects": 0}, "b": {"stored_objects": 7}})]
    ["volume 'a': its segmentation holds no object"]
    """
    for volume, own in scores.items():
        if own["stored_objects"] in FEW:
            yield (
                f"volume {volume!r}: its segmentation holds {FEW[own['stored_objects']]}; look at "
                "probability.zarr, and at segment.threshold, segment.min_size and segment.agglomerate"
            )


def headline(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines for the terminal: objects and first scores of every volume, warnings last.

    >>> headline({"test": {"stored_objects": 12, "segmentation_v_rand": 0.9045}, "all": {"stored_objects": 3000}})
    ['test: 12 objects; V_rand of the objects 0.9045', 'all: 3,000 objects']
    """
    lines = []
    for volume, own in scores.items():
        number = own["stored_objects"]
        parts = [f"{number:,} object{'s' * (number != 1)}"]
        for name, value in first_scores(own).items():
            parts.append(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
        lines.append(f"{volume}: {'; '.join(parts)}")
    return lines + [f"WARNING: {warning}" for warning in too_few(scores)]
