"""Write a comparison report: one HTML page, Markdown with PNG strips, and JSON."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shared.data.spec import DatasetSpec
from shared.files import atomic_write, write_text
from shared.report import figures, tables
from shared.report.embedding_map import lay_out, nearest_classes
from shared.report.markdown import to_markdown
from shared.report.model import ComparisonReport, EmbeddingMap, Picture
from shared.report.summary import arm_spread, caveats, paired_differences


def write_report(report: ComparisonReport, folder: str | os.PathLike[str]) -> Path:
    """Write `index.html` (one file, needs no network), `report.md` with `pictures/*.png`, and `report.json`.

    Returns:
        the path of `index.html`.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    files = [f"pictures/{index:02d}_{re.sub(r'[^A-Za-z0-9-]+', '_', picture.name)}.png" for index, picture in enumerate(report.pictures)]
    for file, picture in zip(files, report.pictures):
        with atomic_write(folder / file) as temporary:
            temporary.write_bytes(figures.png(figures.strip(picture, report.arms)))
    write_text(folder / "report.json", json.dumps(to_json(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / "report.md", to_markdown(report, files))
    write_text(folder / "index.html", to_html(report))
    return folder / "index.html"


def to_html(report: ComparisonReport) -> str:
    """The page as text. Every string of the report is escaped; only our own SVG goes in as markup."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(data_uri=figures.data_uri, arm_colour=figures.arm_colour)
    return environment.get_template("report.html").render(
        report=report,
        tables=tables,
        caveats=caveats(report),
        bars=[(kind, Markup(figures.score_bars(report, kind))) for kind in report.score_kinds],
        losses=[(name, Markup(figures.loss_panel(report, name))) for name in figures.loss_names(report)],
        legend=class_legend(report),
        embedding_layout=lay_out(report.embedding_map) if report.embedding_map else None,
    )


def class_legend(report: ComparisonReport) -> list[tuple[str, str]]:
    """(colour, class name) of the classes in the label maps shown, largest first; classes of one colour share an entry."""
    if not report.pictures:
        return []
    pixels = np.concatenate([picture.label_map.reshape(-1, 3) for picture in report.pictures])
    colours, areas = np.unique(pixels, axis=0, return_counts=True)
    names: dict[tuple[int, ...], list[str]] = {}
    for colour, name in zip(report.dataset.palette, report.dataset.class_names):
        names.setdefault(tuple(int(value) for value in colour), []).append(name)
    ordered = [tuple(int(value) for value in colours[index]) for index in np.argsort(-areas)]
    return [("#{:02x}{:02x}{:02x}".format(*colour), " / ".join(names.get(colour, ["no class"]))) for colour in ordered]


def to_json(report: ComparisonReport) -> dict[str, Any]:
    """All numbers of the report; pixels and vectors stay out, and a non-finite number becomes None."""
    summary = {arm: {kind.name: plain(arm_spread(report, arm, kind.name)) for kind in report.score_kinds} for arm in report.arms}
    differences = plain(paired_differences(report))
    return plain(report) | {"summary": summary, "paired_differences": differences, "caveats": caveats(report)}


def plain(value: Any) -> Any:
    """A dataclass, array or container → what JSON holds."""
    match value:
        case DatasetSpec():
            return {"name": value.name, "num_classes": value.num_classes}
        case Picture():
            return {"name": value.name, "generated": list(value.generated)}
        case EmbeddingMap():
            ids, distances = nearest_classes(value.vectors, 3)
            return {"class_names": list(value.class_names), "nearest": plain(ids), "distances": plain(distances)}
        case datetime():
            return value.isoformat()
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
