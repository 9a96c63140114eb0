"""Train a segmentation network and export its class embeddings: `python -m seg.train`.

From here to the gradient is one file: seg/losses/cross_entropy.py.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from seg.config import FREE_ON_RESUME, FREQUENCY_RULES, SegConfig
from seg.inference import evaluate, summary, write_evaluation
from seg.inputs import STATISTICS_FILE, eval_transform, sample_repeats, train_transform, training_size
from seg.losses import class_cross_entropy, class_separation, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.losses.temperature import LearnedTemperature
from seg.model import EmbeddingSegmenter, Segmenter
from seg.trained import describe, export, load_segmenter, segmenter_from
from seg.training.memory import memory_advice
from seg.training.monitoring import log_class_embeddings, log_predictions
from seg.training.optimiser import build_optimisers, set_learning_rates
from seg.training.pixel_weights import keep_hardest, losses_of_pixels, read_class_weights, weights_by_frequency
from seg.training.plan import print_plan, require_possible
from seg.training.sphere import degrees_between
from shared.class_tables import read_class_table
from shared.config import to_dict
from shared.constants import IGNORE_INDEX
from shared.data import build_dataset
from shared.data.batch import Batch
from shared.data.early_check import check_early
from shared.data.loader import BatchLoader, build_eval_loader, build_train_loader
from shared.data.sampling import count_once, read_statistics
from shared.data.spec import SegmentationDataset
from shared.distributed import first_one_first, is_first, my_share, rank, sum_over_processes, wait_for_all, world_size
from shared.precision import prepare_training, switches_kept
from shared.run.checkpoint import TrainingState
from shared.run.directory import EVALUATION, RunDirectory
from shared.run.guards import UpdateGuard, require_finite
from shared.run.monitor import Monitor
from shared.run.program import run_program
from shared.run.stopping import StopRequest
from shared.run.training import RunningMeans, begin_or_continue, choose_device, leave_if_asked, progress, seed_step
from shared.run.updates import Updater, add_terms, in_precision


def losses_of(
    model: Segmenter,
    output: torch.Tensor,
    batch: Batch,
    config: SegConfig,
    class_weights: torch.Tensor | None = None,
    weight: float | None = None,
    share: float = 1.0,
    temperature: LearnedTemperature | None = None,
) -> dict[str, torch.Tensor]:
    """The terms of the loss, scalars that are already weighted.

    Args:
        output: what `model` gives: (N, D, H, W) pixel embeddings or (N, C, H, W) class scores; not upsampled if there are `loss.band_rows`.
        class_weights: (C,), see `neighbour_cross_entropy`.
        weight: of the valid pixels together, see `valid_weights`; None: the loss counts them.
        share: weight of these pixels' mean in that of all pixels of an update, see `shares_of`.
        temperature: where it is learned.
    """
    loss, classes, label_map = config.loss, model.class_vectors, model.rows_of(batch.label_maps)
    if class_weights is not None and classes and model.in_use is not None:
        class_weights = class_weights[model.in_use]
    cross_entropy = classification_loss(config, class_weights)
    compared = classes if temperature is None else tuple(map(temperature.sharpen, classes))
    if loss.hardest is not None:
        value = loss.fixed_temperature if temperature is None else temperature().item()
        label_map, weight = keep_hardest(label_map, losses_of_pixels(model, output, label_map, loss, value), loss.hardest), None
    if loss.band_rows is None:
        classification = cross_entropy(output, *compared, label_map, total_weight=weight)
    else:
        classification = loss_in_bands(
            cross_entropy, output, *compared, label_map=label_map, rows=loss.band_rows, finish=model.finish, class_weights=class_weights
        )
    terms = {"loss/cross_entropy": share * classification}
    for class_embeddings in (vectors for vectors in classes if vectors.requires_grad):
        # the passes of an update count it once
        terms["loss/class_separation"] = loss.margin_weight / config.train.accumulation * class_separation(class_embeddings, loss.margin)
    return terms


def classification_loss(config: SegConfig, class_weights: torch.Tensor | None) -> Callable[..., torch.Tensor]:
    """(output of the network, class embeddings if it has them, label maps) → (weighted) mean cross-entropy over the valid pixels."""
    if config.head == "softmax":
        return partial(class_cross_entropy, class_weights=class_weights)
    loss = config.loss
    choices: dict[str, Any] = {"temperature": loss.fixed_temperature, "distance": loss.distance, "scale": loss.scale, "impl": loss.impl}
    if loss.candidates == "all":
        return partial(exact_cross_entropy, class_weights=class_weights, **choices)
    return partial(neighbour_cross_entropy, num_neighbours=loss.num_neighbours, search=loss.search, class_weights=class_weights, **choices)


def valid_weights(batches: list[Batch], class_weights: torch.Tensor | None) -> torch.Tensor:
    """(batches,) float64: the number of valid pixels of each, every pixel counted with the weight of its class. On the CPU, where batches
    and weights are: a GPU would have to be waited for."""
    weights = None if class_weights is None else class_weights.double().numpy()
    return torch.tensor([sum(_valid_weight(ids, weights) for ids in batch.label_maps.numpy()) for batch in batches], dtype=torch.float64)


def _valid_weight(label_map: np.ndarray, class_weights: np.ndarray | None) -> float:
    if class_weights is None:
        return float(np.count_nonzero(label_map != IGNORE_INDEX))
    pixels = np.bincount(label_map.ravel() - IGNORE_INDEX, minlength=len(class_weights) + 1)
    return float(pixels[1:] @ class_weights)  # those of the ignored come first


def shares_of(weights: torch.Tensor) -> torch.Tensor:
    """(passes,) float32: what the means over batches of these `valid_weights` weigh, so that the sum over an update's passes, averaged over
    the processes, is the mean over all its valid pixels, however they are spread."""
    total = sum_over_processes(weights.sum()).clamp(min=torch.finfo(weights.dtype).tiny)
    return (world_size() * weights / total).float()


@switches_kept()
def train(config: SegConfig) -> None:
    """Run, or continue, the training that `config` describes."""
    settings = config.train
    device = choose_device(settings.device, settings.threads)
    prepare_training(device, tf32=settings.tf32, deterministic=settings.deterministic)

    # --- Data -----------------------------------------------------------------------------------------------------------
    train_set, val_set = build_dataset(config.data, "train"), build_dataset(config.data, "val")
    spec = train_set.spec
    config.require_classes(spec.num_classes - len(train_set.ignored))
    table = None if config.classes.table is None else read_class_table(config.classes.table).rows_of(spec.class_names, spec.name)
    if table is not None:
        config = replace(config, model=replace(config.model, embedding_dim=table.shape[1]))
    statistics = None if config.statistics is None else read_statistics(train_set, config.statistics)
    rule = config.loss.class_weights
    class_weights = None if rule is None or rule in FREQUENCY_RULES else read_class_weights(rule, spec)
    val_loader = build_eval_loader(
        val_set,
        eval_transform(config.input),
        batch_size=settings.batch_size,
        num_workers=config.data.num_workers,
        samples=my_share(len(val_set)),
        device=device,
    )
    check_early(train_set)
    early = check_early(val_set)

    # --- Network and optimiser ------------------------------------------------------------------------------------------
    torch.manual_seed(settings.seed)
    model = segmenter_from(config.head, spec.num_classes, config.model).to(device)
    if isinstance(model, EmbeddingSegmenter) and table is not None:
        model.set_classes(table, trainable=config.classes.trainable)
    model.leave_out(train_set.ignored, spec.num_classes)
    require_possible(config, model, training_size(config.input, train_set), early)
    temperature = LearnedTemperature().to(device) if config.learns_temperature else None
    optimizers = build_optimisers(model, settings, temperature)
    run = RunDirectory.choose("seg.train", f"{spec.name}-{config.head}", config.run_dir)
    if config.dry_run:
        print_plan(config, run, model, train_set, val_set, early, device)
        return
    updater = Updater(list(optimizers.values()), device, settings.precision, settings.clip_norm)
    modules: dict[str, nn.Module] = {"model": model} | ({} if temperature is None else {"temperature": temperature})
    state = TrainingState(modules, optimizers, describe(config, spec))
    means = state.small["means"] = RunningMeans()
    images = settings.batch_size * settings.accumulation * world_size()
    monitor = state.small["monitor"] = Monitor({"model": updater}, images, device)
    state.small["scaler"] = updater.scaler
    begin_or_continue(run, state, to_dict(config), FREE_ON_RESUME)
    if early is not None:
        run.log(early.line(val_set.split))
    network = in_precision(model, device, settings.precision)
    if statistics is None and config.needs_statistics:
        with first_one_first():
            statistics = count_once(train_set, run.path / STATISTICS_FILE, config.data.num_workers)
    if statistics is not None and rule in FREQUENCY_RULES:
        class_weights = weights_by_frequency(rule, statistics)
    weights_on_device = None if class_weights is None else class_weights.to(device)

    # --- Loop -----------------------------------------------------------------------------------------------------------
    batches = iter(
        build_train_loader(
            train_set,
            train_transform(config.input, config.sampling, train_set, statistics),
            batch_size=settings.batch_size,
            seed=settings.seed,
            start_step=state.step * settings.accumulation,
            num_steps=settings.steps * settings.accumulation,
            num_workers=config.data.num_workers,
            rank=rank(),
            world_size=world_size(),
            repeats=sample_repeats(config.sampling, statistics),
            device=device,
        )
    )
    end = min(settings.steps, settings.stop_after or settings.steps)
    advice = partial(memory_advice, config, spec.num_classes, training_size(config.input, train_set), device)
    guard = UpdateGuard(settings.not_finite, [model], run, advice)
    stop = StopRequest()

    def evaluation_is_due() -> bool:
        return state.evaluated < state.step and (state.step % settings.eval_every == 0 or state.step == settings.steps)

    if evaluation_is_due():
        validate(run, state, model, val_loader, val_set, config, device)  # the run was saved before it and went no further
    for step in stop.watch(progress(range(state.step, end), "train", total=end, initial=state.step)):
        rates = set_learning_rates(optimizers.values(), step, settings.steps, settings.warmup)
        seed_step(settings.seed, step, rank())
        passes = [next(batches) for _ in range(settings.accumulation)]
        terms: dict[str, torch.Tensor] = {}
        with guard.update(step) as names:
            weights = valid_weights(passes, class_weights)
            # as numbers: to copy them to a GPU would wait for it
            for batch, weight, share in zip(passes, weights.tolist(), shares_of(weights).tolist()):
                batch = batch.to(device)
                names += batch.names
                # the output gets no name here, so that it is gone before the backward pass, where memory peaks
                full = config.loss.band_rows is None
                losses = losses_of(
                    model, network(batch.images, upsample=full), batch, config, weights_on_device, weight, share, temperature
                )
                require_finite(losses)
                updater.backward(losses)
                add_terms(terms, losses)
            classes_before = [vectors.detach() for vectors in model.class_vectors]
            updater.update()
            for before, after in zip(classes_before, model.class_vectors):
                terms["class_turn"] = degrees_between(before, after.detach()).mean()
            means.add(terms)
        state.step = step + 1

        if state.step % settings.log_every == 0 or state.step == settings.steps:
            learned = {} if temperature is None else {"temperature": temperature().item()}
            run.log_metrics(state.step, means.take() | rates | learned | monitor.gradient_norms())
            run.log_resources(state.step, monitor.resources())
        if stop.due() or evaluation_is_due() or state.step % settings.save_every == 0 or state.step == end:
            state.save(run.checkpoint("last"), run.checkpoint("previous"))
        if evaluation_is_due() and not stop.accepted:
            validate(run, state, model, val_loader, val_set, config, device)
            stop.due()

    # --- Best checkpoint: figures and exports ---------------------------------------------------------------------------
    leave_if_asked(stop, run, state)
    if state.step == settings.steps:
        finish(run, config, val_loader, len(val_set), device)
    run.close()


def validate(
    run: RunDirectory,
    state: TrainingState,
    model: Segmenter,
    val_loader: BatchLoader,
    val_set: SegmentationDataset,
    config: SegConfig,
    device: torch.device,
) -> None:
    """Score the network as it is, log that, keep it where it is the best so far, and save that this step is evaluated."""
    scores = summary(evaluate(model, val_loader, val_set.spec.num_classes, device))
    run.log_metrics(state.step, {f"{EVALUATION}{key}": value for key, value in scores.items()})
    if is_first():
        log_predictions(run, model, val_set, eval_transform(config.input), state.step, device)
    state.evaluated = state.step
    if state.best is None or scores["miou"] > state.best:
        state.best = scores["miou"]
        state.save(run.checkpoint("best"))
    state.save(run.checkpoint("last"))


def finish(run: RunDirectory, config: SegConfig, val_loader: BatchLoader, num_images: int, device: torch.device) -> None:
    """Evaluate the best checkpoint, write evaluation.json, and export the encoder and the class embeddings."""
    wait_for_all()  # for the checkpoint, which the first one writes
    trained = load_segmenter(run, "best", device)
    matrix = evaluate(trained.model, val_loader, trained.spec.num_classes, device)
    if not is_first():
        return
    scores = summary(matrix)
    about = {"run": str(run.path), "step": trained.meta["step"], "miou": round(scores["miou"], 6)}
    details = {
        "dataset": trained.spec.name,
        "split": "val",
        "head": config.head,
        "images": num_images,
        "seconds": round(time.time() - run.started, 1),
    }
    write_evaluation(run.path / "evaluation.json", matrix, trained.spec, about | details)
    run.log(", ".join(f"{key} {100 * value:.2f} %" for key, value in scores.items()) + f" (val, step {about['step']})")
    log_class_embeddings(run, trained)
    for path in export(trained, run.path, about):
        run.log(f"wrote {path}")


if __name__ == "__main__":
    run_program(train, SegConfig, "seg.train")
