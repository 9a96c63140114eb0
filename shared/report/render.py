"""Write a comparison report: one HTML page, Markdown with PNG strips, and JSON."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from shared.data.spec import DatasetSpec
from shared.files.atomic import LONGEST_NAME, atomic_write, write_text
from shared.files.json_file import write_json
from shared.report import figures, tables
from shared.report.class_scores import ClassScores, extremes, hex_colour
from shared.report.maps import ClassMap, class_maps, nearest_classes
from shared.report.markdown import to_markdown
from shared.report.model import ComparisonReport, EmbeddingMap, Picture, ScoreKind
from shared.report.pictures import data_uri, png, strip
from shared.report.statistics import arm_spread, caveats, conclusions, paired_differences


def write_report(report: ComparisonReport, folder: str | os.PathLike[str]) -> Path:
    """Write `index.html` (one file, needs no network), `report.md` with `pictures/*.png`, and `report.json`.

    Returns:
        the path of `index.html`.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    picture_files = _write_strips(report.pictures, report.arms, folder, "pictures")
    panel_files = _write_strips(report.panels, report.networks, folder, "segmentations")
    write_json(folder / "report.json", figures_of(report), indent=1, ensure_ascii=False)
    write_text(folder / "report.md", to_markdown(report, picture_files, panel_files))
    write_text(folder / "index.html", to_html(report))
    return folder / "index.html"


def to_html(report: ComparisonReport) -> str:
    """The page as text. Every string of the report is escaped; only our own SVG goes in as markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "page")
    # a misspelt name in the page is an error, not an empty place
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    maps = class_maps(report.embedding_map) if report.embedding_map else []
    environment.filters.update(data_uri=data_uri, arm_colour=figures.arm_colour, column_position=partial(figures.column_position, report))
    return environment.get_template("report.html").render(
        report=report,
        tables=tables,
        headlines=headlines(report),
        caveats=caveats(report),
        conclusions=conclusions(report),
        bars=[(kind, Markup(figures.score_bars(report, kind))) for kind in report.score_kinds],
        losses=[(name, Markup(figures.loss_panel(report, name))) for name in figures.loss_names(report)],
        effort=effort(report),
        classes=[(scores, Markup(figures.cumulative_chart(report, scores)), *extremes(scores)) for scores in report.class_scores],
        legend=class_legend(report),
        maps=maps,
        embedding_data=embedding_data(report.embedding_map, maps) if report.embedding_map else None,
    )


def embedding_data(embedding_map: EmbeddingMap, maps: Sequence[ClassMap], count: int = 5) -> dict[str, Any]:
    """What the page's script knows: names, the nearest classes of each with their distances, and where each map has points and labels."""
    ids, distances = nearest_classes(embedding_map.vectors, count)
    drawn = [
        {
            "note": shown.note,
            "points": [[point.x, point.y] for point in shown.layout.points],
            "labels": [point.label and plain(point.label) for point in shown.layout.points],
        }
        for shown in maps
    ]
    return {"names": list(embedding_map.class_names), "near": plain(ids), "distances": plain(distances.round(3)), "maps": drawn}


@dataclass(frozen=True)
class Headline:
    """The arm (by position) with the best mean of a score, and that mean as text."""

    kind: ScoreKind
    arm: int
    text: str


def headlines(report: ComparisonReport) -> list[Headline]:
    """One per score that at least two arms have; whether the lead is more than chance is for the tables to say."""
    found = []
    for kind in report.score_kinds:
        spreads = [(arm, arm_spread(report, name, kind.name)) for arm, name in enumerate(report.arms)]
        finite = [(arm, spread) for arm, spread in spreads if spread and math.isfinite(spread.mean)]
        if len(finite) > 1:
            arm, best = (min if kind.lower_is_better else max)(finite, key=lambda entry: entry[1].mean)
            found.append(Headline(kind, arm, tables.spread_text(best, tables.score_decimals(report, kind.name))))
    return found


def effort(report: ComparisonReport) -> list[tuple[str, list[tuple[str, int, float, str]]]]:
    """Titles of what a training costs, each with (arm, its position, share of the largest, text); what was not logged is left out."""
    step_time = {arm: [1000 * run.seconds / run.steps for run in report.runs_of(arm) if run.steps] for arm in report.arms}
    memory = {arm: [run.peak_memory for run in report.runs_of(arm) if run.peak_memory is not None] for arm in report.arms}
    found = []
    for title, unit, taken in (("Training time per step", "ms", step_time), ("Peak memory", "MiB", memory)):
        means = {arm: float(np.mean(values)) for arm, values in taken.items() if values}
        if means:
            largest = max(*means.values(), 1e-9)  # never 0, which the shares divide by
            found.append((title, [(arm, report.arms.index(arm), mean / largest, f"{mean:.0f} {unit}") for arm, mean in means.items()]))
    return found


def class_legend(report: ComparisonReport) -> list[tuple[str, str]]:
    """(colour, class name) of the classes in the label maps shown, largest first; classes of one colour share an entry."""
    shown = [picture.label_map for picture in report.pictures]
    shown += [colours for panel in report.panels for colours in (panel.label_map, *panel.generated.values())]
    if not shown:
        return []
    pixels = np.concatenate([colours.reshape(-1, 3) for colours in shown])
    colours, areas = np.unique(pixels, axis=0, return_counts=True)
    names: dict[str, list[str]] = {}
    for colour, name in zip(report.dataset.palette, report.dataset.class_names):
        names.setdefault(hex_colour(colour), []).append(name)
    ordered = [hex_colour(colours[index]) for index in np.argsort(-areas, kind="stable")]
    return [(colour, " / ".join(names.get(colour, ["no class"]))) for colour in ordered]


def _write_strips(shown: Sequence[Picture], columns: Sequence[str], folder: Path, name: str) -> list[str]:
    """A PNG strip per picture, under `folder`/`name`; returns their paths relative to `folder`."""
    words = [re.sub(r"[^A-Za-z0-9-]+", "_", picture.name)[: LONGEST_NAME - len("00_.png")] for picture in shown]
    files = [f"{name}/{index:02d}_{word}.png" for index, word in enumerate(words)]
    for file, picture in zip(files, shown):
        with atomic_write(folder / file) as temporary:
            temporary.write_bytes(png(strip(picture, columns)))
    return files


def figures_of(report: ComparisonReport) -> dict[str, Any]:
    """All numbers of the report; pixels and vectors stay out, and a non-finite number becomes None."""
    summary = {arm: {kind.name: plain(arm_spread(report, arm, kind.name)) for kind in report.score_kinds} for arm in report.arms}
    found = {"paired_differences": plain(paired_differences(report)), "conclusions": conclusions(report), "caveats": caveats(report)}
    return plain(report) | {"summary": summary} | found


def plain(value: Any) -> Any:
    """A dataclass, array or container → what JSON holds."""
    match value:
        case DatasetSpec():
            return {"name": value.name, "num_classes": value.num_classes}
        case Picture():
            return {"name": value.name, "generated": list(value.generated)}
        case ClassScores():
            iou = {column: plain(values) for column, values in value.iou.items()}
            return {"title": value.title, "class_names": list(value.class_names), "pixels": plain(value.pixels), "iou": iou}
        case EmbeddingMap():
            ids, distances = nearest_classes(value.vectors, 3)
            return {"class_names": list(value.class_names), "nearest": plain(ids), "distances": plain(distances)}
        case datetime():
            return value.isoformat()
        # before the numbers: a bool is an int too
        case str() | bool() | None:
            return value
        case np.ndarray():
            return plain(value.tolist())
        case float() | np.floating():
            return float(value) if math.isfinite(value) else None
        case int() | np.integer():
            return int(value)
        case Mapping():
            return {str(key): plain(entry) for key, entry in value.items()}
    if is_dataclass(value):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    assert isinstance(value, Sequence), f"no JSON for {type(value).__name__}"
    return [plain(entry) for entry in value]
