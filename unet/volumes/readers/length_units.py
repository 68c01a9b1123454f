"""Convert the units of length that file headers name to nm."""

NM_PER_UNIT = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-3),
    **dict.fromkeys(("a", "å", "angstrom", "angstroms", "ångström"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", r"\u00b5m", "micron", "microns", "micrometer", "micrometers"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("m", "meter", "meters", "metre"), 1e9),
}
"""Length in nm of each unit, by its names in lower case."""


def nm_per_unit(name: str) -> float | None:
    """Return the length of a unit in nm; None if the name is no unit of length.

    >>> nm_per_unit("µm"), nm_per_unit("1/nm")
    (1000.0, None)
    """
    return NM_PER_UNIT.get(name.strip().strip("\"'").lower())
