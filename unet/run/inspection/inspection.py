"""Find out together what given files are: which is what, what labels mean, and how their sections are divided."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from unet.config.label_kinds import AnnotationError, not_annotated_id
from unet.config.source import SourceConfig
from unet.run.inspection.annotated_sections import AnnotatedSections, find_annotated_sections, split_sections
from unet.run.inspection.label_guess import LabelGuess, NotLabelsError, Role, guess_labels
from unet.run.inspection.roles import InspectionError, Roles, annotated_raw, assign_roles
from unet.run.inspection.samples import middle_window, spread
from unet.run.inspection.source_summary import SourceSummary, summarise
from unet.run.inspection.suggested_settings import Inputs, VoxelSize
from unet.run.inspection.voxel_sizes import doubt_of, doubt_of_axes, voxel_size_of
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import Placed
from unet.volumes.sources import VolumeSources

SAMPLED_SECTIONS = 8
"""Annotated sections from which the meaning of labels is guessed."""
MOST_NOT_ANNOTATED = 2
"""Largest number of values that are taken as "not annotated". With more, the labels hold something else than ids."""
PROBLEMS = (ValueError, OSError, RuntimeError, ImportError)
"""Errors of files: of readers, of the system, of a package that is missing."""


def message_of(error: Exception) -> str:
    """Return the message of an error in one line for people."""
    if isinstance(error, ValidationError):
        return "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
    return str(error)


@dataclass
class Inspection:
    """Findings about the given paths.

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
    not_annotated : tuple of int
        Values of the labels that are no ids, and are taken as "not annotated".
    """

    summaries: list[SourceSummary] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    inputs: Inputs | None = None
    volume: VolumeSources | None = None
    warnings: list[str] = field(default_factory=list)
    annotated: AnnotatedSections | None = None
    not_annotated: tuple[int, ...] = ()


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
            found.problems.append(message_of(error))
    if found.problems:
        return found
    try:
        _understand(found, voxel_size_nm, model)
    except PROBLEMS as error:
        found.problems.append(message_of(error))
    return found


def _understand(found: Inspection, voxel_size_nm: tuple[float, float, float] | None, model: str | None) -> None:
    """Find out what the sources are together."""
    roles = assign_roles(found.summaries)
    found.summaries = roles.all
    sizes = [voxel_size_of(raw, roles.labels, voxel_size_nm) for raw in roles.raw]
    number = _annotated_volume(found, roles, sizes)
    assert found.volume is not None
    raw, size = roles.raw[number], sizes[number]
    shown = {remark for one in found.summaries for remark in one.source.remarks}
    found.warnings += [remark for remark in found.volume.all_remarks() if remark not in shown]
    found.warnings += [doubt for one in roles.raw if (doubt := doubt_of_axes(one))]
    found.warnings += [doubt for one, own in zip(roles.raw, sizes, strict=True) if (doubt := doubt_of(one, own))]
    found.warnings += [
        f"{one.address}: voxel size {own.why} (--voxel-size Z Y X)"
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


def _annotated_volume(found: Inspection, roles: Roles, sizes: Sequence[VoxelSize]) -> int:
    """Open the volume, and find its annotated sections; return the number of its intensities.

    Values of labels that stand for "not annotated" in other programs, such as -1, are taken as that.

    Raises
    ------
    AnnotationError
        If more than `MOST_NOT_ANNOTATED` values of the labels are none of ids.
    """
    while True:
        number, found.volume = annotated_raw(roles, sizes, found.not_annotated)
        if found.volume.labels is None:
            return number
        try:
            found.annotated = find_annotated_sections(found.volume.labels)
        except AnnotationError as error:
            new = [value for value in error.not_annotated if value not in found.not_annotated]
            if not new or len(new) + len(found.not_annotated) > MOST_NOT_ANNOTATED:
                raise
            found.not_annotated = (*found.not_annotated, *new)
        else:
            return number


def _meaning_of_labels(found: Inspection, roles: Roles) -> LabelGuess:
    """Return what the labels mean, and note it at their summary."""
    assert roles.labels is not None
    assert found.volume is not None
    assert found.volume.labels is not None
    assert found.annotated is not None
    labels = found.volume.labels
    roles.labels.lines.append(("annotated", str(found.annotated)))
    if not found.annotated.runs:
        raise NotLabelsError(f"{roles.labels.address}: no section holds two different values, so nothing is annotated")
    inside = not_annotated_id(labels.dtype)  # of voxels that the files do not hold, too
    try:
        guess = guess_labels(
            _drawn_windows(roles.labels, labels, found.annotated),
            (*found.not_annotated, inside),
            colours=roles.labels.source.channels > 1,
        )
    except NotLabelsError as error:
        raise NotLabelsError(f"{roles.labels.address}: {error}") from None
    in_files = [value for value in guess.not_annotated if value != inside]
    guess = replace(guess, not_annotated=tuple(dict.fromkeys((*found.not_annotated, *in_files))))
    roles.labels.lines.append(("kind", f"{guess.kind}: {guess.why}"))
    if guess.class_values:
        roles.labels.lines.append(("classes", ", ".join(f"{k}: {v}" for k, v in guess.class_values.items())))
    for value in guess.not_annotated:
        roles.labels.lines.append(("ignore_id", f"{value}, taken as not annotated"))
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
    return f"{stem(address)}_{number}"


def stem(address: str) -> str:
    """Return the name of a file or folder without its endings and what is inside, as letters, digits, - and _.

    >>> stem("s3://bucket/cortex.zarr:/raw"), stem("my sections/")
    ('cortex', 'my_sections')
    """
    name = Path(address.split("://")[-1].partition(":")[0].rstrip("/")).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_-") or "volume"
