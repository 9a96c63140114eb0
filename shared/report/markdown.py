"""The comparison report as Markdown, for a repository browser."""

import html
import re
from collections.abc import Sequence

from shared.report import tables
from shared.report.model import ComparisonReport
from shared.report.summary import caveats
from shared.report.tables import Cell, Table


def to_markdown(report: ComparisonReport, picture_files: Sequence[str]) -> str:
    """The report's text and tables; `picture_files` are the strips of `report.pictures`, relative to the page."""
    blocks = [f"# {escaped(report.title)}", escaped(tables.subtitle(report))]
    blocks += section(tables.results_table(report))
    blocks.append("\n".join(f"- **{escaped(kind.name)}**: {escaped(kind.explanation)}" for kind in report.score_kinds))
    blocks += section(tables.difference_table(report))
    blocks += section(tables.seed_table(report)) if len(report.seeds) > 1 else []
    blocks += pictures(report, picture_files)
    blocks += section(tables.segmentation_table(report))
    blocks += section(tables.protocol_table(report))
    blocks += section(tables.run_table(report))
    blocks += section(tables.command_table(report))
    if report.embedding_map:
        blocks += folded(tables.nearest_table(report.embedding_map))
    if notes := caveats(report):
        blocks += ["## Caveats", "\n".join(f"- {escaped(note)}" for note in notes)]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown prints as it is, on one line."""
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


def pictures(report: ComparisonReport, files: Sequence[str]) -> list[str]:
    """Every strip under the name of its sample."""
    if not files:
        return []
    blocks = ["## Pictures", escaped(f"From left to right: {', '.join(['label map', 'real image', *report.arms])}.")]
    for picture, file in zip(report.pictures, files):
        missing = [arm for arm in report.arms if arm not in picture.generated]
        absent = f" (grey: no image from {', '.join(missing)})" if missing else ""
        blocks += [escaped(f"{picture.name}{absent}"), f"![{escaped(picture.name)}]({file})"]
    return blocks


def _cell(cell: Cell) -> str:
    return escaped(cell.text) + (f" <sub>{escaped(cell.note)}</sub>" if cell.note else "")
