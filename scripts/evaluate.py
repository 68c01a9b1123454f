"""Score a volume against its labels, block by block: pixels, classes, and objects."""

import logging
from pathlib import Path

from unet.evaluation import Comparison, best, predicted_classes
from unet.isbi import STEPS
from unet.job import run
from unet.progress import Progress
from unet.receipts import read_json, write_json
from unet.segmentation import channel_of
from unet.volume import Volume

log = logging.getLogger(__name__)


def main(
    survey: Path,
    sweep: Path,
    evaluation: Path,
    folder: Path,
    foreground: str | None,
    ignore_id: int | None,
    connectivity: str,
    fixed_threshold: float | None,
    threshold: Path | None = None,
) -> None:
    """Write `evaluation.json`."""
    source = Volume.open(folder, survey)
    stores = {name: source.image(name) for name in ("targets", "probability", "labels", "segmentation")}
    channels = stores["probability"].spec.channels
    two_classes = len(channels) == 1
    comparison = Comparison(2 if two_classes else len(channels), per_section=connectivity == "section")
    progress = Progress("evaluate", len(source.layout.grid), "blocks")
    for box in source.layout.grid.boxes():
        block = {name: image.read(box) for name, image in stores.items()}
        labels = block["labels"]
        if ignore_id:
            labels[labels == ignore_id] = 0
        comparison.add(
            block["targets"],
            predicted_classes(block["probability"]),
            labels,
            block["segmentation"],
            first_section=box.start[0],
            foreground_class=1 if two_classes else channel_of(foreground, channels),
        )
        progress.advance(1)
    swept = read_json(sweep)
    scores = {**comparison.scores(), **_isbi_scores(swept, threshold, fixed_threshold)}
    scores["class_iou"] = dict(
        zip(("background", *channels) if two_classes else channels, scores["class_iou"], strict=True)
    )
    log.info("%s: %s", source.name, scores)
    write_json(evaluation, {"rule": "evaluate", "volume": source.name, "scores": scores, "sweep": swept["scores"]})


def _isbi_scores(sweep: dict, threshold: Path | None, fixed: float | None) -> dict[str, float | None]:
    """V_rand and V_info at the best tenth, at the best fine threshold, and at the one chosen elsewhere."""
    rows = sweep["scores"]
    if not rows:
        return {}
    tenth, fine = best(rows, STEPS), best(rows)
    result: dict[str, float | None] = {
        "best_v_rand": tenth["v_rand"],
        "best_v_info": tenth["v_info"],
        "best_step": tenth["threshold"],
        "fine_v_rand": fine["v_rand"],
        "fine_v_info": fine["v_info"],
        "fine_threshold": fine["threshold"],
    }
    wanted = read_json(threshold)["best"]["threshold"] if threshold else fixed
    chosen = min(rows, key=lambda row: abs(row["threshold"] - (wanted or 0.5)))
    return {
        **result,
        "threshold": chosen["threshold"],
        "v_rand": chosen["v_rand"],
        "v_info": chosen["v_info"],
    }


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
