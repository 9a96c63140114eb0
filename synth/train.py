"""Train a SPADE generator on the semantics of choice: `python -m synth.train --semantics learned`."""

import copy

import numpy as np
import torch

from shared.class_tables import read_class_table
from shared.config import to_dict
from shared.data import build_dataset
from shared.data.early_check import check_early
from shared.data.loader import BatchLoader, build_eval_loader, build_train_loader
from shared.data.spec import DatasetSpec
from shared.distributed import is_first, rank, world_size
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.precision import prepare_training, switches_kept
from shared.run.checkpoint import TrainingState, read_newest
from shared.run.directory import RunDirectory
from shared.run.guards import UpdateGuard
from shared.run.monitor import Monitor
from shared.run.program import run_program
from shared.run.stopping import StopRequest
from shared.run.training import RunningMeans, begin_or_continue, choose_device, leave_if_asked, progress, seed_step
from shared.visualise import save_png
from synth.build import generator_from, opponent_from, semantics_from, style_encoder_from
from synth.config import FREE_ON_RESUME, SynthConfig
from synth.images.generation import sample_grid
from synth.inputs import eval_transform, require_instances, train_transform
from synth.semantics import semantics_title
from synth.semantics.build import READS_EMBEDDINGS, is_table
from synth.semantics.newest import find_embeddings
from synth.trained import describe
from synth.training.balance import Balance
from synth.training.perceptual import build_perceptual, choose_perceptual
from synth.training.plan import print_plan, require_possible
from synth.training.schedule import STATISTICS_BATCHES, learning_rate_factor, measure_statistics, ttur_learning_rates, update_average
from synth.training.step import Step

SAMPLES = 6
MEMORY_ADVICE = "Lower train.batch_size or input.size, or set train.recompute to true"


@switches_kept()
def train(config: SynthConfig) -> None:
    """Run, or continue, the training that `config` describes."""
    settings = config.train
    device = choose_device(settings.device, settings.threads)
    prepare_training(device, tf32=settings.tf32, deterministic=settings.deterministic)

    # --- Data and semantics ---------------------------------------------------------------------------------------------
    train_set, val_set = build_dataset(config.data, "train"), build_dataset(config.data, "val")
    check_early(train_set)
    check_early(val_set)
    spec = train_set.spec
    for split in (train_set, val_set):
        require_instances(config.input, split)
    run = RunDirectory.choose("synth.train", f"{spec.name}-{semantics_title(config.semantics)}", config.run_dir)
    config.embeddings = choose_embeddings(config, run, spec)
    embeddings = None if config.embeddings is None else ClassEmbeddings.load(config.embeddings)
    table = read_table(config, run, spec) if is_table(config.semantics) else None
    config.loss.perceptual = choose_perceptual(config.loss, run.config["loss"].get("perceptual") if run.config_path.is_file() else None)
    perceptual = build_perceptual(config.loss)

    # --- Networks and optimisers ----------------------------------------------------------------------------------------
    torch.manual_seed(settings.seed)
    semantics = semantics_from(config, spec.num_classes, embeddings, table)
    generator = generator_from(config.generator, config.input.size, semantics)
    discriminator, seen, adversary = opponent_from(config.discriminator, config.loss, semantics)
    encoder = style_encoder_from(config.generator, config.input.size)
    require_possible(config, generator, discriminator)
    for network in (generator, discriminator, encoder, perceptual):
        if network is not None:
            network.to(device)
    if settings.channels_last:
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)
    if settings.compile:
        discriminator.compile()
    rates = ttur_learning_rates(settings.learning_rate, ttur=settings.two_time_scales)
    learners = [*generator.parameters(), *(encoder.parameters() if encoder else [])]
    judges = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    generator_optimizer = torch.optim.Adam(learners, rates.generator_lr, betas=rates.betas, fused=True)
    discriminator_optimizer = torch.optim.Adam(judges, rates.discriminator_lr, betas=rates.betas, fused=True)
    generator.recompute = settings.recompute
    average = None if settings.ema_decay is None else copy.deepcopy(generator).requires_grad_(False)
    if config.dry_run:
        print_plan(config, run, generator, discriminator, len(train_set), len(val_set), device)
        return
    modules: dict[str, torch.nn.Module] = {"generator": generator, "discriminator": discriminator}
    modules |= {name: module for name, module in (("style_encoder", encoder), ("average", average)) if module is not None}
    optimizers: dict[str, torch.optim.Optimizer] = {
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }
    step_once = Step(
        config,
        device,
        semantics,
        seen,
        adversary,
        (generator, discriminator, encoder),
        (generator_optimizer, discriminator_optimizer),
        perceptual,
    )
    state = TrainingState(modules, optimizers, describe(config, train_set))
    means = state.small["means"] = RunningMeans()
    watched = {"generator": step_once.of_generator, "discriminator": step_once.of_discriminator}
    monitor = state.small["monitor"] = Monitor(watched, settings.batch_size * settings.accumulation * world_size(), device)
    state.small |= {"generator_scaler": step_once.of_generator.scaler, "discriminator_scaler": step_once.of_discriminator.scaler}
    begin_or_continue(run, state, to_dict(config), FREE_ON_RESUME)
    run.log(f"semantics {config.semantics}" + (f" from {config.embeddings}" if config.embeddings else ""))
    run.log(f"perceptual loss: {config.loss.perceptual}")

    # --- Loop -----------------------------------------------------------------------------------------------------------
    def batches(start: int, stop: int) -> BatchLoader:
        return build_train_loader(
            train_set,
            train_transform(config.input, multiple=generator.size_multiple),
            batch_size=settings.batch_size,
            seed=settings.seed,
            start_step=start * settings.accumulation,
            num_steps=stop * settings.accumulation,
            num_workers=config.data.num_workers,
            rank=rank(),
            world_size=world_size(),
            device=device,
        )

    end = min(settings.steps, settings.stop_after or settings.steps)
    sample_transform = eval_transform(config.input, multiple=generator.size_multiple)
    samples = next(iter(build_eval_loader(val_set, sample_transform, batch_size=SAMPLES, num_workers=0))).to(device)
    guard = UpdateGuard(settings.not_finite, modules.values(), run, lambda: MEMORY_ADVICE)
    stop, balance, stream = StopRequest(), Balance(run), iter(batches(state.step, end))
    for step in stop.watch(progress(range(state.step, end), "train", total=end, initial=state.step)):
        factor = learning_rate_factor(step, settings.steps, settings.decay_from)
        for optimizer, rate in ((generator_optimizer, rates.generator_lr), (discriminator_optimizer, rates.discriminator_lr)):
            set_rate(optimizer, rate * factor)
        seed_step(settings.seed, step, rank())
        passes = [next(stream).to(device) for _ in range(settings.accumulation)]
        with guard.update(step) as names:
            names += [name for batch in passes for name in batch.names]
            means.add(step_once(passes, judged=takes_part(step, config)))
        if average is not None and settings.ema_decay is not None:
            update_average(average, generator, settings.ema_decay)
        state.step = step + 1

        if state.step % settings.log_every == 0 or state.step == settings.steps:
            losses = means.take()
            learning_rates = {f"learning_rate/{name}": updater.optimizers[0].param_groups[0]["lr"] for name, updater in watched.items()}
            run.log_metrics(state.step, losses | learning_rates | monitor.gradient_norms())
            run.log_resources(state.step, monitor.resources())
            balance.watch(state.step, losses)
        if stop.due() or state.step % settings.save_every == 0 or state.step == end:
            state.save(run.checkpoint("last"), run.checkpoint("previous"))
        if is_first() and state.step % settings.sample_every == 0 and state.step < settings.steps:
            log_samples(run, sample_grid(average or generator, encoder, samples, spec), state.step)
    leave_if_asked(stop, run, state)

    # --- The finished generator: statistics of the averaged weights, and samples ------------------------------------------
    if state.step == settings.steps:
        if average is not None and state.evaluated < state.step:
            seed_step(settings.seed, state.step, rank())
            measure_statistics(average, batches(state.step, state.step + STATISTICS_BATCHES), device)
            state.evaluated = state.step
            state.save(run.checkpoint("last"))
        if is_first():
            grid = sample_grid(average or generator, encoder, samples, spec)
            log_samples(run, grid, state.step)
            save_png(grid, run.path / "samples.png")
            run.log(f"wrote {run.path / 'samples.png'}")
    run.close()


def log_samples(run: RunDirectory, grid: np.ndarray, step: int) -> None:
    run.tensorboard.add_image("val/labels, image, generated", grid, step, dataformats="HWC")


def choose_embeddings(config: SynthConfig, run: RunDirectory, spec: DatasetSpec) -> str | None:
    """The embedding file of this run: the one given, the one the run began with, or the newest export on the same data.

    Raises:
        InputError: semantics learned and no file available; or the file belongs to other classes.
    """
    if config.semantics not in READS_EMBEDDINGS:
        return None
    begun_with = run.config.get("embeddings") if run.config_path.is_file() else None
    path = find_embeddings(config.embeddings or begun_with, spec, required=READS_EMBEDDINGS[config.semantics])
    return None if path is None else str(path)


def read_table(config: SynthConfig, run: RunDirectory, spec: DatasetSpec) -> torch.Tensor:
    """(C, S): the class table that the semantics name.

    Raises:
        InputError: it does not fit the classes, or is not as wide as when the run began; names class and file.
    """
    table = read_class_table(config.semantics).rows_of(spec.class_names, spec.name)
    begun_with = read_newest(run.resumable)
    if begun_with is not None:
        stored = begun_with.tensors.get("generator.semantics.table")
        if stored is not None and stored.shape[1] != table.shape[1]:
            raise InputError(
                f"the row of class {spec.class_names[0]} in {config.semantics} has {table.shape[1]} numbers, but {run.path} began with "
                f"class vectors of {stored.shape[1]}; give the table that it began with, or another --run_dir"
            )
    return table


def takes_part(step: int, config: SynthConfig) -> bool:
    """Whether the discriminator does, in this step. Without a perceptual loss nothing else would teach the generator."""
    return config.loss.perceptual == "none" or step >= config.discriminator.begin * config.train.steps


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


if __name__ == "__main__":
    run_program(train, SynthConfig, "synth.train")
