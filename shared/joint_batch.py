"""How the images of an update are spread over processes, passes and batches, and what a continued run makes of a change.

The data order counts images: update `step` reads those from step · images on, `images` of them, however they are spread. So a run may
continue on fewer or more processes with the same images an update, if batch size or accumulation make up for it.
"""

from typing import Any, NamedTuple

from shared.distributed import world_size
from shared.errors import InputError

FREE_IF_IMAGES_STAY = {"train.batch_size", "train.accumulation"}
"""Settings that a continued run may change as `explain_change` allows it."""


class Spread(NamedTuple):
    """`processes` × `passes` × `batch_size` images an update."""

    processes: int
    passes: int
    batch_size: int

    @classmethod
    def of(cls, config: dict[str, Any], processes: int | None = None) -> "Spread":
        """That of settings and, unless given, the processes that there are."""
        train = config["train"]
        return cls(world_size() if processes is None else processes, train.get("accumulation", 1), train["batch_size"])

    @property
    def images(self) -> int:
        return self.processes * self.passes * self.batch_size

    def __str__(self) -> str:
        return f"{self.images} images an update ({self.processes} processes × {self.passes} passes × batches of {self.batch_size})"


def explain_change(before: Spread, now: Spread, where: str) -> str:
    """What is said when a run that was saved with `before` continues with `now`; empty where nothing has changed.

    Raises:
        InputError: batch size or accumulation were changed, and the images of an update with them.
    """
    if before == now:
        return ""
    if before.images == now.images:
        return f"there were {before} and are now {now}: the same in the same order; results differ by rounding and batch statistics"
    if before[1:] != now[1:]:
        raise InputError(
            f"{where} was saved with {before} and would continue with {now}; give a batch size and an accumulation that leave their number"
        )
    return f"there were {before} and are now {now}: other images come next than without the change, and more or fewer of them an update"
