"""Measure the embedding loss beside its rivals: `python -m seg.benchmark`."""

from functools import partial

import torch

from seg.benchmark.config import GIB, BenchmarkConfig, Planned, plan
from seg.benchmark.groups import TITLES, contestants_of, footprint_in_child, set_threads
from seg.benchmark.kernels import compiled_kernels
from seg.benchmark.report import Benchmark, Section, write_report
from seg.benchmark.whole_model import batch_settings, batch_table, largest_batches
from shared.benchmark.ceilings import Ceilings, measure_ceilings
from shared.benchmark.contest import Footprint, Limits, run_contest
from shared.benchmark.isolation import Failed, available_memory
from shared.benchmark.report import record_table, to_text
from shared.benchmark.timing import disturbance
from shared.config import to_dict
from shared.errors import InputError
from shared.run.directory import RunDirectory, environment
from shared.run.program import run_program
from shared.run.training import choose_device, progress, progress_by_hand

CHILD_SECONDS = 300.0
UNKNOWN_MEMORY = 8 * GIB


def benchmark(config: BenchmarkConfig) -> None:
    """Measure everything that was asked for, printing as it goes, and write the report."""
    # --- What, where, and within which limits ---------------------------------------------------------------------------
    device = choose_device(config.device, config.threads)
    threads = torch.get_num_threads()
    set_threads(threads)
    planned = plan(config, device.type, threads)
    run = RunDirectory.choose("seg.benchmark", device.type, config.run_dir)
    if config.dry_run:
        print("\n".join(_describe(item) for item in planned))
        print(f"on {device} with {threads} threads; would write {run.path}")
        return
    if run.path.is_dir() and any(run.path.iterdir()):
        raise InputError(f"{run.path} is not empty; choose another --run_dir")
    run.start(to_dict(config))
    memory = int(config.memory_limit * GIB) if config.memory_limit else (available_memory(device) or UNKNOWN_MEMORY) // 2
    limits = Limits(config.repeats, config.seconds, memory, CHILD_SECONDS)
    found = Benchmark(environment(), to_dict(config) | {"device": device.type, "threads": threads, "memory_limit": memory / GIB})
    run.log(f"{found.environment['machine']}, {threads} threads, seed {config.seed}, at most {memory / GIB:.1f} GiB per contestant")

    # --- Measure --------------------------------------------------------------------------------------------------------
    ceilings = measure_ceilings(device)
    for item in planned:
        ceilings = ceilings.or_better(measure_ceilings(device))
        found.sections.append(measure(item, ceilings, limits, device))
        run.log(found.sections[-1].to_text())

    # --- Predict --------------------------------------------------------------------------------------------------------
    if "whole_model" in config.what:
        for setting in progress(batch_settings(config), "predict", total=len(batch_settings(config)), unit="setting"):
            found.batches += largest_batches(setting, config.card)
        run.log(f"\nLargest batch on {config.card:g} GiB, predicted (in brackets the memory with the paper's batch)")
        run.log(to_text(batch_table(found.batches)))
    if "losses" in config.what:
        try:
            found.kernels = compiled_kernels(config.dim)
            run.log(f"\nKernels compiled for sm_90\n{to_text(record_table(found.kernels))}")
        except Failed as error:
            run.log(f"\nNo kernels compiled for sm_90: {error}")

    write_report(found, run.path)
    run.log(f"wrote {run.path / 'benchmark.md'}")


def measure(item: Planned, ceilings: Ceilings, limits: Limits, device: torch.device) -> Section:
    """All contestants of one case."""
    contestants, small = contestants_of(item.case), contestants_of(item.case.small())
    wanted = item.full or item.case
    bar = progress_by_hand(f"memory, {TITLES[item.case.group].lower()}, C {item.case.classes}", total=len(contestants), unit="contestant")

    def footprint(name: str) -> Footprint:
        bar.update()
        return footprint_in_child(item.case, name, memory=limits.memory, timeout=limits.timeout)

    with bar, disturbance() as others:
        full = partial(footprint_in_child, item.full, memory=limits.memory, timeout=limits.timeout) if item.full else None
        results = run_contest(
            item.case.group,
            item.case.setting | {"all_pixels": wanted.pixels},
            list(contestants.values()),
            small,
            footprint=footprint,
            full_footprint=full,
            growth=wanted.pixels / item.case.pixels,
            ceilings=ceilings,
            limits=limits,
            device=device,
        )
    return Section(results, ceilings, others.share)


def _describe(item: Planned) -> str:
    """A line of the dry run."""
    case = item.case
    size = f"{case.images}×{case.height}×{case.width} pixels" + (f" (memory also with {item.full.pixels:,})" if item.full else "")
    name = f"{TITLES[case.group]}: {case.title}".rstrip(": ")
    return f"{name}, C {case.classes}, D {case.dim}, k {case.neighbours}, {size}: {', '.join(contestants_of(case))}"


if __name__ == "__main__":
    run_program(benchmark, BenchmarkConfig, "seg.benchmark")
