"""Values as a line of a log: names, four digits, no brackets of Python."""

from collections.abc import Iterable, Mapping


def in_words(values: Mapping[str, object]) -> str:
    """Names and values in their order; of a mapping in it the names and values in parentheses.

    >>> in_words({"v_rand": 0.81701222, "objects": 132, "class_iou": {"membrane": 0.5, "interior": 0.75}})
    'v_rand 0.8170, objects 132, class_iou (membrane 0.5000, interior 0.7500)'
    """
    return ", ".join(f"{name} {_in_words(value)}" for name, value in values.items() if value not in ("", None))


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({in_words(value)})"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 else f"{value:.4g}"


def by(sizes: Iterable[float]) -> str:
    """Sizes along the axes.

    >>> by((4, 150, 140)), by((50.0, 4.0, 4.05))
    ('4 x 150 x 140', '50 x 4 x 4.05')
    """
    return " x ".join(f"{size:g}" for size in sizes)
