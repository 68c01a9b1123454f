"""Keys of `segment.candidates`: the settings among which `segment.decoder: auto` chooses, and one choice of them."""

from itertools import pairwise, product
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from unet.config.section import OpenProbability, PositiveInt, Section
from unet.config.watershed import WatershedConfig

Method = Literal["mean", "quantile", "multicut", "average_linkage", "mutex_watershed"]
Methods = Annotated[list[Method], Field(min_length=1)]


class FragmentSettings(Section):
    """Settings that decide what the fragments are."""

    threshold: OpenProbability = Field(
        0.3, description="Foreground probability, or interior, above which a voxel is foreground."
    )
    watershed: WatershedConfig = Field(WatershedConfig(), description="Height map of the watershed.")


class Decoder(Section):
    """Settings of the decoding that are chosen together. `fragments` counts `candidates.fragments` from 0."""

    fragments: int
    max_offset_px: int | None
    method: Method
    threshold: float
    join_fragments_below: int

    @property
    def kind(self) -> tuple[int, int | None, str, int]:
        """Return all settings but the threshold."""
        return self.fragments, self.max_offset_px, self.method, self.join_fragments_below


class CandidatesConfig(Section):
    """Settings among which `decoder: auto` chooses: every combination of the lists is scored."""

    fragments: Annotated[list[FragmentSettings], Field(min_length=1)] = Field(
        [
            FragmentSettings(watershed=WatershedConfig(expand_px=12)),
            FragmentSettings(watershed=WatershedConfig(expand_px=12, confidence_weight_px=0)),
            FragmentSettings(watershed=WatershedConfig(expand_px=12), threshold=0.5),
        ],
        description="Settings of the fragments: `threshold`, as `segment.threshold`, and `watershed`. All blocks are "
        "cut into fragments, and their region graph is made, once for each entry.",
    )
    max_offset_px: Annotated[list[PositiveInt | None], Field(min_length=1)] = Field(
        [1, 3, None], description="For affinities: values of `segment.max_offset_px`; null counts all offsets."
    )
    methods: Methods | Literal["auto"] = Field(
        "auto",
        description="Values of `agglomerate.method`. `auto`: `average_linkage` and `mutex_watershed` for affinities, "
        "and `mean` for classes.",
    )
    thresholds: Annotated[list[OpenProbability], Field(min_length=1)] = Field(
        [percent / 100 for percent in range(5, 100, 5)],
        description="Values of `agglomerate.threshold`, in increasing order. The score of a threshold is the mean over "
        "it and its neighbours in the list, so steps should be alike. The first and the last are never chosen.",
    )
    join_fragments_below: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        [0, 500], description="Values of `agglomerate.join_fragments_below`."
    )

    @field_validator("thresholds")
    @classmethod
    def _increase(cls, thresholds: list[float]) -> list[float]:
        if any(a >= b for a, b in pairwise(thresholds)):
            raise ValueError(f"got {thresholds}: list thresholds in increasing order, each once")
        return thresholds

    @model_validator(mode="after")
    def _each_once(self) -> "CandidatesConfig":
        for key in ("fragments", "max_offset_px", "methods", "join_fragments_below"):
            values: Any = getattr(self, key)
            if values != "auto" and any(values.count(value) > 1 for value in values):
                raise ValueError(f"{key} lists a value twice: list each once")
        return self

    def methods_for(self, affinities: bool) -> list[Method]:
        """Return the methods to score, for affinities or for classes."""
        if self.methods != "auto":
            return self.methods
        return ["average_linkage", "mutex_watershed"] if affinities else ["mean"]

    def offsets_for(self, affinities: bool) -> list[int | None]:
        """Return the values of `max_offset_px` to score; [None] for classes, which have no offsets."""
        return list(self.max_offset_px) if affinities else [None]

    def settings_of(self, decoder: Decoder) -> dict[str, Any]:
        """Return the keys of `segment` that a decoder stands for, as plain values (`SegmentConfig.decoded_by`)."""
        fragments = self.fragments[decoder.fragments]
        return {
            **fragments.model_dump(mode="json"),
            "max_offset_px": decoder.max_offset_px,
            "agglomerate": decoder.model_dump(include={"method", "threshold", "join_fragments_below"}),
        }

    def decoders(self, affinities: bool) -> list[Decoder]:
        """Return every combination of the lists: thresholds vary fastest.

        >>> one = CandidatesConfig(thresholds=[0.2, 0.4], fragments=[FragmentSettings()])
        >>> [(d.method, d.join_fragments_below, d.threshold) for d in one.decoders(affinities=False)]
        [('mean', 0, 0.2), ('mean', 0, 0.4), ('mean', 500, 0.2), ('mean', 500, 0.4)]
        """
        lists = (
            range(len(self.fragments)),
            self.offsets_for(affinities),
            self.methods_for(affinities),
            self.join_fragments_below,
            self.thresholds,
        )
        return [
            Decoder(fragments=a, max_offset_px=b, method=c, threshold=e, join_fragments_below=d)
            for a, b, c, d, e in product(*lists)
        ]
