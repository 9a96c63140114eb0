"""Curves against the number of classes, both axes logarithmic."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from shared.files import atomic_write

COLOURS = ("#4477aa", "#d9a520", "#dd5566", "#2e9950", "#aa3377", "#44a9c4", "#8a8a8a", "#222222")


@dataclass(frozen=True)
class Curve:
    """Points by x; `predicted` ones were not measured and are hollow and dotted."""

    measured: Mapping[float, float]
    predicted: Mapping[float, float]


def save_curves(path: Path, curves: Mapping[str, Curve], *, title: str, x_label: str, y_label: str) -> bool:
    """Write a PNG with one curve per name. Where there are no points, write nothing and return False."""
    drawn = {name: curve for name, curve in curves.items() if curve.measured or curve.predicted}
    if not drawn:
        return False
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
    for at, (name, curve) in enumerate(drawn.items()):
        colour = COLOURS[at % len(COLOURS)]
        joined = sorted((dict(curve.predicted) | dict(curve.measured)).items())
        axes.plot(*zip(*joined), color=colour, linestyle=":", linewidth=1)
        if curve.predicted:
            axes.plot(*zip(*sorted(curve.predicted.items())), "o", color=colour, markerfacecolor="none")
        measured = sorted(curve.measured.items()) or [(float("nan"), float("nan"))]
        axes.plot(*zip(*measured), "o-", color=colour, label=name)
    axes.grid(which="major", alpha=0.3)
    axes.legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True
