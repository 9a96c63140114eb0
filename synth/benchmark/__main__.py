"""Measure what semantics cost in synthesis: `python -m synth.benchmark`."""

import tempfile
from pathlib import Path

import torch

from shared.benchmark.ceilings import Ceilings, measure_ceilings
from shared.benchmark.contest import Footprint, Limits, run_contest
from shared.benchmark.isolation import Failed, available_memory
from shared.benchmark.report import record_table, to_text
from shared.benchmark.timing import disturbance
from shared.config import to_dict
from shared.errors import InputError
from shared.run.directory import RunDirectory, environment
from shared.run.program import run_program
from shared.run.training import choose_device, progress_by_hand
from synth.benchmark.cases import Case, distinct_shares, save_label_maps, share_table
from synth.benchmark.config import GIB, BenchmarkConfig, plan
from synth.benchmark.discriminators import discriminator_parameters
from synth.benchmark.groups import TITLES, contestants_of, footprint_in_child
from synth.benchmark.kernels import compiled_kernels
from synth.benchmark.layers import SEMANTICS
from synth.benchmark.networks import parameter_counts
from synth.benchmark.report import Benchmark, Parameters, Section, parameter_table, write_report

CHILD_SECONDS = 300.0
UNKNOWN_MEMORY = 8 * GIB


def benchmark(config: BenchmarkConfig) -> None:
    """Measure everything that was asked for, printing as it goes, and write the report."""
    # --- What, where, and within which limits ---------------------------------------------------------------------------
    device = choose_device(config.device, config.threads)
    threads = torch.get_num_threads()
    run = RunDirectory.choose("synth.benchmark", device.type, config.run_dir)
    if not config.dry_run and run.path.is_dir() and any(run.path.iterdir()):
        raise InputError(f"{run.path} is not empty; choose another --run_dir")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "label_maps.npy"
        maps = save_label_maps(config.data, config.maps, file)
        planned = plan(config, device.type, threads, str(file))
        descriptions = [_describe(case, config) for case in planned]
        if config.dry_run:
            print("\n".join(descriptions))
            print(f"on {device} with {threads} threads; would write {run.path}")
            return
        run.start(to_dict(config))
        memory = int(config.memory_limit * GIB) if config.memory_limit else (available_memory(device) or UNKNOWN_MEMORY) // 2
        limits = Limits(config.repeats, config.seconds, memory, CHILD_SECONDS)
        about = to_dict(config) | {"device": device.type, "threads": threads, "memory_limit": memory / GIB}
        found = Benchmark(environment(), about, distinct_shares(maps), _parameters(config, planned))
        run.log(f"{found.environment['machine']}, {threads} threads, seed {config.seed}, at most {memory / GIB:.1f} GiB per contestant")
        run.log(f"\n{config.maps} label maps of {config.data.name}\n{to_text(share_table(found.shares))}")

        # --- Measure ----------------------------------------------------------------------------------------------------
        ceilings = measure_ceilings(device)
        for case in planned:
            ceilings = ceilings.or_better(measure_ceilings(device))
            found.sections.append(measure(case, config, ceilings, limits, device))
            run.log(found.sections[-1].to_text())

    if "kernels" in config.what:
        try:
            found.kernels = compiled_kernels()
            run.log(f"\nKernels compiled for sm_90\n{to_text(record_table(found.kernels))}")
        except Failed as error:
            run.log(f"\nNo kernels compiled for sm_90: {error}")

    # --- Write ------------------------------------------------------------------------------------------------------
    if found.parameters:
        run.log(f"\nParameters\n{to_text(parameter_table(found.parameters))}")
    if (batches := found.batch_table).rows:
        run.log(f"\nLargest batch\n{to_text(batches)}")
    write_report(found, run.path)
    run.log(f"wrote {run.path / 'benchmark.md'}")


def measure(case: Case, config: BenchmarkConfig, ceilings: Ceilings, limits: Limits, device: torch.device) -> Section:
    """All contestants of one case."""
    names = _names(case, config)
    contestants, small = contestants_of(case), contestants_of(case.small())
    bar = progress_by_hand(f"memory, {TITLES[case.group].lower()}, C {case.classes}", total=len(names), unit="contestant")

    def footprint(name: str) -> Footprint:
        bar.update()
        return footprint_in_child(case, name, memory=limits.memory, timeout=limits.timeout)

    with bar, disturbance() as others:
        results = run_contest(
            case.group,
            case.setting,
            [contestants[name] for name in names],
            small,
            footprint=footprint,
            full_footprint=None,
            growth=1,
            ceilings=ceilings,
            limits=limits,
            device=device,
        )
    return Section(results, ceilings, others.share)


def _names(case: Case, config: BenchmarkConfig) -> list[str]:
    """The contestants that were asked for.

    Raises:
        InputError: there is none of that name.
    """
    names = list(contestants_of(case))
    chosen = [name for name in names if not config.contestants or name.startswith(tuple(config.contestants))]
    if not chosen:
        raise InputError(f"no contestant of {case.group} begins with {' or '.join(config.contestants)}; there are {', '.join(names)}")
    return chosen


def _parameters(config: BenchmarkConfig, planned: list[Case]) -> list[Parameters]:
    """Of the networks that are measured."""
    networks = {case.classes: case for case in planned if case.group in ("generator", "step")}
    pairs = [
        Parameters(name, case.classes, *discriminator_parameters(case, name))
        for case in planned
        if case.group == "discriminators"
        for name in _names(case, config)
    ]
    return pairs + [
        Parameters(name, count, *parameter_counts(case, name))
        for count, case in networks.items()
        for name in SEMANTICS
        if "dense" not in name
    ]


def _describe(case: Case, config: BenchmarkConfig) -> str:
    """A line of the dry run."""
    size = f"{case.images}×{case.height}×{case.width} pixels"
    return f"{TITLES[case.group]}: C {case.classes}, {size}, hidden {case.hidden}: {', '.join(_names(case, config))}"


if __name__ == "__main__":
    run_program(benchmark, BenchmarkConfig, "synth.benchmark")
