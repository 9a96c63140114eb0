"""What a benchmark leaves behind: benchmark.json, benchmark.md and the plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.benchmark.ceilings import Ceilings
from shared.benchmark.contest import Result
from shared.benchmark.isolation import MIB
from shared.benchmark.report import Curve, Table, number, percent, record_table, result_table, save_curves, to_markdown, to_text
from shared.files.atomic import write_text
from synth.benchmark.cases import Share, share_table
from synth.benchmark.discriminators import ADAM_BYTES, batch_table
from synth.benchmark.groups import BASELINES, TITLES


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
        size = f"{setting['images']}×{setting['height']}×{setting['width']} pixels"
        channels = f", {setting['channels']} channels" if setting["channels"] else ""
        return f"{TITLES[self.results[0].group]}: C {setting['classes']}, {size}{channels}, hidden {setting['hidden']}, D {setting['dim']}"

    @property
    def conditions(self) -> str:
        """Ceilings of the moment, and the load by others."""
        rates = f"copy {number(self.ceilings.copy, 1e-9)} GB/s, matrix product {number(self.ceilings.matrix, 1e-9)} GFLOP/s"
        return rates + ("" if self.disturbance is None else f"; other processes used {percent(self.disturbance)} of the CPU")

    @property
    def table(self) -> Table:
        """The results."""
        return result_table(self.results, BASELINES[self.results[0].group])

    def to_text(self) -> str:
        """For the terminal."""
        return f"\n{self.title}\n{self.conditions}\n{to_text(self.table)}"


@dataclass(frozen=True)
class Parameters:
    """How many parameters the networks have for one kind of semantics."""

    semantics: str
    classes: int
    generator: int
    discriminator: int


@dataclass
class Benchmark:
    """Everything that a run measured."""

    environment: dict[str, Any]
    config: dict[str, Any]
    shares: list[Share]
    parameters: list[Parameters]
    sections: list[Section] = field(default_factory=list)
    kernels: list[Any] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """Of all sections."""
        return [result for section in self.sections for result in section.results]

    @property
    def batch_table(self) -> Table:
        """The largest batches with each discriminator."""
        counts = {(line.semantics, line.classes): line.generator + line.discriminator for line in self.parameters}
        return batch_table([result for result in self.results if result.group == "discriminators"], counts)

    def to_json(self) -> str:
        """All figures, in seconds and bytes."""
        sections = [
            {"title": section.title, "ceilings": asdict(section.ceilings), "disturbance": section.disturbance}
            | {"results": [asdict(result) | {"share_of_floor": result.share_of_floor} for result in section.results]}
            for section in self.sections
        ]
        tables = {"shares": [asdict(share) for share in self.shares], "parameters": [asdict(line) for line in self.parameters]}
        tables |= {"kernels": [asdict(kernel) for kernel in self.kernels]}
        about = {"environment": self.environment, "config": self.config}
        return json.dumps(about | tables | {"sections": sections}, indent=2)

    def to_markdown(self, plots: Sequence[str]) -> str:
        """The tables; `plots` are file names beside the page."""
        libraries = ", ".join(f"{name} {number}" for name, number in self.environment["libraries"].items())
        about = f"{self.environment['machine']}, {self.config['threads']} threads; {libraries}; {self.environment['date']}"
        blocks = [
            "# Benchmark of synthesis",
            f"`{self.environment['command']}`",
            about,
            "## Label maps",
            to_markdown(share_table(self.shares)),
        ]
        for section in self.sections:
            blocks += [f"## {section.title}", f"{section.conditions}.", to_markdown(section.table)]
        if self.kernels:
            blocks += ["## Kernels compiled for sm_90", to_markdown(record_table(self.kernels))]
        tables = {"Parameters": parameter_table(self.parameters), "Largest batch": self.batch_table}
        for title, table in tables.items():
            blocks += [f"## {title}", to_markdown(table)] if table.rows else []
        return "\n\n".join(blocks + [f"![]({name})" for name in plots]) + "\n"


def parameter_table(parameters: Sequence[Parameters]) -> Table:
    """Millions of parameters, and what a training holds of them."""
    columns = ["semantics", "C", "generator, M", "discriminator, M", "weights, gradients and Adam, MiB", ""]
    rows = []
    for line in parameters:
        held = ADAM_BYTES * (line.generator + line.discriminator) / MIB
        rows.append([line.semantics, str(line.classes), number(line.generator, 1e-6), number(line.discriminator, 1e-6), number(held), ""])
    return Table(columns, rows)


def write_report(benchmark: Benchmark, folder: Path) -> None:
    """Write the JSON file, the plots that there are points for, and the page."""
    write_text(folder / "benchmark.json", benchmark.to_json())
    plots = save_plots(benchmark, folder)
    write_text(folder / "benchmark.md", benchmark.to_markdown(plots))


def save_plots(benchmark: Benchmark, folder: Path) -> list[str]:
    """Time and memory of the networks against C; gives the names of the files."""
    written = []
    for group in ("generator", "step", "discriminators"):
        results = [result for result in benchmark.results if result.group == group]
        names = dict.fromkeys(result.contestant for result in results)
        of = {name: [result for result in results if result.contestant == name] for name in names}
        times = {name: Curve({r.setting["classes"]: r.timing.seconds for r in of[name] if r.timing}, {}) for name in names}
        peaks = {name: Curve({r.setting["classes"]: r.peak / MIB for r in of[name] if r.peak}, {}) for name in names}
        for what, curves, unit in (("time", times, "seconds"), ("memory", peaks, "MiB")):
            title = TITLES[group] + (": time" if what == "time" else ": memory above weights and optimiser")
            file = f"{group}_{what}.png"
            if save_curves(folder / file, curves, title=title, x_label="classes", y_label=unit):
                written.append(file)
    return written
