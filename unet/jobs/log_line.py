"""Values as one line of a log, for people: names, four decimals, none of Python's brackets."""

from collections.abc import Iterable, Mapping


def format_values(values: Mapping[str, object]) -> str:
    """Return names and values as text, in their order; a mapping inside is put in parentheses.

    >>> format_values({"v_rand": 0.81701222, "objects": 132, "class_iou": {"membrane": 0.5, "interior": 0.75}})
    'v_rand 0.8170, objects 132, class_iou (membrane 0.5000, interior 0.7500)'
    """
    return ", ".join(f"{name} {_format_value(value)}" for name, value in values.items() if value not in ("", None))


def _format_value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({format_values(value)})"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 else f"{value:.4g}"


def format_sizes(sizes: Iterable[float]) -> str:
    """Return the sizes along the axes as text.

    >>> format_sizes((4, 150, 140)), format_sizes((50.0, 4.0, 4.05))
    ('4 x 150 x 140', '50 x 4 x 4.05')
    """
    return " x ".join(f"{size:g}" for size in sizes)
