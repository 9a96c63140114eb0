"""Results of a benchmark as a table, for the terminal and as Markdown, and as curves against the number of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from shared.benchmark.contest import Result
from shared.benchmark.isolation import MIB
from shared.benchmark.timing import Timing
from shared.files.atomic import atomic_write


class Grid(NamedTuple):
    """Column titles, and the cells of every row as text; the first and the last column are words, the others numbers."""

    columns: list[str]
    rows: list[list[str]]


def record_table(records: Sequence[Any]) -> Grid:
    """A row per record; the columns are the fields of its dataclass."""
    rows = [[str(value) if isinstance(value, str) else three_digits(value) for value in asdict(record).values()] for record in records]
    return Grid(list(asdict(records[0])) if records else [], rows)


def result_table(results: Sequence[Result], baselines: Sequence[str]) -> Grid:
    """The results of one case.

    Args:
        baselines: how the contestants begin that the others are compared with. Their columns say how many times faster than it a
            contestant is and, after the stroke, with how many times less memory.
    """
    full = any(result.full_peak != result.peak for result in results)
    predicted = any(result.predicted_peak is not None for result in results)
    errors = list(dict.fromkeys(name for result in results for name in result.errors))
    columns = ["", "ms", "±", "CPU ms", "MiB"]
    columns += ["MiB, all pixels"] * full + ["MiB predicted"] * predicted + ["floor ms", "of floor"]
    columns += [f"× {name}" for name in baselines] + [f"{name} error" for name in errors] + ["note"]
    rows = []
    for result in results:
        row = [result.contestant, *_times(result.timing), three_digits(result.peak, 1 / MIB)]
        row += [three_digits(result.full_peak, 1 / MIB)] * full + [_prediction(result)] * predicted
        row += [three_digits(result.floor, 1e3), percent(result.share_of_floor)]
        row += [_comparison(result, _baseline(results, name)) for name in baselines]
        row += [f"{result.errors[name]:.0e}" if name in result.errors else "" for name in errors] + [result.note]
        rows.append(row)
    return Grid(columns, rows)


def _times(timing: Timing | None) -> list[str]:
    """Milliseconds, their spread, and those of the processor."""
    return [three_digits(timing.seconds, 1e3), percent(timing.spread), three_digits(timing.cpu_seconds, 1e3)] if timing else ["", "", ""]


def _baseline(results: Sequence[Result], name: str) -> Result | None:
    """The first result whose contestant begins with `name`."""
    return next((result for result in results if result.contestant.startswith(name)), None)


def _prediction(result: Result) -> str:
    """Such as "425 (-3 %)": MiB, and how far that is from the measured peak."""
    if result.predicted_peak is None:
        return ""
    error = f" ({result.predicted_peak / result.peak - 1:+.0%})".replace("%", " %") if result.peak else ""
    return three_digits(result.predicted_peak, 1 / MIB) + error


def _comparison(result: Result, base: Result | None) -> str:
    """Such as "3.8 / 19": times faster and times leaner than the baseline, whose peak is the predicted one where it could not be run."""
    if base is None:
        return ""
    faster = _ratio(base.timing.seconds, result.timing.seconds) if base.timing and result.timing else None
    leaner = _ratio(base.peak or base.predicted_peak, result.peak)
    return "" if faster is None and leaner is None else f"{three_digits(faster) or '–'} / {three_digits(leaner) or '–'}"


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient, where both are known and above zero."""
    return numerator / denominator if numerator and denominator else None


def three_digits(value: float | None, factor: float = 1.0) -> str:
    """Three digits that count, such as 0.0123, 1.23, 123 or 12,300; empty for None."""
    if value is None:
        return ""
    value *= factor
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """A share as a percentage; empty for None."""
    return "" if share is None else f"{three_digits(share, 100)} %"


def to_text(grid: Grid) -> str:
    """Aligned columns."""
    widths = [max(map(len, column)) for column in zip(grid.columns, *grid.rows)]

    def line(row: list[str]) -> str:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])]
        return "  ".join([row[0].ljust(widths[0]), *numbers, row[-1]]).rstrip()

    return "\n".join(map(line, (grid.columns, *grid.rows)))


def to_markdown(grid: Grid) -> str:
    """A table as repository browsers show it."""
    rule = [":---", *["---:"] * (len(grid.columns) - 2), ":---"]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (grid.columns, rule, *grid.rows))


COLOURS = ("#4477aa", "#d9a520", "#dd5566", "#2e9950", "#aa3377", "#44a9c4", "#8a8a8a", "#222222")


@dataclass(frozen=True)
class Curve:
    """Points by number of classes; `predicted` ones were not measured and are hollow and dotted."""

    measured: Mapping[float, float] = field(default_factory=dict)
    predicted: Mapping[float, float] = field(default_factory=dict)


class Plot(NamedTuple):
    """A PNG file with one curve per name."""

    file: str
    title: str
    y_label: str
    curves: Mapping[str, Curve]


def by_contestant(results: Sequence[Result], group: str) -> dict[str, list[Result]]:
    """The results of a group, for a curve each."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.group == group:
            found.setdefault(result.contestant, []).append(result)
    return found


def save_plot(folder: Path, plot: Plot) -> bool:
    """Write the file. Where there are no points, write nothing and return False."""
    drawn = {name: curve for name, curve in plot.curves.items() if curve.measured or curve.predicted}
    if not drawn:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(title=plot.title, xlabel="classes", ylabel=plot.y_label, xscale="log", yscale="log")
    for at, (name, curve) in enumerate(drawn.items()):
        colour = COLOURS[at % len(COLOURS)]
        joined = sorted((dict(curve.predicted) | dict(curve.measured)).items())
        axes.plot(*zip(*joined), color=colour, linestyle=":", linewidth=1)
        if curve.predicted:
            axes.plot(*zip(*sorted(curve.predicted.items())), "o", color=colour, markerfacecolor="none")
        # a point that is not drawn: a curve that is all predicted still has its name in the legend
        measured = sorted(curve.measured.items()) or [(float("nan"), float("nan"))]
        axes.plot(*zip(*measured), "o-", color=colour, label=name)
    axes.grid(which="major", alpha=0.3)
    axes.legend(fontsize="small")
    with atomic_write(folder / plot.file) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True
