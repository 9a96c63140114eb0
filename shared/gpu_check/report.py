"""What the command found, as a table, JSON and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.benchmark.report import Curve, Grid, Plot, save_plot, three_digits, to_markdown
from shared.files.atomic import write_text
from shared.files.json_file import write_json
from shared.gpu_check.checks import EQUAL, Row

AXES = {"time": "milliseconds", "memory": "MiB above the inputs"}
"""Of the plots against the number of classes, with the figure's name in the rows."""
FIGURES = {"time": "ms", "memory": "peak MiB"}


def verdict(rows: Sequence[Row]) -> str:
    """One line: how many equalities hold, and what does not."""
    failing = [row for row in rows if row.fails]
    held = sum(row.result == EQUAL for row in rows)
    told = f"{held} equalities hold"
    if not failing:
        return told
    counts = {result: sum(row.result == result for row in failing) for result in dict.fromkeys(row.result for row in failing)}
    return told + "; " + ", ".join(f"{count} × {result}" for result, count in counts.items())


def figures_of(row: Row) -> str:
    """Such as "ms 3.1, of floor 0.52 (goal 0.4: met)"."""
    cells = []
    for name, value in row.figures.items():
        text = value if isinstance(value, str) else f"{value:.1e}" if 0 < abs(value) < 0.001 or value != value else three_digits(value)
        goal = row.goals.get(name)
        met = "" if goal is None or isinstance(value, str) else f" (goal {goal:g}: {'met' if value >= goal else 'missed'})"
        cells.append(f"{name} {text}{met}")
    return ", ".join(cells)


def table_of(rows: Sequence[Row]) -> Grid:
    """A line per check."""
    cells = [[f"{row.program.split('.')[0]}: {row.name}", row.result, figures_of(row), f"{row.seconds:.1f}", row.note] for row in rows]
    return Grid(["check", "result", "figures", "s", "note"], cells)


def plots_of(rows: Sequence[Row]) -> list[Plot]:
    """Time and memory against the number of classes, for the groups of the benchmarks that have several."""
    plots = []
    settings = [row.setting for row in rows if "plot" in row.setting]
    for group in dict.fromkeys(setting["plot"] for setting in settings):
        if len({setting["x"] for setting in settings if setting["plot"] == group}) < 2:
            continue  # no curve
        for kind, figure in FIGURES.items():
            curves: dict[str, dict[float, float]] = {}
            for row in rows:
                value = row.figures.get(figure)
                if row.setting.get("plot") == group and isinstance(value, (int, float)) and value > 0:
                    curves.setdefault(row.setting["curve"], {})[row.setting["x"]] = value
            found = {name: Curve(points) for name, points in curves.items()}
            plots.append(Plot(f"{group}_{kind}.png", f"{group}: {kind}", AXES[kind], found))
    return plots


def write_report(folder: Path, about: Mapping[str, Any], rows: Sequence[Row], *, plots: bool = False) -> None:
    """Write gpu_check.json and gpu_check.md and, where asked for, the plots."""
    content = {"environment": about, "verdict": verdict(rows), "rows": [asdict(row) for row in rows]}
    write_json(folder / "gpu_check.json", content)
    drawn = [plot.file for plot in plots_of(rows) if save_plot(folder, plot)] if plots else []
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    card = [row.figures["name"] for row in rows if row.section == "machine" and "name" in row.figures]
    blocks = [
        "# " + ", ".join([*map(str, card), about["machine"]]),
        f"`{about['command']}`",
        f"{libraries}; revision {about['revision']}; {about['date']}",
    ]
    blocks.append(f"**{verdict(rows)}.** Errors are relative, in the Euclidean norm, to float64 on the same device.")
    for section in dict.fromkeys(row.section for row in rows):
        blocks += [f"## {section}", to_markdown(table_of([row for row in rows if row.section == section]))]
    blocks += [f"![]({name})" for name in drawn]
    write_text(folder / "gpu_check.md", "\n\n".join(blocks) + "\n")
