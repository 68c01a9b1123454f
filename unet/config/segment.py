"""Section `segment`: from probabilities to instances."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unet.config.decoder import CandidatesConfig
from unet.config.section import NonNegativeFloat, OpenProbability, PositiveInt, Probability, Section
from unet.config.watershed import WatershedConfig

AFFINITY_METHODS = ("average_linkage", "mutex_watershed")
"""Methods of `agglomerate` that need affinities."""
BOUNDARY_METHODS = ("mean", "quantile", "multicut")
"""Methods of `agglomerate` that need the probability of a class."""
CHOSEN_OF_SEGMENT = ("threshold", "watershed", "max_offset_px")
"""Keys of `segment` that `decoder: auto` chooses."""
CHOSEN_OF_AGGLOMERATE = ("threshold", "join_fragments_below")
"""Keys of `segment.agglomerate` that `decoder: auto` chooses beside `method`."""


class AgglomerateConfig(Section):
    """Agglomeration: joining fragments of the watershed into objects.

    A change of these keys reruns `merge` and `relabel` only.
    """

    method: Literal["none", "mean", "quantile", "multicut", "average_linkage", "mutex_watershed"] = Field(
        "mean",
        description="How fragments are joined. `none`: they are not. From the boundary probabilities over the contact "
        "of two fragments: `mean`, their mean; `quantile`, their quantile `quantile`; `multicut`, their mean, with one "
        "global optimum instead of joining step by step (needs the package bioimage-cpp). From affinities: "
        "`average_linkage`, the mean affinity of all pairs of voxels of two objects, nearest and long-range; "
        "`mutex_watershed`, the mean affinity of two fragments, where the strongest attraction or repulsion counts. "
        "Where nothing is given, a network of affinities has `average_linkage`.",
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5,
        description="For a boundary score: the score below which fragments are joined, so a larger value joins more. "
        "For affinities: the mean affinity above which fragments are joined, so a larger value joins less. `auto`: the "
        "threshold with the least variation of information (VOI) on `evaluate.threshold_volumes`.",
    )
    quantile: Probability = Field(
        0.5, description="Quantile of the boundary probabilities that method `quantile` takes; 0.5 is the median."
    )
    size_mismatch_penalty: NonNegativeFloat = Field(
        0.1,
        description="For connectivity `section`: penalty for joining two fragments of neighbouring sections whose "
        "sizes exceed their overlap. With 0 there is no penalty. Affinities need none.",
    )
    join_fragments_below: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Number of voxels below which an object is joined with one neighbour after all other joins, "
        "whatever the threshold. The neighbour has the lowest mean boundary, or the highest mean affinity, of all. "
        "With 0 no object is joined because it is small.",
    )


class SuspectedMergesConfig(Section):
    """Suspected merge errors: large parts of one object that are connected by a small or weak contact.

    They are listed with their positions in `suspected_merges.csv` and in the report. The segmentation stays as it is.
    """

    min_size: PositiveInt = Field(5000, description="Smallest number of voxels of both parts.")
    min_contacts: Annotated[int, Field(ge=0)] = Field(
        20, description="Number of pairs of adjacent voxels below which a contact is small; with 0 none is."
    )
    margin: Probability = Field(
        0.1,
        description="A contact is weak if its score is on the right side of `agglomerate.threshold` by no more than "
        "this margin.",
    )


class SegmentConfig(Section):
    """Segmentation: from probabilities to instances."""

    method: Literal["components", "watershed"] = Field(
        "components",
        description="`components`: connected voxels above the threshold are one object, as in the paper. `watershed`: "
        "basins of a height map become fragments, which `agglomerate` joins into objects.",
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5,
        description="Foreground probability above which a voxel is foreground. `auto`: the threshold with the best "
        "V_rand on `evaluate.threshold_volumes`.",
    )
    foreground: str | list[str] | None = Field(
        None,
        description="Class whose voxels make objects; for method `components` also a list of classes, each with "
        "objects of its own. With null it is the last class.",
    )
    connectivity: Literal["section", "volume"] = Field(
        "section",
        description="`section`: objects (or fragments) are found in each section alone, and `agglomerate` links the "
        "fragments of neighbouring sections; for thick sections. `volume`: they are found in 3-D; for voxels that are "
        "nearly cubes.",
    )
    max_section_gap: Annotated[int, Field(ge=0)] | None = Field(
        1,
        description="For method `watershed` with connectivity `section`: number of bad or missing sections that a link "
        "between fragments may skip. With null fragments of different sections are not linked.",
    )
    max_offset_px: PositiveInt | None = Field(
        None,
        description="For affinities: largest component, in voxels, of the offsets whose pairs `agglomerate` counts. "
        "With null all offsets count.",
    )
    watershed: WatershedConfig = Field(WatershedConfig(), description="Settings of method `watershed`.")
    agglomerate: AgglomerateConfig = Field(AgglomerateConfig(), description="Settings of method `watershed`.")
    decoder: Literal["fixed", "auto"] = Field(
        "fixed",
        description="For method `watershed`. `fixed`: the settings above. `auto`: `threshold`, `watershed`, "
        "`max_offset_px`, and `method`, `threshold` and `join_fragments_below` of `agglomerate` are chosen together, "
        "among `candidates`, by the least VOI on `evaluate.threshold_volumes`. Of a training volume only the sections "
        "count that the training left out.",
    )
    candidates: CandidatesConfig = Field(CandidatesConfig(), description="What `decoder: auto` chooses among.")
    suspected_merges: SuspectedMergesConfig | None = Field(
        None,
        description="Thresholds by which merge errors are suspected after `agglomerate`. With null none are looked "
        "for, with `{}` by the defaults.",
    )
    fill_holes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Largest number of voxels that one object may enclose for them to become part of it; 0 fills "
        "nothing.",
    )
    min_size: Annotated[int, Field(ge=0)] = Field(
        0, description="Smallest number of voxels of an object. Smaller objects become background."
    )
    separate_objects: bool = Field(
        False,
        description="Whether objects that touch get one voxel of background between them; with connectivity `section` "
        "within each section.",
    )
    merge_voxels: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Voxels whose fragments one job merges, at least a layer of blocks. A larger volume is merged part "
        "by part, with the same result. `auto`: about a million fragments.",
    )
    first_id: PositiveInt = Field(
        1, description="Id of the first object. Ids are consecutive, in scan order of each object's first voxel."
    )

    @model_validator(mode="after")
    def _one_class_for_watershed(self) -> "SegmentConfig":
        if self.method == "watershed" and isinstance(self.foreground, list):
            raise ValueError(
                f"foreground is {self.foreground}, but a watershed needs one class: name the cells' interior"
            )
        if self.foreground == []:
            raise ValueError("foreground is empty: name a class, or null for the last")
        return self

    @model_validator(mode="after")
    def _no_unused_keys(self) -> "SegmentConfig":
        graph, how = self.agglomerate, self.agglomerate.method
        watershed = self.method == "watershed"
        for key, value, default, beside, applies in (
            ("watershed", self.watershed, WatershedConfig(), f"method: {self.method}", watershed),
            ("agglomerate", graph, AgglomerateConfig(), f"method: {self.method}", watershed),
            ("suspected_merges", self.suspected_merges, None, f"method: {self.method}", watershed),
            ("suspected_merges", self.suspected_merges, None, f"agglomerate.method: {how}", how != "none"),
            ("agglomerate.threshold", graph.threshold, 0.5, f"agglomerate.method: {how}", how != "none"),
            ("agglomerate.quantile", graph.quantile, 0.5, f"agglomerate.method: {how}", how == "quantile"),
        ):
            if not applies and value != default:
                said = value.model_dump(exclude_defaults=True) if isinstance(value, Section) else value
                raise ValueError(
                    f"{key} is {said}, but has no effect with {beside}: remove {key}, or change the method"
                )
        return self

    @model_validator(mode="after")
    def _settings_are_given_or_chosen(self) -> "SegmentConfig":
        if self.decoder == "fixed":
            if self.candidates != CandidatesConfig():
                raise ValueError("candidates has no effect with decoder: fixed: remove it, or set decoder: auto")
            return self
        if self.method != "watershed":
            raise ValueError(f"decoder: auto needs method: watershed, but method is {self.method}")
        graph, default = self.agglomerate, AgglomerateConfig()
        if graph.method == "none":
            raise ValueError("decoder: auto chooses agglomerate.method, which is none: remove one of them")
        own = {key: (getattr(self, key), SegmentConfig.model_fields[key].default) for key in CHOSEN_OF_SEGMENT}
        own |= {f"agglomerate.{key}": (getattr(graph, key), getattr(default, key)) for key in CHOSEN_OF_AGGLOMERATE}
        for key, (value, unset) in own.items():
            if value != unset:
                said = value.model_dump(exclude_defaults=True) if isinstance(value, Section) else value
                raise ValueError(
                    f"{key} is {said}, but decoder: auto chooses it: list it in candidates, or set decoder: fixed"
                )
        return self

    def decoded_by(self, chosen: Mapping[str, Any]) -> "SegmentConfig":
        """Return the settings with those that `decoder: auto` chose (`CandidatesConfig.settings_of`)."""
        given = {key: chosen[key] for key in ("threshold", "max_offset_px")}
        given |= {"watershed": WatershedConfig(**chosen["watershed"])}
        return self.model_copy(
            update={**given, "agglomerate": self.agglomerate.model_copy(update=chosen["agglomerate"])}
        )

    @property
    def fragment_settings(self) -> list["SegmentConfig"]:
        """Return the settings of all fragments that are compared, or the only ones."""
        if self.decoder == "fixed":
            return [self]
        return [
            self.model_copy(update={"threshold": one.threshold, "watershed": one.watershed})
            for one in self.candidates.fragments
        ]

    @property
    def classes(self) -> list[str | None]:
        """Return the names of the classes that make objects; None stands for the last class."""
        return list(self.foreground) if isinstance(self.foreground, list) else [self.foreground]

    @property
    def main_class(self) -> str | None:
        """Return the class whose threshold is swept; None stands for the last class."""
        return self.classes[0]

    def fitting_methods(self, affinities: bool) -> str | None:
        """Return the methods to take instead of `agglomerate.method`, if it does not fit what the network gives.

        None if it fits. `affinities` says what the network gives: affinities, or the probabilities of classes.
        """
        fitting, others = (AFFINITY_METHODS, BOUNDARY_METHODS) if affinities else (BOUNDARY_METHODS, AFFINITY_METHODS)
        if self.method != "watershed" or self.agglomerate.method not in others:
            return None
        return ", ".join(("none", *fitting))

    @property
    def axes(self) -> tuple[int, ...]:
        """Return the axes along which fragments extend."""
        return (1, 2) if self.connectivity == "section" else (0, 1, 2)

    @property
    def sections_alone(self) -> bool:
        """Return whether every object lies in one section."""
        joined = self.method == "watershed" and self.agglomerate.method != "none"
        return self.connectivity == "section" and not (joined and self.max_section_gap is not None)

    @property
    def has_graph(self) -> bool:
        """Return whether the segmentation needs the region graph, the graph of touching fragments."""
        return self.fill_holes > 0 or (self.method == "watershed" and self.agglomerate.method != "none")
