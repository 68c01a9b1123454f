"""Section `evaluate`: which volumes are scored."""

from pydantic import Field

from unet.config.section import Section


class EvaluateConfig(Section):
    """Scores against the labels."""

    volumes: list[str] = Field([], description="volumes to score")
    threshold_volumes: list[str] = Field(
        [], description="volumes whose best V_rand chooses the threshold; normally the training volumes"
    )
