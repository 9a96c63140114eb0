"""Prove a GPU: every kernel, loss and training against float64 and the CPU, and the speed of all of it: `python -m shared.gpu_check`.

The checks belong to the halves, and are done by programs of theirs that this one starts: what one of them does to the GPU ends with it.
"""

import sys
import time

import torch

from shared.errors import InputError
from shared.gpu_check.checks import NO_TIME, Row
from shared.gpu_check.children import Children
from shared.gpu_check.config import GpuCheckConfig
from shared.gpu_check.plan import chosen
from shared.gpu_check.report import figures_of, verdict, write_report
from shared.run.directory import environment
from shared.run.program import run_program


def check_gpu(config: GpuCheckConfig) -> None:
    """Do everything that was asked for; exit status 1 where an equality does not hold or was not seen to."""
    started = time.monotonic()
    stages = chosen(config)
    if config.dry_run:
        print("\n".join(f"{', '.join(part.sections)}: python -m {part.program}" for stage in stages for part in stage.parts))
        return
    if not config.rehearsal and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use; --rehearsal runs the same on the CPU")
    about = environment()
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        print(" ".join(filter(None, [f"{row.section:10} {row.result:8} {row.name}:", figures_of(row), row.note])), flush=True)
        write_report(config.output, about, rows)

    for stage in stages:
        deadline = started + config.seconds * stage.until
        if time.monotonic() > started + config.seconds:
            for section, program in ((section, part.program) for part in stage.parts for section in part.sections):
                add(Row(section, program, "all", NO_TIME))
            continue
        Children(config.rehearsal, deadline, add).run(stage.parts)
    write_report(config.output, about, rows, plots=True)
    print(f"{verdict(rows)}; {time.monotonic() - started:.0f} s; wrote {config.output / 'gpu_check.md'}")
    if any(row.fails for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    run_program(check_gpu, GpuCheckConfig, "shared.gpu_check", short={"output": "-o"})
