"""The report's charts as inline SVG that follows the page's colours and fonts."""

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.report.class_scores import ClassScores
from shared.report.model import ComparisonReport, LossCurve, ScoreKind
from shared.report.statistics import Spread, arm_spread
from shared.report.tables import number, score_decimals, spread_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARM_COLOURS = ("#4477aa", "#d9a520", "#dd5566", "#2e9950", "#aa3377", "#44a9c4", "#8a8a8a")
"""Told apart by colour-blind readers, legible on white and on black."""

DASHES = ("-", (0, (6, 1.6)), (0, (2.4, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), (0, (9, 2)), (0, (4, 1, 1, 1, 1, 1)))
"""Lines differ in more than their colour."""

INK, MUTED, RULE = "#010101", "#020202", "#030303"
"""Stand-ins that matplotlib writes and `_to_svg` replaces by the page's own light or dark colours."""

BAR = 0.34
"""Height of a bar; rows are 1 apart."""

CURVE_POINTS = 150
"""Points drawn per loss curve."""

LOGARITHMIC_FROM = 200
"""Classes from which a cumulative curve has a logarithmic axis."""

FARTHEST_REFERENCE = 1.6
"""A reference beyond this multiple of the largest arm is cut off and its number printed, so that the arms stay legible."""


def arm_colour(position: int) -> str:
    """The colour of the arm at this position, the same in every figure and table."""
    return ARM_COLOURS[position % len(ARM_COLOURS)]


def score_bars(report: ComparisonReport, kind: ScoreKind) -> str:
    """One score as SVG: a bar per arm with its deviation and a dot per seed; references in grey, and dotted across the arms."""
    spreads = [(arm, arm_spread(report, arm, kind.name)) for arm in report.arms]
    references = [(row.name, row.scores[kind.name].value) for row in report.references if kind.name in row.scores]
    decimals = score_decimals(report, kind.name)
    low, high = _axis_range(report, kind.name, [value for _, value in references])
    with _axes(height=0.45 * (len(spreads) + len(references)) + 0.35) as (figure, axes):
        for row, (arm, spread) in enumerate(spreads):
            _label(axes, row, arm, spread_text(spread, decimals) if spread else "not taken")
            if spread and math.isfinite(spread.mean):
                _arm_bar(axes, row, spread)
        for row, (name, value) in enumerate(references, start=len(spreads)):
            _label(axes, row, name, number(value, decimals) + (" →" if high < value < math.inf else ""))
            if math.isfinite(value):
                axes.barh(row, min(value, high), height=BAR, color=MUTED, alpha=0.35)
            if low <= value <= high:
                _line_across(axes, value, len(spreads))
        axes.set(xlim=(low, high), ylim=(len(spreads) + len(references) - 0.6, -0.8), yticks=[])
        axes.spines[["left", "right", "top"]].set_visible(False)
        return _to_svg(figure, f"{kind.name} of every arm")


def cumulative_chart(report: ComparisonReport, scores: ClassScores) -> str:
    """mIoU of the n most frequent classes over n, as SVG: a line per column (the paper's Figure 6)."""
    with _axes(height=2.9, width=5.6) as (figure, axes):
        for column, curve in scores.curves().items():
            colour, dashes = line_style(column_position(report, column))
            mark = "o" if len(curve) == 1 else None
            axes.plot(np.arange(1, len(curve) + 1), curve, color=colour, ls=dashes, lw=1.6, marker=mark, gid=_line(report, column))
        if (scores.pixels > 0).sum() > LOGARITHMIC_FROM:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.xaxis.set_minor_formatter("")
        axes.grid(axis="y", color=RULE, lw=0.6)
        axes.set(xlabel="classes, most frequent first", ylabel="their mean IoU, %")
        axes.spines[["left", "right", "top"]].set_visible(False)
        return _to_svg(figure, f"Cumulative mIoU, {scores.title}")


def column_position(report: ComparisonReport, column: str) -> int:
    """Where a column's colour stands in the list: at its arm's place, or behind the arms for a network."""
    named = [*report.arms, *report.networks, *(name for scores in report.class_scores for name in scores.columns)]
    return list(dict.fromkeys(named)).index(column)


def line_style(position: int) -> tuple[str, Any]:
    """Colour and dashes of a line in charts, as matplotlib takes them."""
    return arm_colour(position), DASHES[position % len(DASHES)]


def loss_names(report: ComparisonReport) -> list[str]:
    """All losses that any run logged, in order of first appearance."""
    return list(dict.fromkeys(name for run in report.runs for name in run.loss_curves))


def loss_panel(report: ComparisonReport, loss: str) -> str:
    """One loss over the steps as SVG: a line per run, in its arm's colour."""
    with _axes(height=1.8) as (figure, axes):
        for position, arm in enumerate(report.arms):
            for run in report.runs_of(arm):
                if loss in run.loss_curves:
                    colour, dashes = line_style(position)
                    axes.plot(*thinned(run.loss_curves[loss]), color=colour, ls=dashes, lw=1.1, alpha=0.9, gid=_line(report, arm))
        axes.grid(axis="y", color=RULE, lw=0.6)
        axes.set_xlabel("step")
        axes.spines[["left", "right", "top"]].set_visible(False)
        return _to_svg(figure, f"{loss} over training steps")


def thinned(curve: LossCurve) -> tuple[np.ndarray, np.ndarray]:
    """At most `CURVE_POINTS` points, each the mean over a window of steps; a non-finite value leaves a gap."""
    steps, values = np.asarray(curve.steps, dtype=np.float64), np.asarray(curve.values, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    windows = min(CURVE_POINTS, len(steps))
    if windows == 0:
        return steps, values
    means = [np.array([part.mean() for part in np.array_split(array, windows)]) for array in (steps, values)]
    return means[0], means[1]


def _axis_range(report: ComparisonReport, score: str, references: Sequence[float]) -> tuple[float, float]:
    """From 0, or below it for negative scores, to what shows all arms and the references that are not far off."""
    ends = [0.0]
    for spread in (arm_spread(report, arm, score) for arm in report.arms):
        if spread and math.isfinite(spread.mean):
            deviation = spread.deviation or 0.0
            ends += [spread.mean - deviation, spread.mean + deviation, *spread.values.values()]
    finite = [value for value in references if math.isfinite(value)]
    # at this point `ends` has the arms alone
    reach = FARTHEST_REFERENCE * max(ends) if max(ends) > 0 else math.inf
    ends += [value for value in finite if value <= reach]
    span = max(ends) - min(ends) or 1.0
    return min(ends) - (0.03 * span if min(ends) < 0 else 0.0), max(ends) + 0.03 * span


def _label(axes: "Axes", row: int, name: str, value: str, longest: int = 22) -> None:
    """Name and value above the bar of a row, where long names have room."""
    name = name if len(name) <= longest else name[: longest - 1] + "…"
    axes.text(0, row - 0.36, name, transform=axes.get_yaxis_transform(), color=INK)
    axes.text(1, row - 0.36, value, transform=axes.get_yaxis_transform(), color=INK, ha="right")


def _arm_bar(axes: "Axes", row: int, spread: Spread) -> None:
    axes.barh(row, spread.mean, height=BAR, color=arm_colour(row), alpha=0.85)
    if spread.deviation is not None:
        axes.errorbar(spread.mean, row, xerr=spread.deviation, color=INK, elinewidth=1, capsize=2, capthick=1)
        axes.plot(list(spread.values.values()), [row + 0.25] * len(spread.values), "o", ms=2.6, mew=0, color=arm_colour(row))


def _line_across(axes: "Axes", value: float, num_arms: int) -> None:
    """A dotted line over the arms' bars and not over their labels."""
    rows = np.arange(num_arms)
    axes.vlines(np.full(num_arms, value), rows - 0.22, rows + 0.22, INK, lw=0.9, ls=":")


def _line(report: ComparisonReport, column: str) -> str:
    """What the page calls the lines of a column, to show one of them alone."""
    return f"line-{column_position(report, column)}"


@contextmanager
def _axes(height: float, width: float = 2.9) -> Iterator[tuple["Figure", "Axes"]]:
    """An empty chart, of one column's width if nothing else is said; matplotlib's settings are restored afterwards."""
    import matplotlib  # here, as it takes a second that --help and refusals need not wait for
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: smaller, selectable, in the page's font
            "text.parse_math": False,  # a class called "$x$" is a name, not a formula
            "font.size": 8.5,
            "text.color": INK,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": MUTED,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
        }
    ):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _to_svg(figure: "Figure", title: str) -> str:
    """SVG to stand inside an HTML page: no prologue, no addresses, the page's font and colours."""
    buffer = io.StringIO()
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": title}):  # the same report gives the same file
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    # lines become classes before all ids go: equal ids of several charts would clash in one page
    text = re.sub(r'(?<=<g) id="(line-\d+)"', r' class="\1"', text[text.index("<svg") :])
    text = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<g) id="[^"]*"', "", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for stand_in, variable in ((INK, "ink"), (MUTED, "muted"), (RULE, "rule")):
        text = text.replace(stand_in, f"var(--{variable})")
    # only the viewBox stays of the head: without width and height a chart fills its place in the page
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box, "matplotlib gave an SVG without a viewBox"
    return f'<svg class="chart" role="img" aria-label="{html.escape(title)}" {view_box[0]}>' + text[text.index(">") + 1 :]
