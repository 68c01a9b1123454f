"""Say what would be read of image files, and write a configuration for them.

    python -m unet.run.inspect sections/ labels.tif > mine.yaml

1. Each path is opened and sampled: axes, shape, dtype, voxel size, files and grey values go to the terminal.
2. Which path holds intensities, labels or a mask, and what the labels mean, is guessed, with the reason.
3. Network and number of steps are chosen so that the run is foreseen to end in `--minutes` on this machine.
4. The configuration goes to standard output, with a comment at each value that says why.

Only headers and windows of some sections are read, so that a volume of any size takes seconds.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from unet.config.source import SourceConfig
from unet.run.inspection.annotated_sections import AnnotatedSections, find_annotated_sections, split_sections
from unet.run.inspection.commented_yaml import commented_yaml
from unet.run.inspection.foreseen_time import Foreseen, fitted
from unet.run.inspection.hardware import Hardware, hardware_here
from unet.run.inspection.label_guess import LabelGuess, NotLabelsError, Role, guess_labels
from unet.run.inspection.roles import InspectionError, Roles, annotated_raw, assign_roles
from unet.run.inspection.sample_pictures import write_pictures
from unet.run.inspection.samples import middle_window, spread
from unet.run.inspection.source_summary import SourceSummary, summarise
from unet.run.inspection.suggested_settings import Inputs
from unet.run.inspection.voxel_sizes import doubt_of, voxel_size_of
from unet.run.plan.text import hours
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import Placed
from unet.volumes.sources import VolumeSources

MINUTES, MINUTES_WITH_GPU = 30, 120
"""Minutes in which the run is to end, if the user does not say."""
SAMPLED_SECTIONS = 8
"""Annotated sections from which the meaning of labels is guessed."""
PROBLEMS = (ValueError, OSError, RuntimeError, ImportError)
"""Errors of files: of readers, of the system, of a package that is missing."""


@dataclass
class Inspection:
    """What was found of the given paths.

    Attributes
    ----------
    summaries : list of SourceSummary
        The paths that can be read.
    problems : list of str
        What is wrong, one sentence each.
    inputs : Inputs, or None
        The files of a configuration; None if none follows from the paths.
    volume : VolumeSources, or None
        The annotated volume, open.
    warnings : list of str
        What the user has to look at.
    annotated : AnnotatedSections, or None
        The annotated sections.
    """

    summaries: list[SourceSummary] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    inputs: Inputs | None = None
    volume: VolumeSources | None = None
    warnings: list[str] = field(default_factory=list)
    annotated: AnnotatedSections | None = None


def inspect_paths(
    given: Sequence[tuple[SourceConfig, Role | None]],
    voxel_size_nm: tuple[float, float, float] | None = None,
    model: str | None = None,
) -> Inspection:
    """Open all paths, and find out what they are; errors of a path become `problems`, and the others are still read.

    Parameters
    ----------
    given : sequence
        Sources, each with what it is, or None if that is to be guessed.
    voxel_size_nm : tuple of float, optional
        Voxel size `(z, y, x)` that the user gives.
    model : str, optional
        A trained model, so that no labels are needed.
    """
    found = Inspection()
    for source, role in given:
        try:
            found.summaries.append(summarise(source, role))
        except PROBLEMS as error:
            found.problems.append(str(error))
    if found.problems:
        return found
    try:
        _understand(found, voxel_size_nm, model)
    except PROBLEMS as error:
        found.problems.append(str(error))
    return found


def _understand(found: Inspection, voxel_size_nm: tuple[float, float, float] | None, model: str | None) -> None:
    """Find out what the sources are together."""
    roles = assign_roles(found.summaries)
    found.summaries = roles.all
    sizes = [voxel_size_of(raw, roles.labels, voxel_size_nm) for raw in roles.raw]
    number, found.volume = annotated_raw(roles, sizes)
    raw, size = roles.raw[number], sizes[number]
    found.warnings += found.volume.remarks
    found.warnings += [doubt for one, own in zip(roles.raw, sizes, strict=True) if (doubt := doubt_of(one, own))]
    found.warnings += [
        f"{one.address}: voxel size {own.why}"
        for one, own in zip(roles.raw, sizes, strict=True)
        if own.why.startswith("ASSUMED")
    ]
    guess = _meaning_of_labels(found, roles) if roles.labels is not None else None
    if guess is None and model is None:
        raise InspectionError(
            "no path holds labels, so there is nothing to learn from: annotate some sections (docs/how-to/annotate.md) "
            "and give them as well, or name a trained model with --model model.pt"
        )
    further = {
        _free_name(one.address, index): (one.given, own)
        for index, (one, own) in enumerate(zip(roles.raw, sizes, strict=True))
        if index != number
    }
    found.inputs = Inputs(
        raw.given,
        raw.source.shape,
        size,
        labels=roles.labels.given if roles.labels and guess else None,
        mask=roles.mask.given if roles.mask else None,
        guess=guess,
        split=split_sections(found.annotated) if found.annotated and guess and model is None else None,
        covered=found.volume.labels.inside if isinstance(found.volume.labels, Placed) else None,
        further=further,
        model=model,
    )


def _meaning_of_labels(found: Inspection, roles: Roles) -> LabelGuess:
    """Return what the labels mean, and note it at their summary."""
    assert roles.labels is not None
    assert found.volume is not None
    assert found.volume.labels is not None
    labels = found.volume.labels
    found.annotated = find_annotated_sections(labels)
    roles.labels.lines.append(("annotated", str(found.annotated)))
    if not found.annotated.runs:
        raise NotLabelsError(f"{roles.labels.address}: no section holds two different values, so nothing is annotated")
    try:
        guess = guess_labels(_drawn_windows(roles.labels, labels, found.annotated))
    except NotLabelsError as error:
        raise NotLabelsError(f"{roles.labels.address}: {error}") from None
    roles.labels.lines.append(("kind", f"{guess.kind}: {guess.why}"))
    if guess.class_values:
        roles.labels.lines.append(("classes", ", ".join(f"{k}: {v}" for k, v in guess.class_values.items())))
    if guess.ignore_id is not None:
        roles.labels.lines.append(("ignore_id", f"{guess.ignore_id}, taken as not annotated"))
    found.warnings += [f"{roles.labels.address}: {warning}" for warning in guess.warnings]
    return guess


def _drawn_windows(summary: SourceSummary, labels: Source, annotated: AnnotatedSections) -> NDArray:
    """Return windows of annotated sections: those of the sample, else sections of the volume."""
    values = summary.sample.values
    drawn = values[(values != values[:, :1, :1]).any(axis=(1, 2))]
    if len(drawn):
        return drawn
    numbers = [z for run in annotated.runs for z in range(*run)]
    chosen = [numbers[i] for i in spread(len(numbers), SAMPLED_SECTIONS)]
    return np.concatenate([labels.read(middle_window(labels, z, 2048)) for z in chosen])


def _free_name(address: str, number: int) -> str:
    """Return a name of a volume from an address; the number keeps it apart from others.

    >>> _free_name("data/volume.h5:/raw", 1)
    'volume_1'
    """
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', _stem(address)).strip('_-') or 'volume'}_{number}"


def _stem(address: str) -> str:
    """Return the name of a file or folder without its endings, and without what is inside.

    >>> _stem("s3://bucket/cortex.zarr:/raw"), _stem("sections/")
    ('cortex', 'sections')
    """
    return Path(address.split("://")[-1].partition(":")[0].rstrip("/")).name.partition(".")[0]


def configuration_text(foreseen: Foreseen, hardware: Hardware, command: str) -> str:
    """Return the configuration as YAML, with comments that say why and what it is foreseen to take."""
    left_out = f", without the volumes {', '.join(foreseen.left_out)}" if foreseen.left_out else ""
    header = [
        f"Written by {command}",
        f"Foreseen to take {hours(foreseen.seconds)} on {hardware}{left_out}.",
        "What it costs: snakemake plan --configfile FILE",
        "The run: snakemake --cores all --configfile FILE",
        "A key that is not here has its default: config/README.md",
    ]
    body = commented_yaml(foreseen.suggestion.settings, foreseen.suggestion.reasons)
    return "".join(f"# {line}\n" for line in header) + "\n" + body


def foreseen_text(foreseen: Foreseen, minutes: float) -> str:
    """Return what the run is foreseen to take, for people."""
    config, lines = foreseen.config, []
    training = f"{config.train.steps} steps of training, " if foreseen.config.model.checkpoint is None else ""
    lines.append(f"foreseen: {hours(foreseen.seconds)} ({training}{len(config.predict.volumes)} volumes to segment)")
    if foreseen.seconds > 60 * minutes:
        lines.append(f"WARNING: that is more than {minutes:g} minutes, and less is hardly worth it (--minutes)")
    if foreseen.left_out:
        lines.append(f"{', '.join(foreseen.left_out)}: segmented later; predict.volumes leaves it out for now")
    return "\n".join([*lines, *(f"WARNING: {warning}" for warning in foreseen.plan.warnings)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m unet.run.inspect", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="intensities, labels and mask, in any order")
    parser.add_argument("--raw", action="append", default=[], metavar="PATH", help="a path that holds intensities")
    parser.add_argument("--labels", action="append", default=[], metavar="PATH", help="the path that holds labels")
    parser.add_argument("--mask", action="append", default=[], metavar="PATH", help="the path that holds a mask")
    parser.add_argument(
        "--voxel-size", nargs=3, type=float, metavar=("Z", "Y", "X"), help="voxel size in nm, whatever the files say"
    )
    parser.add_argument("--model", metavar="MODEL.PT", help="a trained model to use, so that no labels are needed")
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"time in which the run is to end here ({MINUTES} by default, {MINUTES_WITH_GPU} with a GPU)",
    )
    parser.add_argument("--results", help="folder of the results in the configuration")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write sections of each path into this folder as PNG"
    )
    return parser


def given_sources(arguments: argparse.Namespace) -> list[tuple[SourceConfig, Role | None]]:
    """Return the sources of the command line, each with its role or None. `{path: a.tif, axes: zxy}` is YAML.

    Raises
    ------
    ValueError
        If a source is not valid.
    """
    paths: list[tuple[str, Role | None]] = [(path, None) for path in arguments.paths]
    roles: tuple[Role, ...] = ("raw", "labels", "mask")
    for role in roles:
        paths += [(path, role) for path in getattr(arguments, role)]
    return [(_source(path), role) for path, role in paths]


def _source(text: str) -> SourceConfig:
    if text.startswith("{") and text.endswith("}"):
        values = yaml.safe_load(text)
        if isinstance(values, dict) and "path" in values:
            return SourceConfig.model_validate(values)
    return SourceConfig(path=text)


def main(words: Sequence[str] | None = None) -> None:
    """Print what would be read to standard error, and a configuration to standard output."""
    parser = _parser()
    arguments = parser.parse_args(words)
    try:
        given = given_sources(arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    if not given:
        parser.error("give the paths of your image files, as in python -m unet.run.inspect sections/ labels.tif")
    size = tuple(arguments.voxel_size) if arguments.voxel_size else None
    found = inspect_paths(given, size, arguments.model)
    for summary in found.summaries:
        _tell(f"{summary.text()}\n")
    if arguments.pictures is not None:
        _draw(found, arguments.pictures)
    for warning in found.warnings:
        _tell(f"WARNING: {warning}")
    if found.inputs is None or found.problems:
        raise SystemExit("\n".join(["no configuration is written:", *found.problems]))
    hardware = hardware_here()
    minutes = arguments.minutes or (MINUTES_WITH_GPU if hardware.gpu else MINUTES)
    _tell(f"measuring this machine for some seconds: {hardware}")
    try:
        results = arguments.results or f"results-{_stem(found.inputs.raw.path)}"
        foreseen = fitted(found.inputs, hardware, minutes, results)
    except PROBLEMS as error:
        raise SystemExit(f"no configuration is written, since it would not work:\n{error}") from None
    _tell(foreseen_text(foreseen, minutes))
    command = " ".join(["python -m unet.run.inspect", *(words if words is not None else sys.argv[1:])])
    sys.stdout.write(configuration_text(foreseen, hardware, command))


def _draw(found: Inspection, folder: Path) -> None:
    runs = found.annotated.runs if found.annotated else ()
    sections = [z for run in runs for z in range(*run)]
    try:
        written = write_pictures(folder, found.summaries, found.volume if sections else None, sections)
    except PROBLEMS as error:
        found.problems.append(str(error))
    else:
        _tell(f"pictures: {len(written)} in {folder}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
