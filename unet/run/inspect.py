"""Say what would be read of image files, and write a configuration for them.

    python -m unet.run.inspect sections/ labels.tif > mine.yaml

1. Each path is opened and sampled: axes, shape, dtype, voxel size, files and grey values go to the terminal.
2. Which path holds intensities, labels or a mask, and what the labels mean, is guessed, with the reason.
3. Network and number of steps are chosen so that the run is estimated to end in `--minutes` on this machine.
4. The configuration goes to standard output, with a comment at each value that says why.

Only headers and windows of some sections are read, so that a volume of any size takes seconds.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from unet.config.source import SourceConfig
from unet.run.inspection.commented_yaml import commented_yaml
from unet.run.inspection.estimated_time import EstimatedRun, fitted
from unet.run.inspection.hardware import Hardware, hardware_here
from unet.run.inspection.inspection import PROBLEMS, Inspection, inspect_paths, message_of, stem
from unet.run.inspection.label_guess import Role
from unet.run.inspection.sample_pictures import write_pictures
from unet.run.plan.text import hours

MINUTES, MINUTES_WITH_GPU = 30, 120
"""Minutes in which the run is to end, if the user does not say."""


def configuration_text(estimate: EstimatedRun, hardware: Hardware, command: str) -> str:
    """Return the configuration as YAML, with comments that say why and what it is estimated to take."""
    left_out = f", without the volumes {', '.join(estimate.left_out)}" if estimate.left_out else ""
    header = [
        f"Written by {' '.join(command.split())}",
        f"Estimated to take {hours(estimate.seconds)} on {hardware}{left_out}.",
        "What it costs: snakemake plan --configfile FILE",
        "The run: snakemake --cores all --configfile FILE",
        "A key that is not here has its default: config/README.md",
    ]
    body = commented_yaml(estimate.suggestion.settings, estimate.suggestion.reasons)
    return "".join(f"# {line}\n" for line in header) + "\n" + body


def estimate_text(estimate: EstimatedRun, minutes: float) -> str:
    """Return what the run is estimated to take, for people."""
    config, lines = estimate.config, []
    training = f"{config.train.steps} steps of training, " if estimate.config.model.checkpoint is None else ""
    lines.append(
        f"estimated time: {hours(estimate.seconds)} ({training}{len(config.predict.volumes)} volumes to segment)"
    )
    if estimate.seconds > 60 * minutes:
        lines.append(f"WARNING: that is more than {minutes:g} minutes, and less is hardly worth it (--minutes)")
    if estimate.left_out:
        lines.append(f"{', '.join(estimate.left_out)}: segmented later; predict.volumes leaves it out for now")
    return "\n".join([*lines, *(f"WARNING: {warning}" for warning in estimate.plan.warnings)])


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
    return SourceConfig(path=os.path.expanduser(text))


def settings_hint(problems: Sequence[str]) -> list[str]:
    """Return a source with the settings that a problem requires, as YAML in place of its path."""
    asked = [found for one in problems if (found := re.search(r"`(offset|axes|channels|flip): (\w+|\[[^]]*\])", one))]
    example = {"offset": "[0, 0, 0]"}
    return [
        f"here: python -m unet.run.inspect '{{path: PATH, {found[1]}: {example.get(found[1], found[2])}}}' ..."
        for found in asked[:1]
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Print what would be read to standard error, and a configuration to standard output."""
    parser = _parser()
    arguments = parser.parse_args(words)
    try:
        given = given_sources(arguments)
    except ValueError as error:
        raise SystemExit(message_of(error)) from None
    if not given:
        parser.error("give the paths of your image files, as in python -m unet.run.inspect sections/ labels.tif")
    size = tuple(arguments.voxel_size) if arguments.voxel_size else None
    found = inspect_paths(given, size, arguments.model)
    for summary in found.summaries:
        _print(f"{summary.text()}\n")
    if arguments.pictures is not None:
        _draw(found, arguments.pictures)
    for warning in found.warnings:
        _print(f"WARNING: {warning}")
    if found.inputs is None or found.problems:
        raise SystemExit("\n".join(["no configuration is written:", *found.problems, *settings_hint(found.problems)]))
    hardware = hardware_here()
    minutes = arguments.minutes or (MINUTES_WITH_GPU if hardware.gpu else MINUTES)
    _print(f"measuring this machine for some seconds: {hardware}")
    try:
        results = arguments.results or f"results-{stem(found.inputs.raw.path)}"
        estimate = fitted(found.inputs, hardware, minutes, results)
    except PROBLEMS as error:
        raise SystemExit(f"no configuration is written, since it would not work:\n{error}") from None
    _print(estimate_text(estimate, minutes))
    command = f"python -m unet.run.inspect {shlex.join(words if words is not None else sys.argv[1:])}"
    sys.stdout.write(configuration_text(estimate, hardware, command))


def _draw(found: Inspection, folder: Path) -> None:
    runs = found.annotated.runs if found.annotated else ()
    sections = [z for run in runs for z in range(*run)]
    try:
        written = write_pictures(folder, found.summaries, found.volume if sections else None, sections)
    except PROBLEMS as error:
        found.problems.append(message_of(error))
    else:
        _print(f"pictures: {len(written)} in {folder}")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
