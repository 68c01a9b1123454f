"""The parameters of jobs out of the configuration: a change of a parameter reruns the job."""

from collections.abc import Iterable
from typing import Any

from unet.config.root import Config
from unet.config.section import Section
from unet.config.segment import SegmentConfig
from unet.volumes.input_states import SCORED_WITH, SURVEYED_WITH

CHOOSING = ("decoder", "candidates")
"""Keys of `segment` whose effect is in the receipt of `choose_decoder`."""
FINISHING = ("fill_holes", "min_size", "first_id", "suspected_merges", "separate_objects", "merge_voxels")
"""Keys of `segment` on which neither fragments nor their joins depend."""


def settings(section: Section, leave_out: Iterable[str] = (), unset: bool = True) -> dict[str, Any]:
    """Return a section of the configuration as a plain mapping.

    Parameters
    ----------
    leave_out : iterable of str
        Keys that the result of the rule does not depend on.
    unset : bool
        Whether defaults count as well.
    """
    return section.model_dump(mode="json", exclude=set(leave_out), exclude_unset=not unset)


def volume_settings(config: Config, volume: str) -> dict[str, Any]:
    """Return what is known of a volume's files, without what only its scores or its survey need."""
    return settings(config.volumes[volume], [*SCORED_WITH, *SURVEYED_WITH])


def segment_settings(config: Config, store: str, leave_out: Iterable[str]) -> dict[str, Any]:
    """Return section `segment` for a store; annotated classes (store `labels`) are labelled by defaults."""
    return settings(config.segment if store == "segmentation" else SegmentConfig(), leave_out)


def candidate_settings(config: Config, leave_out: Iterable[str]) -> dict[str, Any]:
    """Return section `segment` for rules that work on candidates, without what these do not depend on.

    Parameters
    ----------
    leave_out : iterable of str
        Keys of `segment.candidates` that the result of the rule does not depend on.
    """
    return {
        **settings(config.segment, ["agglomerate", *FINISHING]),
        "candidates": settings(config.segment.candidates, leave_out),
    }


def separated_axes(config: Config, store: str) -> list[int]:
    """Return the axes along which the objects of a store are separated; none for annotated ones."""
    return list(config.segment.axes) if config.segment.separate_objects and store == "segmentation" else []


def affinities_settings(config: Config) -> dict[str, Any] | None:
    """Return what weights depend on of section `train.affinities`; None where classes are learnt."""
    return settings(config.train.affinities, ["shape_descriptors"]) if config.model.output == "affinities" else None


def given_model(config: Config, name: str = "model") -> dict[str, str]:
    """Return the given model file as a parameter; the user's files are compared by `unet.run.changes`."""
    return {name: config.model.checkpoint} if config.model.checkpoint else {}


def compared_model(config: Config) -> dict[str, str]:
    """Return the model file that is compared with the volumes, as parameter `checkpoint`: one to use or to continue."""
    return {"checkpoint": config.given_model} if config.given_model else {}


def asked_of_model(config: Config) -> dict[str, Any]:
    """Return what the configuration itself says of the network; a given model file has to agree."""
    asked = settings(config.model, ["checkpoint", "voxel_size_tolerance"], unset=False)
    return {**asked, "output": config.model.output} if config.given_model else asked


def asked_of_normalisation(config: Config) -> dict[str, Any]:
    """Return what the configuration itself says of the normalisation, where a given model has its own."""
    return settings(config.normalisation, unset=False) if config.given_model else {}
