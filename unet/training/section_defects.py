"""Defects of single sections of a patch: at most one per section, and its targets stay as they are.

```
partial    ||||....    blank on one side of a line, as where a section is torn or folded away
blurred    :|:|:|:|    out of focus
shifted      ||||||    displaced by itself, as a section that is not aligned
```

Blank sections, sections of other contrast, and jumps at which the rest of a volume moves along are drawn by
`unet.training.augmentation`.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from scipy.ndimage import gaussian_filter

from unet.config.train import AugmentConfig
from unet.geometry.mirroring import mirrored_indices


@dataclass(frozen=True)
class SectionDefect:
    """A defect of one section of the patch's input.

    `blur` is a standard deviation in px; `shift` `(y, x)` in whole px. `blank` is the grey value beyond a line. The
    line lies at `offset` from the centre (share of half the side), and its normal has `angle` degrees from y to x.
    """

    section: int
    blur: float = 0.0
    shift: tuple[int, int] = (0, 0)
    blank: float | None = None
    angle: float = 0.0
    offset: float = 0.0

    def applied(self, values: np.ndarray) -> np.ndarray:
        """Return grey values `(..., y, x)` of the section with the defect, float32."""
        if self.blur > 0:
            values = gaussian_filter(values, (*(0,) * (values.ndim - 2), self.blur, self.blur), mode="mirror")
        if any(self.shift):
            rows, columns = (mirrored_indices(-s, n - s, n) for s, n in zip(self.shift, values.shape[-2:], strict=True))
            values = values[..., rows[:, None], columns]
        if self.blank is not None:
            y, x = (np.linspace(-1, 1, n) for n in values.shape[-2:])
            beyond = cos(radians(self.angle)) * y[:, None] + sin(radians(self.angle)) * x > self.offset
            values = np.where(beyond, np.float32(self.blank), values)
        return values


def with_defects(values: np.ndarray, defects: tuple[SectionDefect, ...]) -> np.ndarray:
    """Return normalised grey values `(..., z, y, x)` float32 with defects of some sections."""
    if not defects:
        return values
    values = values.copy()
    for defect in defects:
        values[..., defect.section, :, :] = defect.applied(values[..., defect.section, :, :])
    return values


def draw_section_defects(
    rng: np.random.Generator, config: AugmentConfig, sections: int, blank_std: float
) -> tuple[SectionDefect, ...]:
    """Draw at most one defect per section; if all are switched off, no random number is taken.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every random number.
    config : AugmentConfig
        Section `train.augment` of the configuration.
    sections : int
        Number of sections of the patch's input.
    blank_std : float
        Largest distance of a blank grey value from the mean, in std.
    """
    shares = (config.partial_section, config.blurred_section, config.shifted_section)
    if not any(shares):
        return ()
    drawn, ends = rng.random(sections), np.cumsum(shares)
    found = []
    for section, kind in enumerate(np.searchsorted(ends, drawn, side="right")):
        if kind == 0:
            blank, angle, offset = rng.uniform(-blank_std, blank_std), rng.uniform(0, 360), rng.uniform(-1, 1)
            found.append(SectionDefect(section, blank=blank, angle=angle, offset=offset))
        elif kind == 1:
            found.append(SectionDefect(section, blur=rng.uniform(0.5, config.blurred_section_px)))
        elif kind == 2:
            y, x = np.rint(rng.normal(0, config.shifted_section_px, 2)).astype(int)
            found.append(SectionDefect(section, shift=(int(y), int(x))))
    return tuple(found)
