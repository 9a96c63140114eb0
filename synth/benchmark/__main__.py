"""Measure what semantics cost in synthesis: `python -m synth.benchmark`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from shared.benchmark.findings import Benchmark, require_empty
from shared.benchmark.suite import Planned, measure_all
from shared.config import to_dict
from shared.run.directory import RunDirectory, environment
from shared.run.program import run_program
from shared.run.training import choose_device, progress_by_hand
from synth.benchmark.cases import Case, distinct_shares, save_label_maps
from synth.benchmark.config import BenchmarkConfig, plan
from synth.benchmark.discriminators import batch_table, discriminator_parameters
from synth.benchmark.layers import SEMANTICS
from synth.benchmark.networks import parameter_counts
from synth.benchmark.report import Parameters, parameter_table, plots_of, share_table


def benchmark(config: BenchmarkConfig) -> None:
    """Measure everything that was asked for, printing as it goes, and write the report."""
    # --- What, where, and within which limits ---------------------------------------------------------------------------
    device = choose_device(config.device, config.threads)
    run = RunDirectory.choose("synth.benchmark", device.type, config.run_dir)
    if not config.dry_run:
        require_empty(run.path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "label_maps.npy"
        maps = save_label_maps(config.data, config.maps, file)
        threads = torch.get_num_threads()
        planned = [Planned(case, beginnings=config.contestants) for case in plan(config, device.type, threads, str(file))]
        descriptions = [item.description for item in planned]
        if config.dry_run:
            print("\n".join(descriptions))
            print(f"on {device} with {threads} threads; would write {run.path}")
            return
        run.start(to_dict(config))
        limits = config.limits(device)
        found = Benchmark("Benchmark of synthesis", environment(), config.resolved(device, limits), run.log)
        run.log(found.conditions)
        shares = distinct_shares(maps)
        found.add_table(f"{config.maps} label maps of {config.data.name}", share_table(shares), shares=shares)

        # --- Measure and compile ----------------------------------------------------------------------------------------
        for section in measure_all(planned, limits, device, progress_by_hand):
            found.add_section(section)
    if "kernels" in config.what:
        found.add_kernels("synth.benchmark.kernels", dtypes=[torch.float32, torch.bfloat16])

    # --- Count and write ------------------------------------------------------------------------------------------------
    parameters = count_parameters(planned)
    found.add_table("Parameters", parameter_table(parameters), parameters=parameters)
    counts = {(line.semantics, line.classes): line.generator + line.discriminator for line in parameters}
    found.add_table("Largest batch", batch_table([result for result in found.results if result.group == "discriminators"], counts))
    found.write(run.path, plots_of(found.results))


def count_parameters(planned: Sequence[Planned[Case]]) -> list[Parameters]:
    """Of the networks that are measured."""
    networks = {item.case.classes: item.case for item in planned if item.case.group in ("generator", "step")}
    pairs = [
        Parameters(name, item.case.classes, *discriminator_parameters(item.case, name))
        for item in planned
        if item.case.group == "discriminators"
        for name in item.names
    ]
    return pairs + [
        Parameters(name, count, *parameter_counts(case, name))
        for count, case in networks.items()
        for name in SEMANTICS
        if "dense" not in name
    ]


if __name__ == "__main__":
    run_program(benchmark, BenchmarkConfig, "synth.benchmark")
