"""The headline of a result: scores of the stored objects and of thresholding, and warnings of implausible results."""

from collections.abc import Iterator, Mapping
from typing import Any

FEW_OBJECTS = {0: "no object", 1: "one object alone"}
"""Numbers of objects that call for a warning, in words."""


def headline_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the most important scores of a volume by their names for people; missing scores are left out.

    V_rand and VOI of the stored objects come first: these objects are the result. V_rand of the thresholded
    probability, which the U-Net paper reports, is a score of other objects and comes last.

    Parameters
    ----------
    scores : scores of one volume, as in ``scores.json``

    >>> headline_scores({"v_rand": 0.97, "threshold": 0.6, "segmentation_v_rand": 0.9})
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


def few_objects_warnings(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a warning for every volume whose segmentation has no object, or a single one.

    Parameters
    ----------
    scores : volume -> scores, with `stored_objects`, the number of ids that are stored

    >>> scores = {"a": {"stored_objects": 0}, "b": {"stored_objects": 7}}
    >>> [warning.split(";")[0] for warning in few_objects_warnings(scores)]
    ["volume 'a': its segmentation holds no object"]
    """
    for volume, own in scores.items():
        if own["stored_objects"] in FEW_OBJECTS:
            yield (
                f"volume {volume!r}: its segmentation holds {FEW_OBJECTS[own['stored_objects']]}; look at "
                "probability.zarr, and at segment.threshold, segment.min_size and segment.agglomerate"
            )


def headline(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return lines for the terminal: objects and headline scores of every volume, and their level, warnings last.

    Parameters
    ----------
    scores : volume -> scores, with `stored_objects`, and `level`, one of `unet.run.report.usual_scores.LEVELS`, and
        `learnt`, whether the network learnt from the volume, where the report judges the volume

    >>> headline({"test": {"stored_objects": 12, "segmentation_v_rand": 0.9045}, "all": {"stored_objects": 3000}})
    ['test: 12 objects; V_rand of the objects 0.9045', 'all: 3,000 objects']
    >>> headline({"test": {"stored_objects": 12, "level": "usual"}})[1]
    'test: beside published scores its objects are usual'
    >>> headline({"train": {"stored_objects": 12, "level": "usual", "learnt": True}})[1]
    'train (from which the network learnt): beside published scores its objects are usual'
    """
    lines = []
    for volume, own in scores.items():
        number = own["stored_objects"]
        parts = [f"{number:,} object{'s' * (number != 1)}"]
        for name, value in headline_scores(own).items():
            parts.append(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
        lines.append(f"{volume}: {'; '.join(parts)}")
    for volume, own in scores.items():
        if "level" in own:
            seen = " (from which the network learnt)" if own.get("learnt") else ""
            lines.append(f"{volume}{seen}: beside published scores its objects are {own['level']}")
    return lines + [f"WARNING: {warning}" for warning in few_objects_warnings(scores)]
