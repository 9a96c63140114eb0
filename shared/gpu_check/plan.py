"""Which programs do the checks of a section, which of them side by side, and how the time is shared out."""

from typing import NamedTuple

from shared.gpu_check.children import Part
from shared.gpu_check.config import SECTIONS, GpuCheckConfig


class Stage(NamedTuple):
    """Parts that run side by side; those of one with figures of time run alone.

    Attributes:
        until: share of all the time after which none of its checks begins.
    """

    until: float
    parts: tuple[Part, ...]


MACHINE, SEG, SYNTH = "shared.gpu_check.machine", "seg.gpu_check", "synth.gpu_check"
STAGES = (
    Stage(0.2, (Part(("machine",), MACHINE, 1),)),
    # equalities take their time on the CPU, compiling
    Stage(
        0.6,
        (
            Part(("equality",), SEG, 7),
            Part(("equality",), SYNTH, 3),
            Part(("training",), SEG, 4),
            Part(("training",), SYNTH, 4),
        ),
    ),
    Stage(0.8, (Part(("speed", "thresholds"), SEG, 1),)),
    Stage(1.0, (Part(("speed", "thresholds"), SYNTH, 1),)),
)
REHEARSAL = tuple(
    Stage(until, (Part(sections, program, 1),))
    for until, sections, program in ((0.2, ("machine",), MACHINE), (0.6, SECTIONS[1:], SEG), (1.0, SECTIONS[1:], SYNTH))
)
"""One process each, as most of its time goes into starting them."""


def chosen(config: GpuCheckConfig) -> list[Stage]:
    """The stages of the sections that were asked for, which share out all of the time."""
    stages, before = [], 0.0
    for stage in REHEARSAL if config.rehearsal else STAGES:
        kept = [part._replace(sections=tuple(name for name in part.sections if name in config.sections)) for part in stage.parts]
        parts = tuple(part for part in kept if part.sections)
        if parts:
            stages.append(Stage(stage.until - before, parts))
        before = stage.until
    total, until, shared = sum(stage.until for stage in stages), 0.0, []
    for stage in stages:
        until += stage.until / total
        shared.append(Stage(until, stage.parts))
    return shared
