"""The comparison report as Markdown, for a repository browser."""

import html
import re
from collections.abc import Sequence

from shared.report import tables
from shared.report.class_scores import ClassScores, extremes
from shared.report.model import ComparisonReport, Picture
from shared.report.statistics import caveats, conclusions
from shared.report.tables import Cell, Table, class_table, number


def to_markdown(report: ComparisonReport, picture_files: Sequence[str], panel_files: Sequence[str]) -> str:
    """The report's text and tables; the files are the strips of `report.pictures` and `report.panels`, relative to the page."""
    blocks = [f"# {escaped(report.title)}", escaped(tables.subtitle(report))]
    blocks += section(tables.results_table(report))
    blocks.append("\n".join(f"- **{escaped(kind.name)}**: {escaped(kind.explanation)}" for kind in report.score_kinds))
    blocks += section(tables.difference_table(report))
    blocks += ["\n".join(f"- {escaped(sentence)}" for sentence in said)] if (said := conclusions(report)) else []
    blocks += section(tables.seed_table(report)) if len(report.seeds) > 1 else []
    blocks += pictures("Pictures", report.pictures, report.arms, picture_files)
    blocks += section(tables.segmentation_table(report))
    blocks += pictures("Segmentations", report.panels, report.networks, panel_files)
    for scores in report.class_scores:
        blocks += class_scores(scores)
    blocks += section(tables.protocol_table(report))
    blocks += section(tables.run_table(report))
    blocks += section(tables.command_table(report))
    blocks += section(tables.version_table(report))
    if report.embedding_map:
        blocks += folded(tables.nearest_table(report.embedding_map))
    if notes := caveats(report):
        blocks += ["## Caveats", "\n".join(f"- {escaped(note)}" for note in notes)]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown prints as it is, on one line."""
    # repository browsers also read HTML in Markdown, so that is escaped as well
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def section(table: Table) -> list[str]:
    """Heading, sentence and table; nothing for a table without rows."""
    return [f"## {table.title}", escaped(table.note), grid(table)] if table.rows else []


def folded(table: Table) -> list[str]:
    """A long table behind its heading."""
    return [f"## {table.title}", escaped(table.note), "<details><summary>Show the table</summary>", grid(table), "</details>"]


def grid(table: Table) -> str:
    """The table itself."""
    rule = ["---", *("---:" if table.numeric else "---" for _ in table.columns[1:])]
    lines = [[escaped(column) for column in table.columns], rule, *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pictures(title: str, shown: Sequence[Picture], columns: Sequence[str], files: Sequence[str]) -> list[str]:
    """Every strip under the name of its sample."""
    if not files:
        return []
    blocks = [f"## {title}", escaped(f"From left to right: {', '.join(['real image', 'label map', *columns])}.")]
    for picture, file in zip(shown, files):
        missing = [column for column in columns if column not in picture.generated]
        absent = f" (grey: no image from {', '.join(missing)})" if missing else ""
        blocks += [escaped(f"{picture.name}{absent}"), f"![{escaped(picture.name)}]({file})"]
    return blocks


def class_scores(scores: ClassScores) -> list[str]:
    """The most and least improved classes, mIoU of the most frequent ones, and the whole table behind its heading."""
    curves, gained_lost = scores.curves(), extremes(scores)
    count = int((scores.pixels > 0).sum())
    marks = sorted({min(count, mark) for mark in (1, 3, 10, 30, 100, 300, 1000, 3000, count)} - {0})
    rows = [[Cell(column), *(Cell(number(float(curve[mark - 1]), 1)) for mark in marks)] for column, curve in curves.items()]
    note = "Mean IoU, in percent, of the most frequent classes by labelled pixels."
    blocks = [f"## {scores.title}", escaped(scores.note), escaped(note), grid(Table("", "", ["", *map(str, marks)], rows))]
    for title, changes in zip(("Most gained", "Most lost"), gained_lost):
        if changes:
            listed = ", ".join(f"{change.name} {'+' * (change.points > 0)}{number(change.points, 1)}" for change in changes)
            blocks.append(
                f"**{title}**, percentage points from {escaped(scores.columns[0])} to {escaped(scores.columns[-1])}: {escaped(listed)}"
            )
    return [*blocks, "<details><summary>Every class</summary>", grid(class_table(scores)), "</details>"]


def _cell(cell: Cell) -> str:
    return escaped(cell.text) + (f" <sub>{escaped(cell.note)}</sub>" if cell.note else "")
