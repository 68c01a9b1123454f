"""Show the effect of each augmentation on a real training patch, on one page.

Inputs: `raw.zarr`, `targets.zarr` and `weights.zarr` of the first training volume.

Outputs: `augmentation.html`.

1. Choose a patch with labels.
2. Apply each random change alone, three times, and all changes together.
3. Write image, target and weights of each draw as pictures on one page.
"""

from pathlib import Path

from unet.config.model import ModelConfig
from unet.config.root import ConfigError
from unet.config.section import Triple
from unet.config.train import AugmentConfig
from unet.geometry.training_tile import LossRegion, training_geometry
from unet.jobs.script import run_script
from unet.run.report.augmentation_page import augmentation_page, style_of
from unet.storage.files import read_json, write_atomically
from unet.training.labelled_volume import LabelledVolume
from unet.training.patches import CachedVolume
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

CACHE_MB = 256


def main(
    surveys: list[Path],
    intensity_statistics: list[Path],
    page: Path,
    template: Path,
    report_template: Path,
    folders: list[Path],
    model_config: ModelConfig,
    tile: int | Triple,
    loss_region: LossRegion,
    augment: AugmentConfig,
    seed: int,
) -> None:
    """Write the page to `page`."""
    if not surveys:
        raise ConfigError("there are no training volumes: with model.checkpoint nothing is trained; set it to null")
    volume = Volume.open(folders[0], surveys[0])
    normalisation = Normalisation.of(read_json(intensity_statistics[0])["statistics"])
    stores = (volume.raw_without_blanks(normalisation), volume.image("targets"), volume.image("weights"))
    raw, targets, weights = (CachedVolume(store, cube=volume.layout.chunk, megabytes=CACHE_MB) for store in stores)
    labelled = LabelledVolume(raw, targets, weights, normalisation)
    style = style_of(report_template.read_text())
    geometry = training_geometry(model_config, tile, loss_region)
    html = augmentation_page(template.read_text(), style, labelled, geometry, augment, seed)
    write_atomically(page, html.encode())


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
