"""Check that model and volumes fit each other, from their headers, before anything is ingested or trained.

Inputs: the receipts of `survey`, and the model file if `model.checkpoint` or `train.start_from` names one.

Outputs: a receipt with the dimensions of the network and the normalisation rule of the model file.

1. Compare the architecture in the model file with the configuration.
2. Compare channels and voxel sizes of each volume with the model's, or with those of the first training volume.
3. Compare the training tile with the size of the volume.
"""

import logging
from pathlib import Path
from typing import Any

from unet.config.model import ModelConfig
from unet.geometry.training_tile import LossRegion
from unet.jobs.script import run_script
from unet.network.compatibility import (
    normalisation_of_model,
    require_compatible_model,
    require_same_channels,
    require_same_voxel_size,
    require_tile_fits,
)
from unet.network.model_header import read_header
from unet.storage.digests import fingerprint
from unet.storage.files import write_receipt
from unet.volumes.input_states import model_input_states
from unet.volumes.layout import VolumeLayout

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
    loss_region: LossRegion,
    checkpoint: Path | None = None,
    check_weights: bool = True,
) -> None:
    """Compare each volume with the model file, or with the volume that the model will be trained on.

    `tile` is `train.tile` if the first of `volumes` is a training volume, and `loss_region` is `train.loss_region`.
    One job of a run reads the weights too, and refuses weights that are not finite.
    """
    input_states, rule = model_input_states(checkpoint), None
    layouts = {name: VolumeLayout.read(survey) for name, survey in zip(volumes, surveys, strict=True)}
    voxels = {name: layout.voxel_size_nm for name, layout in layouts.items()}
    channels = {name: layout.channels for name, layout in layouts.items()}
    dimensions = 3 if model_config.sees_sections else 2
    if checkpoint is not None:
        header = _header_beside_finite_weights(checkpoint) if check_weights else read_header(checkpoint)
        require_compatible_model(header, str(checkpoint), asked, channels)
        rule = normalisation_of_model(header, str(checkpoint), normalisation)
        dimensions, whose = 3 if ModelConfig(**header["model"]).sees_sections else 2, str(checkpoint)
        of_model = None if header["voxel_size_nm"] is None else tuple(header["voxel_size_nm"])
    else:
        require_same_channels(channels, str(trained_on))
        of_model, whose = voxels[str(trained_on)], f"the model, by volume {trained_on!r},"
    require_same_voxel_size(of_model, whose, voxels, dimensions, model_config.voxel_size_tolerance)
    shape = layouts[volumes[0]].shape
    warning = tile and require_tile_fits(volumes[0], shape, model_config, tile, loss_region)
    if warning:
        log.warning("%s", warning)
    fit = "fits" if len(volumes) == 1 else "fit"
    log.info("%s %s %s", " and ".join(volumes), fit, checkpoint or "the model that will be trained")
    digest = fingerprint(voxel_size_nm=of_model, dimensions=dimensions)
    warnings = [warning] if warning else []
    of_network = {"dimensions": dimensions, "normalisation": rule}
    write_receipt(
        receipt,
        {"rule": "check_model", "digest": digest, "input_states": input_states, **of_network, "warnings": warnings},
    )


def _header_beside_finite_weights(checkpoint: Path) -> dict[str, Any]:
    from unet.network.model_file import read_model_file  # imported here: PyTorch takes seconds

    return read_model_file(checkpoint)[0]


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
