"""Measure the embedding loss beside its rivals: `python -m seg.benchmark`."""

import torch

from seg.benchmark.config import BenchmarkConfig, plan
from seg.benchmark.report import plots_of
from seg.benchmark.whole_model import LargestBatch, batch_settings, batch_table, largest_batches
from shared.benchmark.findings import Benchmark, require_empty
from shared.benchmark.suite import measure_all
from shared.config import to_dict
from shared.run.directory import RunDirectory, environment
from shared.run.program import run_program
from shared.run.training import choose_device, progress, progress_by_hand


def benchmark(config: BenchmarkConfig) -> None:
    """Measure everything that was asked for, printing as it goes, and write the report."""
    # --- What, where, and within which limits ---------------------------------------------------------------------------
    device = choose_device(config.device, config.threads)
    threads = torch.get_num_threads()
    planned = plan(config, device.type, threads)
    run = RunDirectory.choose("seg.benchmark", device.type, config.run_dir)
    if config.dry_run:
        print("\n".join(item.description for item in planned))
        print(f"on {device} with {threads} threads; would write {run.path}")
        return
    require_empty(run.path)
    run.start(to_dict(config))
    limits = config.limits(device)
    found = Benchmark("Benchmark", environment(), config.resolved(device, limits), run.log)
    run.log(found.conditions)

    # --- Measure, predict, compile --------------------------------------------------------------------------------------
    for section in measure_all(planned, limits, device, progress_by_hand):
        found.add_section(section)
    batches: list[LargestBatch] = []
    if "whole_model" in config.what:
        for setting in progress(batch_settings(config), "predict", total=len(batch_settings(config)), unit="setting"):
            batches += largest_batches(setting, config.card)
    title = f"Largest batch on {config.card:g} GiB, predicted (in brackets the memory with the paper's batch)"
    found.add_table(title, batch_table(batches), batches=batches)
    if "losses" in config.what:
        found.add_kernels("seg.benchmark.kernels", dims=[config.dim], dtypes=["float32"])

    # --- Write ----------------------------------------------------------------------------------------------------------
    found.write(run.path, plots_of(found.results, batches, config.card))


if __name__ == "__main__":
    run_program(benchmark, BenchmarkConfig, "seg.benchmark")
