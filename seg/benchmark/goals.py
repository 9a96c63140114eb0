"""The figures that this project set itself, from the results of one run."""

from collections.abc import Sequence

from seg.benchmark.config import PIXELS
from seg.benchmark.losses import DENSE, EXACT, NEIGHBOURS, RELEASED
from seg.benchmark.searches import FAISS, OURS
from shared.benchmark.contest import Result
from shared.benchmark.goals import Goal
from shared.benchmark.isolation import MIB
from shared.benchmark.report import ratio, times_faster, times_leaner

SOFTMAX_HEAD = "softmax"
IN_TORCH = f"{EXACT} (chunked)"


def goals_of(results: Sequence[Result], device: str) -> list[Goal]:
    """The goals for a CPU, or those for a GPU, with what this run measured."""
    if device == "cuda":
        return _gpu_goals(results)
    return [*_loss_goals(results), *_search_goals(results), *_paper_goals(results), *_head_goals(results)]


def _loss_goals(results: Sequence[Result]) -> list[Goal]:
    marks = {19: (10, 25, 10, 18), 150: (6, 15, 5, 9), 1284: (4, 9, 2, 2.8), 10_000: (4, 8, 1, 2)}
    goals = []
    for classes, (must, stretch, exact_must, exact_stretch) in marks.items():
        case = _of(results, "losses", classes)
        goals.append(Goal(f"neighbours over the released way, C {classes}", _faster(case, NEIGHBOURS, RELEASED), must, stretch))
        for title, name in (("exact", EXACT), ("exact in plain torch", IN_TORCH)):
            goals.append(Goal(f"{title} over the released way, C {classes}", _faster(case, name, RELEASED), exact_must, exact_stretch))
    for classes, dense_must, dense_stretch in ((150, 4, 8), (1284, 8, 12)):
        case = _of(results, "losses", classes)
        goals.append(Goal(f"exact over dense softmax, C {classes}", _faster(case, EXACT, DENSE), dense_must, dense_stretch))
    title = f"largest peak above the inputs, any C, {PIXELS['cpu']:,} pixels"
    return [*goals, Goal(title, _largest_peak(results), 64, 24, "MiB", at_most=True)]


def _search_goals(results: Sequence[Result]) -> list[Goal]:
    return [
        Goal(f"search over FAISS, C {classes}", _faster(_of(results, "search", classes), OURS, FAISS), 4, 8)
        for classes in (19, 150, 1284, 10_000)
    ]


def _paper_goals(results: Sequence[Result]) -> list[Goal]:
    case, title = _of(results, "paper", 1284), "the paper's size (C 1284) against the released way"
    return [
        Goal(f"{title}, time", _faster(case, NEIGHBOURS, RELEASED), 3, 11),
        Goal(f"{title}, memory", _leaner(case, NEIGHBOURS, RELEASED), 8, 18),
    ]


def _head_goals(results: Sequence[Result]) -> list[Goal]:
    title = "head and loss over the softmax head"
    goals = []
    for classes, must, stretch in ((19, 1, 1.6), (150, 6, 15), (1284, 50, 120)):
        case = _of(results, "head training", classes)
        value = max(filter(None, (_leaner(case, name, SOFTMAX_HEAD) for name in (EXACT, NEIGHBOURS))), default=None)
        goals.append(Goal(f"{title}, memory, C {classes}", value, must, stretch))
    for classes, must, stretch in ((150, 3, 5), (1284, 7, 25)):
        case = _of(results, "head training", classes)
        value = max(filter(None, (_faster(case, name, SOFTMAX_HEAD) for name in (EXACT, NEIGHBOURS))), default=None)
        goals.append(Goal(f"{title}, time, C {classes}", value, must, stretch))
    return goals


def _gpu_goals(results: Sequence[Result]) -> list[Goal]:
    case, few = _of(results, "losses", 1284), _of(results, "losses", 19)
    goals = [
        Goal("exact over the released way, C 1284", _faster(case, EXACT, RELEASED), 5, 12),
        Goal("exact over dense softmax, C 1284", _faster(case, EXACT, DENSE), 3, 6),
        Goal("time of neighbours over that of exact, C 1284", _faster(case, EXACT, NEIGHBOURS), 3, 3, at_most=True),
        Goal("memory of dense softmax over that of exact, C 19", _leaner(few, EXACT, DENSE), 1, 1),
    ]
    for name in (EXACT, NEIGHBOURS):
        share = peak = None
        if (ours := _fastest(case, name)) is not None:
            share = ours.share_of_floor
            peak = ratio(ours.peak, 4 * ours.setting["dim"] * ours.setting["pixels"])
        goals.append(Goal(f"{name}: share of the floor, C 1284", None if share is None else 100 * share, 40, 60, "%"))
        goals.append(Goal(f"{name}: peak above the inputs over the pixel embeddings, C 1284", peak, 3, 3, at_most=True))
    return goals


def _of(results: Sequence[Result], group: str, classes: int) -> list[Result]:
    return [result for result in results if result.group == group and result.setting["classes"] == classes]


def _fastest(results: Sequence[Result], name: str) -> Result | None:
    """Of the contestants whose names begin so, the one with the least time."""
    timed = [
        (result.timing.seconds, at, result) for at, result in enumerate(results) if result.timing and result.contestant.startswith(name)
    ]
    return min(timed)[2] if timed else None


def _faster(results: Sequence[Result], ours: str, theirs: str) -> float | None:
    """Time of the fastest of theirs over that of the fastest of ours."""
    return times_faster(_fastest(results, ours), _fastest(results, theirs))


def _leaner(results: Sequence[Result], ours: str, theirs: str) -> float | None:
    """Peak of theirs, which may be predicted, over the least one of ours."""
    base = next((result for result in results if result.contestant.startswith(theirs)), None)
    measured = [(result.peak, at, result) for at, result in enumerate(results) if result.peak and result.contestant.startswith(ours)]
    return times_leaner(min(measured)[2], base) if measured else None


def _largest_peak(results: Sequence[Result]) -> float | None:
    """MiB over all C, of the fastest neighbour and the fastest exact implementation."""
    peaks = []
    for classes in {result.setting["classes"] for result in results if result.group == "losses"}:
        for name in (NEIGHBOURS, EXACT):
            ours = _fastest(_of(results, "losses", classes), name)
            if ours and ours.full_peak and ours.setting["all_pixels"] == PIXELS["cpu"]:
                peaks.append(ours.full_peak / MIB)
    return max(peaks, default=None)
