"""What keeps a training from being spoilt: losses and gradients that are not finite, and too little memory."""

import math
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from shared.distributed import sum_over_processes
from shared.errors import InputError, is_out_of_memory
from shared.run.directory import RunDirectory
from shared.run.faults import one_line

SKIPPED_IN_A_ROW = 20
"""Updates that may be left out one after the other; with more, the training is lost and stops."""


class NotFinite(Exception):
    """A loss or a gradient is not finite; says which."""


def require_finite(losses: dict[str, torch.Tensor]) -> None:
    """Raises NotFinite, naming the losses that are not finite; in every process, if in any. They call this together."""
    # one tensor, as each copy from a GPU waits for it
    finite = torch.stack([value.detach().double() for value in losses.values()]).isfinite()
    wrong = sum_over_processes(finite.logical_not().float().cpu())
    bad = [name for name, processes in zip(losses, wrong.tolist()) if processes > 0]
    if bad:
        raise NotFinite(f"loss {', '.join(bad)} is not finite")


def require_finite_gradients(norm: torch.Tensor) -> None:
    """Raises NotFinite if an element of a gradient is not finite, which the norm of all of them tells."""
    if not math.isfinite(norm.item()):
        raise NotFinite("a gradient is not finite")


class UpdateGuard:
    """Watches over the updates of networks.

    Args:
        rule: what an update does whose losses or gradients are not finite: "stop" the training, or "skip" it.
        networks: what is updated. A forward pass alone moves their buffers, which are put back where an update is left out.
        run: where it is said.
        memory_advice: what to do when memory ends, in a sentence.
    """

    def __init__(self, rule: str, networks: Iterable[nn.Module], run: RunDirectory, memory_advice: Callable[[], str]) -> None:
        self.rule, self.networks, self.run, self.memory_advice = rule, list(networks), run, memory_advice
        self.skipped = 0

    @contextmanager
    def update(self, step: int) -> Iterator[list[str]]:
        """An update, in which NotFinite may be raised before weights move.

        Yields:
            a list for the names of the samples that it reads, for the message.

        Raises:
            InputError: it was not finite (rule "stop", or too many one after the other), or memory has ended.
        """
        names: list[str] = []
        buffers = [buffer for network in self.networks for buffer in network.buffers()]
        kept = [buffer.clone() for buffer in buffers] if self.rule == "skip" else []
        try:
            yield names
            self.skipped = 0
        except NotFinite as error:
            self._leave_out(f"{error} at step {step}, which reads {', '.join(names)}", buffers, kept)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # lets go of the tensors of the step
            raise InputError(f"memory has ended at step {step}: {one_line(error)}. {self._advise()}") from None

    def _advise(self) -> str:
        try:
            return self.memory_advice()
        except (MemoryError, RuntimeError):  # not even for this is there memory
            return "Smaller batches or images need less"

    def _leave_out(self, what: str, buffers: list[torch.Tensor], kept: list[torch.Tensor]) -> None:
        self.skipped += 1
        if self.rule == "stop":
            raise InputError(
                f"{what}; the weights have not moved, and the last checkpoint is unharmed. Check these files with python -m shared.data "
                "check, lower train.learning_rate, or leave such updates out with --train.not_finite skip"
            )
        if self.skipped > SKIPPED_IN_A_ROW:
            raise InputError(f"{what}, as at {SKIPPED_IN_A_ROW} steps before; the last checkpoint is unharmed. Lower train.learning_rate")
        with torch.no_grad():
            for buffer, value in zip(buffers, kept):
                buffer.copy_(value)
        for network in self.networks:
            network.zero_grad()
        self.run.log(f"{what}; this update is left out")
