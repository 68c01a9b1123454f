"""Check that the model and the volumes fit each other, from headers alone: before anything is ingested or trained."""

import logging
from pathlib import Path
from typing import Any

from unet.config.model import ModelConfig
from unet.jobs.script import run_script
from unet.network.compatibility import (
    require_fit,
    require_same_channels,
    require_same_voxels,
    require_tile_fits,
    rule_of_model,
)
from unet.storage.digests import fingerprint
from unet.storage.files import write_json
from unet.volumes.input_states import model_made_from
from unet.volumes.volume import Layout

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    receipt: Path,
    volumes: list[str],
    trained_on: str | None,
    model_config: ModelConfig,
    asked: dict[str, Any],
    normalisation: dict[str, Any],
    tile: int | tuple[int, int, int] | None,
    checkpoint: Path | None = None,
) -> None:
    """Compare every volume with the model file, or with the first volume that the model will be trained on.

    `tile` is that of the training, where it learns from the first of `volumes`.
    """
    made_from, rule = model_made_from(checkpoint), None
    layouts = {name: Layout.read(survey) for name, survey in zip(volumes, surveys, strict=True)}
    voxels = {name: layout.voxel_size_nm for name, layout in layouts.items()}
    channels = {name: layout.channels for name, layout in layouts.items()}
    dimensions = model_config.dimensions
    if checkpoint is not None:
        from unet.network.model_file import read_model_file  # where it is needed: PyTorch takes seconds

        header, _ = read_model_file(checkpoint)
        require_fit(header, str(checkpoint), asked, channels)
        rule = rule_of_model(header, str(checkpoint), normalisation)
        dimensions, whose = header["model"]["dimensions"], str(checkpoint)
        of_model = None if header["voxel_size_nm"] is None else tuple(header["voxel_size_nm"])
    else:
        require_same_channels(channels, str(trained_on))
        of_model, whose = voxels[str(trained_on)], f"the model, by volume {trained_on!r},"
    require_same_voxels(of_model, whose, voxels, dimensions, model_config.voxel_size_tolerance)
    warning = tile and require_tile_fits(volumes[0], layouts[volumes[0]].shape, model_config, tile)
    if warning:
        log.warning("%s", warning)
    fit = "fits" if len(volumes) == 1 else "fit"
    log.info("%s %s %s", " and ".join(volumes), fit, checkpoint or "the model that will be trained")
    digest = fingerprint(voxel_size_nm=of_model, dimensions=dimensions)
    warnings = [warning] if warning else []
    of_network = {"dimensions": dimensions, "normalisation": rule}
    write_json(
        receipt, {"rule": "check_model", "digest": digest, "made_from": made_from, **of_network, "warnings": warnings}
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
