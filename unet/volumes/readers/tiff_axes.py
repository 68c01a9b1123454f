"""Interpret the axes and colours of a TIFF image: by the user, by its description, or as a list of pages."""

from collections.abc import Iterator

import tifffile

from unet.config.source import SourceConfig
from unet.volumes.readers.axes import UNKNOWN, AxisOrder, axis_order, refuse_sections_last
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.tiff_pages import JPEG
from unet.volumes.readers.tiff_series import NAMES, StoredSeries

TO_GREY = "convert it to one grey channel"
ONE_COLOUR = "`channels: [0]` at this source takes one colour"
TAKE_ONE = f"as labels it is read, one id per colour; {ONE_COLOUR}"
NO_LABELS = f"{ONE_COLOUR}; labels are never read from JPEG"
RGB, YCBCR = 2, 6
COLOURS = {RGB: "RGB", 4: "transparency mask", 5: "CMYK", YCBCR: "YCbCr", 8: "CIELab", 9: "CIELab", 10: "CIELab"}
"""Meaning of PhotometricInterpretation, other than grey and a table of colours."""
NARROW_PAGES = 4.0
"""How many times their width pages are high and many, if an array was saved with its sections last."""


def order_of_axes(series: StoredSeries, given: SourceConfig) -> AxisOrder:
    """Return the order of the axes: by the user, by the description, or for a list of pages z, y, x."""
    configured = given.axes
    if configured is not None and len(configured) == len(series.full) != len(series.shape):
        configured = "".join(configured[i] for i in series.kept)  # without the axes of length 1
    origin = NAMES.get(series.kind, "the pages of the file")
    if configured is None:
        _refuse_sections_by_another_name(series, given.path)
        if series.letters[:-2] in ("I", "Q") and series.letters[-2:] == "YX":
            refuse_sections_last(series.shape, given.path, NARROW_PAGES)
    return axis_order(series.shape, _names(series.letters), given.path, origin, configured)


def _names(letters: str) -> list[str] | None:
    """Return names for the letters of tifffile; None if nobody names them. I and Q are axes without a meaning."""
    unknown = [letter for letter in letters if letter in "IQ"]
    if len(unknown) > 1 or (unknown and "Z" in letters):
        return None
    meaning = {"S": "c", "I": "z", "Q": "z"}
    return [meaning.get(letter, letter.lower() if letter.isalpha() else UNKNOWN) for letter in letters]


def _suggested(series: StoredSeries, meaning: dict[str, str]) -> str:
    """Return `axes` for a message: each letter of tifffile by a meaning, else as it is."""
    return "".join(meaning.get(letter, letter.lower()) for letter in series.letters)


def _refuse_sections_by_another_name(series: StoredSeries, address: str) -> None:
    """Raise for a stack that ImageJ says to be frames or channels, as most writers do that do not know the axes."""
    outer = series.letters[:-2]
    if series.kind == "imagej" and series.letters[-2:] == "YX" and outer in ("T", "C"):
        n, kind = series.shape[0], {"T": "frames", "C": "channels"}[outer]
        raise SourceError(
            f"{address}: ImageJ's description says {n} {kind} and one section, as many writers do for a plain stack; "
            f"write `axes: zyx` at this source if they are {n} sections"
            + (", `axes: cyx` if they are channels" if outer == "C" else ", or extract one time point")
        )


def channel_remarks(series: StoredSeries, order: AxisOrder) -> Iterator[str]:
    """Yield a remark on an image of channels and one section, since writers confuse channels with sections.

    GDAL calls them bands, which are samples of a pixel, as colours are.
    """
    is_meant = order.origin.startswith("`axes`") or not {*"CS"} & {*series.letters}
    if order.channels > 1 and order.shape[0] == 1 and not is_meant:
        yield (
            f"{order.channels} channels and one section by {order.origin}; if they are sections, write "
            f"`axes: {_suggested(series, {'C': 'z', 'S': 'z'})}` at this source"
        )


def colours_of(page: tifffile.TiffPage, series: StoredSeries, address: str) -> str | None:
    """Return why an image of red, green and blue is none of intensities; None for grey.

    Raises
    ------
    SourceError
        If the samples of a pixel are other colours, grey with transparency, or perhaps sections.
    """
    grey = page.photometric in (0, 1, 3)
    if grey and (page.samplesperpixel == 1 or not set(page.extrasamples) & {1, 2}):
        return None
    kind = "grey with alpha" if grey else COLOURS.get(page.photometric, getattr(page.photometric, "name", "unknown"))
    found = f"{address}: {kind} image of shape {page.shape}"
    colours = _suggested(series, {"S": "c", "I": "z", "Q": "z", "T": "z"})
    if page.axes[0] == "S" and page.samplesperpixel in (3, 4) and not grey:
        if set(series.letters) - set("SYX"):  # sections beside the colours
            raise SourceError(
                f"{found} in planes and not grey; `axes: {colours}` with `channels: [0]` takes one colour"
            )
        sections = _suggested(series, {"S": "z"})
        raise SourceError(
            f"{found} in planes, which is also how tifffile.imwrite saves a stack of 3 or 4 sections; write "
            f"`axes: {sections}` at this source if they are sections, `axes: {colours}` if they are colours"
        )
    refusal = f"{found} and not grey; {TO_GREY}"
    if page.photometric == YCBCR and page.compression in JPEG:
        return f"{refusal}; {NO_LABELS}"
    if page.photometric == RGB and (page.samplesperpixel == 3 or tuple(page.extrasamples) in ((1,), (2,))):
        return f"{refusal}; {NO_LABELS if page.compression in JPEG else TAKE_ONE}"
    raise SourceError(
        f"{refusal}; `axes: {colours}` at this source makes one id per colour of labels, and `channels: [0]` beside it "
        "takes one colour"
    )
