"""A suite of cases, each measured for all its contestants: what the benchmarks of both halves do alike.

Their module of cases, such as `seg.benchmark.cases`, has a dataclass `Case` that extends the `BaseCase` here. The functions that make the
contestants are named by strings and imported when they are called: a child process loads what it measures and no more.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import torch

from shared.benchmark.ceilings import Ceilings, measure_ceilings
from shared.benchmark.contest import Contestant, Footprint, Limits, Result, measure_footprint, run_contest
from shared.benchmark.isolation import limit_memory, run_in_child
from shared.benchmark.timing import disturbance
from shared.errors import InputError


class Group(NamedTuple):
    """A kind of work.

    Attributes:
        title: of its tables.
        contestants: "module:function", which gives the contestants of a case.
        baselines: what the others are compared with; the beginning of the name suffices.
    """

    title: str
    contestants: str
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class BaseCase(ABC):
    """One size of one kind of work.

    Attributes:
        group: the kind, a key of `groups`.
        classes: C.
        images, height, width: of the label maps, in pixels.
        dim: D, embedding dimension.
        device: "cpu" or "cuda".
        threads: CPU threads.
        seed: of everything that is made up.
    """

    groups: ClassVar[Mapping[str, Group]]

    group: str
    classes: int
    images: int
    height: int
    width: int
    dim: int
    device: str
    threads: int
    seed: int

    @property
    def kind(self) -> Group:
        """Title, contestants and baselines."""
        return self.groups[self.group]

    @property
    def pixels(self) -> int:
        """Of all images."""
        return self.images * self.height * self.width

    @property
    def setting(self) -> dict[str, Any]:
        """What a result says about its case."""
        return {"pixels": self.pixels} | {name: getattr(self, name) for name in ("classes", "images", "height", "width", "dim")}

    @property
    @abstractmethod
    def sizes(self) -> str:
        """What tells the case from others of its group, in words."""

    @property
    def heading(self) -> str:
        """What is done, and on how much."""
        return f"{self.kind.title}: {self.sizes}"

    @abstractmethod
    def small(self) -> Self:
        """The same work on a few pixels, to load and compile what it needs."""


def contestants_of(case: BaseCase) -> dict[str, Contestant]:
    """Who takes part, by name."""
    module, function = case.kind.contestants.split(":")
    contestants: list[Contestant] = getattr(import_module(module), function)(case)
    return {contestant.name: contestant for contestant in contestants}


AnyCase = TypeVar("AnyCase", bound=BaseCase, covariant=True)


@dataclass(frozen=True)
class Planned(Generic[AnyCase]):
    """A case that is to be measured.

    Attributes:
        full: the same with all the pixels that were asked for, where the case has fewer for the sake of time.
        beginnings: only contestants whose names begin so take part; empty: all.
    """

    case: AnyCase
    full: AnyCase | None = None
    beginnings: Sequence[str] = ()

    @cached_property
    def names(self) -> list[str]:
        """Of the contestants that take part.

        Raises:
            InputError: there is none of that name.
        """
        names = list(contestants_of(self.case))
        chosen = [name for name in names if not self.beginnings or name.startswith(tuple(self.beginnings))]
        if not chosen:
            wanted = " or ".join(self.beginnings)
            raise InputError(f"no contestant of {self.case.group} begins with {wanted}; there are {', '.join(names)}")
        return chosen

    @property
    def description(self) -> str:
        """A line of the dry run."""
        full = f" (memory also with {self.full.pixels:,})" if self.full else ""
        return f"{self.case.heading}{full}: {', '.join(self.names)}"


def footprint_in_child(case: BaseCase, name: str, *, memory: int, timeout: float) -> Footprint:
    """Peak memory and seconds of one call of a contestant, from a child process.

    Raises:
        Failed: with the reason, of the contestant or of the child.
    """
    task = {"cases": type(case).__module__, "case": asdict(case), "contestant": name, "memory": memory}
    return Footprint(**run_in_child("shared.benchmark.child", task, timeout=timeout))


def perform(task: dict[str, Any]) -> dict[str, Any]:
    """The child's side: the footprint of the contestant and the case that the task names, as plain values."""
    case: BaseCase = import_module(task["cases"]).Case(**task["case"])
    torch.set_num_threads(case.threads)
    limit_memory(task["memory"], torch.device(case.device))
    return asdict(footprint_here(case, task["contestant"]))


def footprint_here(case: BaseCase, name: str) -> Footprint:
    """The same in this process, which should do nothing else."""
    return measure_footprint(contestants_of(case)[name], contestants_of(case.small())[name], torch.device(case.device))


@dataclass(frozen=True)
class Section:
    """The results of one case, with what the machine could do and what others did on it meanwhile."""

    case: BaseCase
    results: list[Result]
    ceilings: Ceilings
    disturbance: float | None


def measure_all(
    planned: Iterable[Planned[BaseCase]], limits: Limits, device: torch.device, progress: Callable[..., Any]
) -> Iterator[Section]:
    """Case after case.

    Args:
        progress: (title, total, unit) → a bar, as `shared.run.training.progress_by_hand` makes it.
    """
    ceilings = measure_ceilings(device)
    for item in planned:
        # before every case, as a moment with other load has lower ones
        ceilings = ceilings.or_better(measure_ceilings(device))
        title = f"memory, {item.case.kind.title.lower()}, C {item.case.classes}"
        with progress(title, total=len(item.names), unit="contestant") as bar:
            section = _measure(item, ceilings, limits, device, bar.update)
        yield section


def _measure(item: Planned[BaseCase], ceilings: Ceilings, limits: Limits, device: torch.device, advance: Callable[[], object]) -> Section:
    case, wanted = item.case, item.full or item.case
    contestants, small = contestants_of(case), contestants_of(case.small())
    in_child = partial(footprint_in_child, memory=limits.memory, timeout=limits.timeout)

    def footprint(name: str) -> Footprint:
        advance()
        return in_child(case, name)

    with disturbance() as others:
        results = run_contest(
            case.group,
            case.setting | {"all_pixels": wanted.pixels},
            [contestants[name] for name in item.names],
            small,
            footprint=footprint,
            full_footprint=partial(in_child, item.full) if item.full else None,
            growth=wanted.pixels / case.pixels,
            ceilings=ceilings,
            limits=limits,
            device=device,
        )
    return Section(case, results, ceilings, others.share)
