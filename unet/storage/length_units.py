"""Convert the units of length that file headers name to nm."""

NM_PER_UNIT = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-3),
    **dict.fromkeys(("a", "å", "angstrom", "ångström", "ångstrom"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "micron", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("inch", "inche", "in"), 2.54e7),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}
"""Length in nm of each unit, by its names in lower case."""
WRITTEN_AS_MICRO = ("\u03bc", r"\u00b5", "\u00e2\u00b5", "\u00c2\u00b5")
"""Greek mu; an escape, as ImageJ writes it; UTF-8 that was read as Latin-1: each stands for the micro sign."""


def nm_per_unit(unit: str | None) -> float | None:
    r"""Return the length of a unit in nm; None if the name is no unit of length, such as `pixel`.

    >>> [nm_per_unit(unit) for unit in ("µm", r"\u00B5m", "Nanometers", "inches", "1/nm", "ms")]
    [1000.0, 1000.0, 1.0, 25400000.0, None, None]
    """
    name = (unit or "").strip().strip("\"'").lower()
    for written in WRITTEN_AS_MICRO:
        name = name.replace(written, "µ")
    if name not in NM_PER_UNIT and len(name) > len("ms"):
        name = name.removesuffix("s")
    return NM_PER_UNIT.get(name)
