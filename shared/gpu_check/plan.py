"""Which programs do the checks of a section, which of them side by side, and how the time is shared out."""

from typing import NamedTuple

from shared.gpu_check.children import Part
from shared.gpu_check.config import GpuCheckConfig


class Stage(NamedTuple):
    """Parts that run side by side; those of one with figures of time run alone.

    Attributes:
        until: share of all the time after which none of its checks begins.
    """

    until: float
    parts: tuple[Part, ...]


STAGES = (
    Stage(0.1, (Part("machine", "shared.gpu_check.machine", 1),)),
    Stage(
        0.55,
        (
            Part("equality", "seg.gpu_check", 8),
            Part("equality", "synth.gpu_check", 4),
            Part("training", "seg.gpu_check", 3),
            Part("training", "synth.gpu_check", 3),
        ),
    ),
    Stage(0.7, (Part("speed", "seg.gpu_check", 1),)),
    Stage(0.9, (Part("speed", "synth.gpu_check", 1),)),
    Stage(0.95, (Part("thresholds", "seg.gpu_check", 1),)),
    Stage(1.0, (Part("thresholds", "synth.gpu_check", 1),)),
)


def chosen(config: GpuCheckConfig) -> list[Stage]:
    """The stages of the sections that were asked for, which share out all of the time."""
    stages, before = [], 0.0
    for stage in STAGES:
        parts = tuple(part for part in stage.parts if part.section in config.sections)
        if parts:
            stages.append(Stage(stage.until - before, parts))
        before = stage.until
    total, until, shared = sum(stage.until for stage in stages), 0.0, []
    for stage in stages:
        until += stage.until / total
        shared.append(Stage(until, stage.parts))
    return shared
