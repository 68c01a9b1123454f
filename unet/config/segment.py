"""Section `segment`: from probabilities to objects."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unet.config.section import (
    NonNegativeFloat,
    OpenProbability,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class WatershedConfig(Section):
    """Fragments of the foreground; all lengths in px of the section."""

    max_distance_px: PositiveFloat = Field(
        4.0, description="distance to the membrane above which all is equally far inside"
    )
    confidence_weight_px: NonNegativeFloat = Field(
        5.0, description="by how much a voxel that is certainly inside is higher: fragments end at faint membranes, too"
    )
    smoothing_px: NonNegativeFloat = Field(
        1.0, description="std of the Gaussian over both: more gives fewer, larger fragments"
    )
    expand_px: NonNegativeFloat = Field(6.0, description="how far fragments extend into the membrane")


class AgglomerateConfig(Section):
    """Joining the fragments of the watershed; a change here merges and relabels, and labels nothing again."""

    method: Literal["none", "mean", "quantile", "multicut"] = Field(
        "mean",
        description="none | mean, quantile: of the boundary probability over a contact | multicut: needs bioimage-cpp",
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5,
        description="fragments whose boundary scores less are joined; auto = least VOI on `evaluate.threshold_volumes`",
    )
    quantile: Probability = Field(0.5, description="for `quantile`: 0.5 is the median")
    size_mismatch_penalty: NonNegativeFloat = Field(
        0.1,
        description="for connectivity `section`: how much it speaks against a link between two sections that the two "
        "fragments are larger than their overlap",
    )


class SegmentConfig(Section):
    """From probabilities to instances."""

    method: Literal["components", "watershed"] = Field(
        "components", description="components: connected above the threshold (the paper) | watershed, then agglomerate"
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5, description="of the foreground's probability; auto = best V_rand on `evaluate.threshold_volumes`"
    )
    foreground: str | list[str] | None = Field(
        None, description="class that makes instances, null = the last; for components several, each with its instances"
    )
    connectivity: Literal["section", "volume"] = Field(
        "section",
        description="section: each section alone; the fragments of a watershed are then linked by agglomerate | "
        "volume: in 3-D",
    )
    max_section_gap: Annotated[int, Field(ge=0)] | None = Field(
        1,
        description="for a watershed per section: bad or missing sections that a link between fragments may skip; "
        "null = sections are not linked",
    )
    watershed: WatershedConfig = Field(WatershedConfig(), description="for method `watershed`")
    agglomerate: AgglomerateConfig = Field(AgglomerateConfig(), description="for method `watershed`")
    fill_holes: Annotated[int, Field(ge=0)] = Field(
        0, description="what one object encloses, of at most this many voxels, becomes part of it"
    )
    min_size: Annotated[int, Field(ge=0)] = Field(0, description="smaller objects are removed (voxels)")
    first_id: PositiveInt = Field(1, description="id of the first object; ids are dense and in scan order")

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
    def _nothing_without_effect(self) -> "SegmentConfig":
        graph, how = self.agglomerate, self.agglomerate.method
        watershed = self.method == "watershed"
        for key, value, default, beside, applies in (
            ("watershed", self.watershed, WatershedConfig(), f"method: {self.method}", watershed),
            ("agglomerate", graph, AgglomerateConfig(), f"method: {self.method}", watershed),
            ("agglomerate.threshold", graph.threshold, 0.5, f"agglomerate.method: {how}", how != "none"),
            ("agglomerate.quantile", graph.quantile, 0.5, f"agglomerate.method: {how}", how == "quantile"),
        ):
            if not applies and value != default:
                said = value.model_dump(exclude_defaults=True) if isinstance(value, Section) else value
                raise ValueError(f"{key} is {said}, but has no effect beside {beside}: remove it, or change the other")
        return self

    @property
    def classes(self) -> list[str | None]:
        """The classes that make instances; None = the last."""
        return list(self.foreground) if isinstance(self.foreground, list) else [self.foreground]

    @property
    def main_class(self) -> str | None:
        """The class whose threshold is swept."""
        return self.classes[0]

    @property
    def sections_alone(self) -> bool:
        """Whether no object extends over two sections."""
        joined = self.method == "watershed" and self.agglomerate.method != "none"
        return self.connectivity == "section" and not (joined and self.max_section_gap is not None)

    @property
    def has_graph(self) -> bool:
        """Whether it takes to know which fragments touch."""
        return self.fill_holes > 0 or (self.method == "watershed" and self.agglomerate.method != "none")
