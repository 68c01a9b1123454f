"""Section `evaluate`: the volumes to score."""

from pydantic import Field

from unet.config.section import Section


class EvaluateConfig(Section):
    """Scores of the segmentation against the labels. Every volume named here is also in `predict.volumes`."""

    volumes: list[str] = Field(
        [],
        description="Names of the volumes to score. Each has labels; the scores are in `evaluation.json` and the "
        "report.",
    )
    threshold_volumes: list[str] = Field(
        [],
        description="Names of the volumes that choose a threshold set to `auto`: `segment.threshold` by the best "
        "V_rand, `segment.agglomerate.threshold` by the least VOI in the mean over three neighbouring thresholds. With "
        "`segment.decoder: auto` they choose all settings of the decoding. Of a training volume only the sections "
        "count that `train.held_back` leaves out. "
        "Never name a volume whose score you report.",
    )
