"""The report's tables as text cells, made once and printed by both the HTML and the Markdown page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.report.class_scores import ClassScores, hex_colour
from shared.report.maps import nearest_classes
from shared.report.model import ComparisonReport, EmbeddingMap, Score
from shared.report.statistics import Spread, arm_spread, count_range, paired_differences, scores_of

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller note beside it, and what marks it: the arm (by position) or a class colour as #rrggbb."""

    text: str
    note: str = ""
    arm: int | None = None
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """A titled table with a sentence on how to read it. The first column names the row; `numeric` columns are flush right.

    `sortable` tables have a row per class: the page lets a reader sort and filter them.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[list[Cell]]
    numeric: bool = True
    sortable: bool = False


def duration(seconds: float) -> str:
    """ "0.4 s", "45 s", "12 min 3 s", "1 h 12 min"."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 59.5:  # from here on it would round to 60 s
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    # rounded first, so that no rest becomes 60
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def number(value: float, decimals: int) -> str:
    """A number with a true minus sign, or "not finite"."""
    # z: no −0.00
    return f"{value:z.{decimals}f}".replace("-", "−") if math.isfinite(value) else "not finite"


def decimals_for(values: Sequence[float]) -> int:
    """Two decimals, or as many as give the largest finite value three significant digits: a column has one precision."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(6, 2 - min(0, math.floor(math.log10(largest)))) if largest > 0 else 2


def score_decimals(report: ComparisonReport, score: str) -> int:
    """The precision of a score everywhere in the report, set by the arms and not by a far-off reference."""
    rows = [run.scores for run in report.runs] or [reference.scores for reference in report.references]
    return decimals_for([scores[score].value for scores in rows if score in scores])


def spread_text(spread: Spread, decimals: int) -> str:
    """ "12.34 ± 0.56", or "12.34" when there is one seed."""
    mean = number(spread.mean, decimals)
    if spread.deviation is None or not math.isfinite(spread.mean):
        return mean
    return f"{mean} ± {number(spread.deviation, decimals)}"


def subtitle(report: ComparisonReport) -> str:
    """What was compared, on what, when."""
    arms, seeds = len(report.arms), len(report.seeds)
    compared = f"{arms} arm{'s' if arms != 1 else ''} × {_seed_count(seeds)}" if report.runs else "no runs"
    classes = f"{report.dataset.num_classes} class{'es' if report.dataset.num_classes != 1 else ''}"
    return f"{report.dataset.name}, {classes} · {compared} · {report.created:%Y-%m-%d %H:%M}"


def score_heads(report: ComparisonReport) -> list[str]:
    return [f"{kind.name} {'↓' if kind.lower_is_better else '↑'}" for kind in report.score_kinds]


def results_table(report: ComparisonReport) -> Table:
    """A row per arm (mean ± deviation over seeds) and per reference; every score with its image counts, real/generated."""
    rows = []
    for position, arm in enumerate(report.arms):
        head = Cell(arm, _seed_count(len(report.runs_of(arm))), position)
        rows.append([head, *(_arm_cell(report, arm, kind.name) for kind in report.score_kinds)])
    for reference in report.references:
        rows.append([Cell(reference.name, "reference"), *(_score_cell(report, reference.scores, kind.name) for kind in report.score_kinds)])
    return Table("Results", _results_note(report), ["", *score_heads(report)], rows)


def seed_table(report: ComparisonReport) -> Table:
    """A row per run."""
    rows = []
    for position, arm in enumerate(report.arms):
        for run in report.runs_of(arm):
            head = Cell(arm, f"seed {run.seed}", position)
            rows.append([head, *(_score_cell(report, run.scores, kind.name) for kind in report.score_kinds)])
    note = "One row per trained generator. “est. ±” is the spread of the estimate itself, as over the subsets of a kernel distance."
    return Table("Every seed", note, ["", *score_heads(report)], rows)


def difference_table(report: ComparisonReport) -> Table:
    """A row per two arms and score: the difference at each seed, mean ± deviation, interval, how often the arm was better."""
    kinds = {kind.name: kind for kind in report.score_kinds}
    rows = []
    for difference in paired_differences(report):
        decimals, values = score_decimals(report, difference.score), difference.spread.values
        sign = -1 if kinds[difference.score].lower_is_better else 1
        better = sum(sign * value > 0 for value in values.values())
        per_seed = [Cell(number(values[seed], decimals) if seed in values else MISSING) for seed in report.seeds]
        head = Cell(f"{difference.semantics} − {difference.other}", difference.score, report.arms.index(difference.semantics))
        interval = Cell(" to ".join(number(end, decimals) for end in difference.interval), "0 is outside" if difference.told_apart else "")
        rows.append([head, *per_seed, Cell(spread_text(difference.spread, decimals)), interval, Cell(f"{better} of {len(values)}")])
    note = (
        "One arm minus another at the same seed, so what the seed does to both cancels; ± is the standard deviation over seeds, and the "
        "interval, by Student's t, holds the mean over all seeds with 95 % confidence. Two arms differ beyond chance where 0 is outside."
    )
    columns = ["", *(f"seed {seed}" for seed in report.seeds), "mean ± deviation", "95 % interval", "seeds where better"]
    return Table("Paired differences", note, columns, rows)


def segmentation_table(report: ComparisonReport) -> Table:
    """A row per segmentation network."""
    rows = []
    for result in report.segmentation:
        figures = [result.miou, result.pixel_accuracy, result.mean_accuracy, result.fwiou]
        cells = [Cell(MISSING if figure is None else number(figure, 3)) for figure in figures]
        effort = [Cell(f"{result.num_images}"), Cell(f"{result.steps}"), Cell(duration(result.seconds))]
        rows.append([Cell(result.title, result.head), *cells, *effort])
    columns = ["", "mIoU ↑", "pixel accuracy ↑", "mean accuracy ↑", "FwIoU ↑", "images", "steps", "training time"]
    return Table("Segmentation", "Networks trained on real images, measured on real validation images; in percent.", columns, rows)


def run_table(report: ComparisonReport) -> Table:
    """A row per run: how long it trained, how large it is, where it is."""
    rows = [
        [
            Cell(arm, f"seed {run.seed}", position),
            Cell(f"{run.steps}"),
            Cell(duration(run.seconds)),
            Cell(f"{1000 * run.seconds / run.steps:.0f} ms" if run.steps else MISSING),
            Cell(MISSING if run.peak_memory is None else f"{run.peak_memory:.0f} MiB"),
            Cell(f"{run.generator_parameters / 1e6:.2f} M"),
            Cell(run.run_dir),
        ]
        for position, arm in enumerate(report.arms)
        for run in report.runs_of(arm)
    ]
    columns = ["", "steps", "training time", "per step", "peak memory", "generator parameters", "run directory"]
    return Table("Training runs", report.machine, columns, rows)


def command_table(report: ComparisonReport) -> Table:
    rows = [[Cell(command.line), Cell(duration(command.seconds))] for command in report.commands]
    total = duration(sum(command.seconds for command in report.commands))
    return Table("Commands", f"In the order they ran; {total} in all.", ["command", "time"], rows, numeric=False)


def protocol_table(report: ComparisonReport) -> Table:
    rows = [[Cell(item.key), Cell(item.value)] for item in report.protocol]
    return Table("Protocol", "The same for every arm.", ["setting", "value"], rows, numeric=False)


def version_table(report: ComparisonReport) -> Table:
    rows = [[Cell(key), Cell(value)] for key, value in report.versions.items()]
    return Table("Versions", "What the figures were made with.", ["", "version"], rows, numeric=False)


def class_table(scores: ClassScores) -> Table:
    """A row per class: its labelled pixels, its IoU in every column, and the change from the first column to the last."""
    compared, change = len(scores.columns) > 1, scores.change
    rows = []
    for index, name in enumerate(scores.class_names):
        figures = [values[index] for values in scores.iou.values()] + ([change[index]] if compared else [])
        cells = [Cell(number(float(figure), 1) if math.isfinite(figure) else MISSING) for figure in figures]
        rows.append([Cell(name, colour=hex_colour(scores.palette[index])), Cell(f"{int(scores.pixels[index])}"), *cells])
    columns = ["class", "labelled pixels", *(f"{column}, IoU %" for column in scores.columns), *(["change"] if compared else [])]
    return Table(scores.title, scores.note, columns, rows, sortable=True)


def nearest_table(embedding_map: EmbeddingMap, num_nearest: int = 3) -> Table:
    """A row per class: its nearest classes, each with the distance between the unit vectors."""
    ids, distances = nearest_classes(embedding_map.vectors, num_nearest)
    names = embedding_map.class_names
    rows = [
        [Cell(name, colour=hex_colour(colour)), *(Cell(names[other], f"{distance:.3f}") for other, distance in zip(near, far))]
        for name, colour, near, far in zip(names, embedding_map.palette, ids, distances)
    ]
    note = "Distance between unit vectors: 0 is the same direction, 1.414 a right angle, 2 the opposite direction."
    columns = ["class", *(f"{rank + 1}." for rank in range(ids.shape[1]))]
    return Table("Nearest classes", note, columns, rows, numeric=False, sortable=True)


def _results_note(report: ComparisonReport) -> str:
    over = "One seed: no error bar." if len(report.seeds) <= 1 else "Mean ± standard deviation over training seeds."
    return f"{over} Small figures are the image counts, real/generated; “est. ±” is the spread of the estimate itself, not of training."


def _seed_count(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _arm_cell(report: ComparisonReport, arm: str, score: str) -> Cell:
    taken = list(scores_of(report, arm, score).values())
    if len(taken) == 1:
        return _one_score(taken[0], score_decimals(report, score))
    spread = arm_spread(report, arm, score)
    if spread is None:
        return Cell(MISSING)
    counts = f"{count_range([s.num_real for s in taken])}/{count_range([s.num_generated for s in taken])}"
    return Cell(spread_text(spread, score_decimals(report, score)), counts)


def _score_cell(report: ComparisonReport, scores: Mapping[str, Score], score: str) -> Cell:
    return _one_score(scores[score], score_decimals(report, score)) if score in scores else Cell(MISSING)


def _one_score(score: Score, decimals: int) -> Cell:
    counts = f"{score.num_real}/{score.num_generated}"
    if score.deviation is None or not math.isfinite(score.value):
        return Cell(number(score.value, decimals), counts)
    return Cell(number(score.value, decimals), f"est. ± {number(score.deviation, decimals)}, {counts}")
