"""Curves of the losses and of the largest batches against the number of classes."""

from collections.abc import Sequence

from seg.benchmark.whole_model import FIGURE_1, VARIANTS, LargestBatch
from shared.benchmark.contest import Result
from shared.benchmark.isolation import MIB
from shared.benchmark.report import Curve, Plot, by_contestant


def plots_of(results: Sequence[Result], batches: Sequence[LargestBatch], card: float) -> list[Plot]:
    """Memory and time of the losses, and the largest batch on a card of so many GiB."""
    losses = by_contestant(results, "losses")
    memory = {name: memory_curve(found) for name, found in losses.items()}
    time = {name: time_curve(found) for name, found in losses.items()}
    largest = {name: batch_curve([line for line in batches if line.variant == name]) for name in VARIANTS}
    return [
        Plot("memory.png", "Loss, forward and backward: memory above the inputs (hollow: predicted)", "MiB", memory),
        Plot("time.png", "Loss, forward and backward: time", "nanoseconds per pixel", time),
        Plot("batch.png", f"DeepLabV3+ ResNet50, 512×512: largest batch on {card:g} GiB (predicted)", "images", largest),
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
    return Curve({r.setting["classes"]: 1e9 * r.timing.seconds / r.setting["pixels"] for r in results if r.timing})


def batch_curve(found: Sequence[LargestBatch]) -> Curve:
    """Images; what fits no card at all cannot be drawn on a logarithmic axis."""
    return Curve(predicted={line.setting.classes: line.largest for line in found if line.setting.title == FIGURE_1 and line.largest})
