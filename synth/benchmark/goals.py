"""The figures that this project set itself for synthesis on a CPU, from the results of one run."""

from collections.abc import Sequence

from shared.benchmark.contest import Result
from shared.benchmark.goals import Goal
from shared.benchmark.report import baseline_of, ratio, times_faster
from synth.benchmark.discriminators import discriminator_goals
from synth.benchmark.layers import DENSE, EMBEDDING, GATHERED, GIVEN, ROWS_ONLY
from synth.benchmark.networks import PUBLISHED

FEW, MANY = 7, 10_000
PUBLISHED_SIZE = 256, 64, 128
"""Height, ngf and hidden channels of the generator that the goals are for."""


def goals_of(results: Sequence[Result]) -> list[Goal]:
    """Those that this run measured have a value."""
    return [*_convolution_goals(results), *_modulation_goals(results), *_generator_goals(results), *discriminator_goals(results)]


def _convolution_goals(results: Sequence[Result]) -> list[Goal]:
    goals = []
    for classes, must, stretch in ((19, 3, 10), (184, 15, 70), (1284, 80, 400)):
        value = _faster(_of(results, "convolution", classes), GATHERED + GIVEN, DENSE + GIVEN)
        goals.append(Goal(f"first convolution over that of the one-hot map, both given, C {classes}", value, must, stretch))
    title = f"its time at C {MANY:,} over C 19, gradient of"
    for contestant, what in ((GATHERED + ROWS_ONLY, "the rows that occur"), (GATHERED + GIVEN, "the whole kernel")):
        value = _growth(results, "convolution", contestant, 19)[0]
        goals.append(Goal(f"{title} {what}", value, 1.3, 1.1, at_most=True))
    return goals


def _modulation_goals(results: Sequence[Result]) -> list[Goal]:
    goals = []
    for height, must, stretch in ((128, 4, 9), (256, 8, 17)):
        case = [result for result in results if result.group == "modulation" and result.setting["height"] == height]
        title = f"scale and shift, distinct patches over dense, {height}×{2 * height}"
        goals.append(Goal(title, _faster(case, GATHERED, DENSE), must, stretch))
    return goals


def _generator_goals(results: Sequence[Result]) -> list[Goal]:
    results = [result for result in results if result.group != "generator" or _is_published_size(result)]
    case = _of(results, "generator", 184)
    goals = [
        Goal("generator over dense one-hot, C 184", _faster(case, GATHERED, DENSE), 1.8, 3),
        Goal("its memory over that of dense one-hot, C 184", _memory_share(case, GATHERED, DENSE), 0.65, 0.65, at_most=True),
    ]
    for classes, mark in ((35, 1.8), (1284, 10)):
        value = _faster(_of(results, "generator", classes), GATHERED, PUBLISHED)
        goals.append(Goal(f"generator over the published form, C {classes}", value, mark, mark))
    for name in (GATHERED, EMBEDDING):
        time, memory = _growth(results, "generator", name, FEW)
        goals.append(Goal(f"generator, {name}: time at C {MANY:,} over C {FEW}", time, 1.15, 1.15, at_most=True))
        goals.append(Goal(f"generator, {name}: memory at C {MANY:,} over C {FEW}", memory, 1.1, 1.1, at_most=True))
    return goals


def _is_published_size(result: Result) -> bool:
    return tuple(result.setting[name] for name in ("height", "channels", "hidden")) == PUBLISHED_SIZE


def _of(results: Sequence[Result], group: str, classes: int) -> list[Result]:
    return [result for result in results if result.group == group and result.setting["classes"] == classes]


def _named(results: Sequence[Result], name: str) -> Result | None:
    return next((result for result in results if result.contestant == name), None)


def _faster(results: Sequence[Result], ours: str, theirs: str) -> float | None:
    return times_faster(_named(results, ours), _named(results, theirs))


def _memory_share(results: Sequence[Result], ours: str, theirs: str) -> float | None:
    mine, base = _named(results, ours), baseline_of(results, theirs)
    return ratio(mine.peak, base.peak) if mine and base else None


def _growth(results: Sequence[Result], group: str, name: str, few: int) -> tuple[float | None, float | None]:
    """Time and peak with many classes over those with few."""
    small, large = _named(_of(results, group, few), name), _named(_of(results, group, MANY), name)
    if small is None or large is None:
        return None, None
    return times_faster(small, large), ratio(large.peak, small.peak)
