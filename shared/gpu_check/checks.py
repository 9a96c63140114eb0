"""What a check is, what it finds, and how a program does its checks one by one and tells of each."""

import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from shared.errors import is_out_of_memory
from shared.files.json_file import to_json
from shared.gpu_check.config import PartConfig

EQUAL, WRONG, MEASURED, ERROR, NO_TIME, ABSENT = "equal", "WRONG", "measured", "ERROR", "no time", "absent"
"""Results: an equality holds or does not; a figure without a verdict; an exception; left out for want of time, or of a package."""
MARK = "@gpu_check "
"""How a line begins that is for the command; libraries may print others."""
CONTEXT_LOST = 70
"""Exit status of a program whose GPU answers no more, as after an illegal access: the rest is for another process."""
_LOST = ("CUDA error", "illegal memory access", "illegal instruction", "device-side assert", "launch failure", "misaligned address")


class Absent(Exception):
    """A check has nothing to run on; the message says what is missing."""


@dataclass(frozen=True)
class Found:
    """What a check has found.

    Attributes:
        figures: numbers and words by name.
        equal: whether the equality holds; None where there is none, but a measurement.
        note: one line.
        goals: the least that is wanted of some of the figures.
        setting: what a plot needs: "plot", "curve" and the number of classes, "x".
    """

    figures: Mapping[str, float | str]
    equal: bool | None = None
    note: str = ""
    goals: Mapping[str, float] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A line of the table: its name, and what finds it."""

    name: str
    run: Callable[[], Found]


@dataclass(frozen=True)
class Row:
    """A line of the table as it is kept.

    Attributes:
        section, program: that it belongs to.
        name: of the check.
        result: `EQUAL` and so on.
        seconds: that it took, compilation included.
        trace: of an exception.
        others: as in `Found`.
    """

    section: str
    program: str
    name: str
    result: str
    figures: Mapping[str, float | str] = field(default_factory=dict)
    note: str = ""
    seconds: float = 0.0
    goals: Mapping[str, float] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    trace: str = ""

    @property
    def fails(self) -> bool:
        """Whether it keeps the command from success: an equality without time is none that was seen to hold."""
        return self.result in (WRONG, ERROR) or (self.result == NO_TIME and self.section in ("equality", "training"))


Planned = tuple[str, Check]
"""A check and its section."""


def share_of(checks: Sequence[Planned], share: tuple[int, int]) -> Sequence[Planned]:
    """The i-th of n parts; neighbours are in different ones, as they often take equally long."""
    number, count = share
    return checks[number::count]


def serve(sections: Mapping[str, Callable[[torch.device, bool], Sequence[Check]]], config: PartConfig, program: str) -> None:
    """Do the checks of a share and print a line for each; end the process where the GPU is lost.

    Args:
        sections: by name, the function that gives the checks for a device, of a rehearsal or not.
    """
    end = time.monotonic() + config.seconds
    checks = [(name, check) for name in config.sections for check in sections[name](config.device, config.rehearsal)]
    for section, check in share_of(checks, config.share)[config.skip :]:
        _tell({"begin": check.name, "section": section})
        late = time.monotonic() > end
        row = Row(section, program, check.name, NO_TIME) if late else perform(check, section, program)
        _tell(asdict(row))
        if any(reason in row.note for reason in _LOST):
            sys.exit(CONTEXT_LOST)
        if config.device.type == "cuda":
            torch.cuda.empty_cache()  # others share the card


def perform(check: Check, section: str, program: str) -> Row:
    """Its row, whatever happens."""
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = check.run()
        except Absent as missing:
            return Row(section, program, check.name, ABSENT, note=str(missing))
        except Exception as error:
            note = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Row(section, program, check.name, ERROR, note=note, seconds=time.monotonic() - started, trace=traceback.format_exc())
    said = dict.fromkeys(" ".join(str(one.message).split())[:200] for one in warned if issubclass(one.category, UserWarning))
    note = "; ".join(filter(None, [found.note, *list(said)[:3]]))
    result = MEASURED if found.equal is None else EQUAL if found.equal else WRONG
    elapsed = time.monotonic() - started
    return Row(section, program, check.name, result, found.figures, note, elapsed, found.goals, found.setting)


def _tell(line: Mapping[str, Any]) -> None:
    print(MARK + to_json(line), flush=True)


def relative_errors(found: Iterable[Tensor], truth: Iterable[Tensor]) -> list[float]:
    """Of every tensor, in the Euclidean norm; where the truth is zero, absolute. Infinite where a number is none."""
    errors = []
    for ours, exact in zip(found, truth, strict=True):
        assert ours.shape == exact.shape, f"shape {tuple(ours.shape)} came, {tuple(exact.shape)} was expected"
        length = float(exact.detach().double().norm())
        error = float((ours.detach().double() - exact.detach().double()).norm()) / (length or 1.0)
        errors.append(error if error == error else float("inf"))
    return errors


def same_bits(once: Iterable[Tensor], again: Iterable[Tensor]) -> bool:
    """Whether two runs gave the same numbers, all of them."""
    return all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def compared(names: Sequence[str], found: Sequence[Tensor], truth: Sequence[Tensor], tolerances: float | Sequence[float]) -> Found:
    """Whether tensors equal others within relative tolerances."""
    limits = [tolerances] * len(names) if isinstance(tolerances, float) else tolerances
    errors = relative_errors(found, truth)
    wrong = [f"{name} {error:.1e} > {limit:.0e}" for name, error, limit in zip(names, errors, limits, strict=True) if not error <= limit]
    return Found(dict(zip(names, errors)), not wrong, ", ".join(wrong))


def worst_of(results: Sequence[tuple[str, Found]]) -> Found:
    """One result of the same check at several sizes: the largest figure of each, and where an equality failed."""
    figures: dict[str, float | str] = {}
    for _, found in results:
        for name, value in found.figures.items():
            known = figures.setdefault(name, value)
            if isinstance(value, str) or isinstance(known, str):
                figures[name] = value if known == value else "sometimes"
            else:
                figures[name] = max(known, value)
    note = "; ".join(f"{size}: {found.note}" for size, found in results if found.note)
    return Found(figures, all(found.equal for _, found in results), note)
