"""What a run of a benchmark found: told as it comes, and kept as JSON, Markdown and plots."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.benchmark.contest import Result
from shared.benchmark.isolation import Failed, reason
from shared.benchmark.report import Grid, Plot, percent, record_table, result_table, save_plot, three_digits, to_markdown, to_text
from shared.benchmark.suite import Section
from shared.errors import InputError
from shared.files.atomic import write_text
from shared.files.json_file import write_json


@dataclass
class Benchmark:
    """Everything that a run found.

    Attributes:
        title: of the page.
        environment: command, machine, versions and date.
        config: as `SuiteConfig.resolved` gives it.
        log: takes text for the terminal.
        sections: what was measured.
        records: other figures, by name.
        blocks: of the page.
    """

    title: str
    environment: dict[str, Any]
    config: dict[str, Any]
    log: Callable[[str], None]
    sections: list[Section] = field(default_factory=list)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"kernels": []})
    blocks: list[str] = field(default_factory=list)

    @property
    def conditions(self) -> str:
        """Machine, threads, seed and limit."""
        about = f"{self.environment['machine']}, {self.config['threads']} threads, seed {self.config['seed']}"
        return f"{about}, at most {self.config['memory_limit']:.1f} GiB per contestant"

    @property
    def results(self) -> list[Result]:
        """Of all sections."""
        return [result for section in self.sections for result in section.results]

    def add_section(self, section: Section) -> None:
        """Add the results of a case."""
        self.sections.append(section)
        self._add_block(section.case.heading, result_table(section.results, section.case.kind.baselines), conditions_of(section))

    def add_table(self, title: str, table: Grid, **records: Sequence[Any]) -> None:
        """Add a table, unless it is empty.

        Args:
            records: dataclasses with all its figures, by their name in the JSON file.
        """
        self.records |= {name: [asdict(record) for record in found] for name, found in records.items()}
        if table.rows:
            self._add_block(title, table)

    def add_kernels(self, module: str, **choice: Any) -> None:
        """Add the `compiled_kernels`, or say why there are none."""
        try:
            kernels = compiled_kernels(module, **choice)
        except Failed as error:
            self.log(f"\nNo kernels compiled for sm_90: {error}")
        else:
            self.add_table("Kernels compiled for sm_90", record_table(kernels), kernels=kernels)

    def _add_block(self, title: str, table: Grid, remark: str = "") -> None:
        self.log("\n".join(["", title, *([remark] if remark else []), to_text(table)]))
        self.blocks += [f"## {title}", *([f"{remark}."] if remark else []), to_markdown(table)]

    def write(self, folder: Path, plots: Iterable[Plot]) -> None:
        """Write benchmark.json, the plots that there are points for, and benchmark.md."""
        write_json(folder / "benchmark.json", self._figures())
        drawn = [plot.file for plot in plots if save_plot(folder, plot)]
        write_text(folder / "benchmark.md", self._to_markdown(drawn))
        self.log(f"wrote {folder / 'benchmark.md'}")

    def _figures(self) -> dict[str, Any]:
        """All figures, in seconds and bytes."""
        about = {"environment": self.environment, "config": self.config}
        sections = [
            {"title": section.case.heading, "ceilings": asdict(section.ceilings), "disturbance": section.disturbance}
            | {"results": [asdict(result) | {"share_of_floor": result.share_of_floor} for result in section.results]}
            for section in self.sections
        ]
        return about | self.records | {"sections": sections}

    def _to_markdown(self, plots: Sequence[str]) -> str:
        """The tables; `plots` are file names beside the page."""
        libraries = ", ".join(f"{name} {version}" for name, version in self.environment["libraries"].items())
        about = f"{self.environment['machine']}, {self.config['threads']} threads; {libraries}; {self.environment['date']}"
        images = [f"![]({name})" for name in plots]
        return "\n\n".join([f"# {self.title}", f"`{self.environment['command']}`", about, *self.blocks, *images]) + "\n"


def conditions_of(section: Section) -> str:
    """Ceilings of the moment, and the load by others."""
    copy, matrix, exponential = (three_digits(rate, 1e-9) for rate in asdict(section.ceilings).values())
    load = "" if section.disturbance is None else f"; other processes used {percent(section.disturbance)} of the CPU"
    return f"copy {copy} GB/s, matrix product {matrix} GFLOP/s, exp2 {exponential} G/s{load}"


def compiled_kernels(module: str, **choice: Any) -> list[Any]:
    """What the compiler makes of the Triton kernels of a module such as `seg.benchmark.kernels`.

    The module is imported here, as it needs Triton.

    Args:
        choice: arguments of its `kernel_cases`.

    Raises:
        Failed: with the reason, such as that Triton is not installed.
    """
    try:
        kernels = import_module(module)
        return [kernels.compile_kernel(case) for case in kernels.kernel_cases(**choice)]
    except Exception as error:
        raise Failed(reason(error)) from error


def require_empty(folder: Path) -> None:
    """Refuse to mix results with other files.

    Raises:
        InputError: there is something in the folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose another --run_dir")
