"""What a benchmark leaves behind: benchmark.json, benchmark.md and the plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seg.benchmark.groups import BASELINES, TITLES
from seg.benchmark.whole_model import FIGURE_1, VARIANTS, LargestBatch, batch_table
from shared.benchmark.ceilings import Ceilings
from shared.benchmark.contest import Result
from shared.benchmark.isolation import MIB
from shared.benchmark.report import Curve, Table, number, percent, record_table, result_table, save_curves, to_markdown, to_text
from shared.files.atomic import write_text


@dataclass(frozen=True)
class Section:
    """The results of one case, with what the machine could do and what others did on it meanwhile."""

    results: list[Result]
    ceilings: Ceilings
    disturbance: float | None

    @property
    def title(self) -> str:
        """What was done, and on how much."""
        setting = self.results[0].setting
        name = f"{setting['title']}, " if "title" in setting else ""
        size = f"{setting['images']}×{setting['height']}×{setting['width']} = {setting['pixels']:,} pixels"
        return f"{TITLES[self.results[0].group]}: {name}C {setting['classes']}, D {setting['dim']}, k {setting['neighbours']}, {size}"

    @property
    def conditions(self) -> str:
        """Ceilings of the moment, and the load by others."""
        rates = f"copy {number(self.ceilings.copy, 1e-9)} GB/s, matrix product {number(self.ceilings.matrix, 1e-9)} GFLOP/s"
        load = "" if self.disturbance is None else f"; other processes used {percent(self.disturbance)} of the CPU"
        return f"{rates}, exp2 {number(self.ceilings.exponential, 1e-9)} G/s{load}"

    @property
    def table(self) -> Table:
        """The results."""
        return result_table(self.results, BASELINES[self.results[0].group])

    def to_text(self) -> str:
        """For the terminal."""
        return f"\n{self.title}\n{self.conditions}\n{to_text(self.table)}"


@dataclass
class Benchmark:
    """Everything that a run measured or predicted."""

    environment: dict[str, Any]
    config: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    batches: list[LargestBatch] = field(default_factory=list)
    kernels: list[Any] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """Of all sections."""
        return [result for section in self.sections for result in section.results]

    def to_json(self) -> str:
        """All figures, in seconds and bytes."""
        sections = [
            {"title": section.title, "ceilings": asdict(section.ceilings), "disturbance": section.disturbance}
            | {"results": [asdict(result) | {"share_of_floor": result.share_of_floor} for result in section.results]}
            for section in self.sections
        ]
        about = {"environment": self.environment, "config": self.config}
        tables = {"batches": [asdict(line) for line in self.batches], "kernels": [asdict(kernel) for kernel in self.kernels]}
        return json.dumps(about | {"sections": sections} | tables, indent=2)

    def to_markdown(self, plots: Sequence[str]) -> str:
        """The tables; `plots` are file names beside the page."""
        libraries = ", ".join(f"{name} {number}" for name, number in self.environment["libraries"].items())
        about = f"{self.environment['machine']}, {self.config['threads']} threads; {libraries}; {self.environment['date']}"
        blocks = ["# Benchmark", f"`{self.environment['command']}`", about]
        for section in self.sections:
            blocks += [f"## {section.title}", f"{section.conditions}.", to_markdown(section.table)]
        blocks += self._extra_blocks(plots)
        return "\n\n".join(blocks) + "\n"

    def _extra_blocks(self, plots: Sequence[str]) -> list[str]:
        tables = {f"Largest batch on {self.config['card']:g} GiB, predicted": batch_table(self.batches) if self.batches else None}
        tables["Kernels compiled for sm_90"] = record_table(self.kernels) if self.kernels else None
        blocks = [block for title, table in tables.items() if table and table.rows for block in (f"## {title}", to_markdown(table))]
        return blocks + [f"![]({name})" for name in plots]


def write_report(benchmark: Benchmark, folder: Path) -> None:
    """Write the JSON file, the plots that there are points for, and the page."""
    write_text(folder / "benchmark.json", benchmark.to_json())
    plots = save_plots(benchmark, folder)
    write_text(folder / "benchmark.md", benchmark.to_markdown(plots))


def save_plots(benchmark: Benchmark, folder: Path) -> list[str]:
    """Memory, time and largest batch against C; gives the names of the files."""
    losses = [result for result in benchmark.results if result.group == "losses"]
    by_name = {name: [r for r in losses if r.contestant == name] for name in dict.fromkeys(r.contestant for r in losses)}
    plots = {
        "memory.png": (
            {name: memory_curve(results) for name, results in by_name.items()},
            "Loss, forward and backward: memory above the inputs (hollow: predicted)",
            "MiB",
        ),
        "time.png": (
            {name: time_curve(results) for name, results in by_name.items()},
            "Loss, forward and backward: time",
            "nanoseconds per pixel",
        ),
        "batch.png": (
            {name: batch_curve([line for line in benchmark.batches if line.variant == name]) for name in VARIANTS},
            f"DeepLabV3+ ResNet50, 512×512: largest batch on {benchmark.config['card']:g} GiB (predicted)",
            "images",
        ),
    }
    return [
        file
        for file, (curves, title, y_label) in plots.items()
        if save_curves(folder / file, curves, title=title, x_label="classes", y_label=y_label)
    ]


def memory_curve(results: Sequence[Result]) -> Curve:
    """MiB at the pixels that were asked for; predicted where that could not be measured."""
    measured = {r.setting["classes"]: r.full_peak / MIB for r in results if r.full_peak}
    predicted = {}
    for result in results:
        if result.predicted_peak and not result.full_peak:
            times = result.setting["all_pixels"] / result.setting["pixels"]
            predicted[result.setting["classes"]] = times * result.predicted_peak / MIB
    return Curve(measured, predicted)


def time_curve(results: Sequence[Result]) -> Curve:
    """Nanoseconds per pixel, which does not depend on how many there are."""
    return Curve({r.setting["classes"]: 1e9 * r.timing.seconds / r.setting["pixels"] for r in results if r.timing}, {})


def batch_curve(found: Sequence[LargestBatch]) -> Curve:
    """Images; what fits no card at all cannot be drawn on a logarithmic axis."""
    return Curve({}, {line.setting.classes: line.largest for line in found if line.setting.title == FIGURE_1 and line.largest})
