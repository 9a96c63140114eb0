"""A training in one process, or in the several that `torchrun` started: who they are, and what they tell each other.

Without torchrun there is one process, and everything here is the identity. Processes hold equal weights; each reads its own part of every
batch, and what is summed over all of them is what one process would have made of the joint batch.

Gradients are summed after the backward pass (`average_gradients`), by the optimiser's owner, and not inside it as DistributedDataParallel
does. So networks stay as they are: no wrapper, nothing to switch off while gradients accumulate or while a network is frozen, no names
changed. What that costs is the time of the message, which no computation hides; docs/distributed.md has the figures.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from shared.errors import InputError

Item = TypeVar("Item")
MESSAGE_NUMBERS = 2**24
"""Most numbers of a message with gradients: the copy that it needs has 64 MiB."""


def join_processes(device_type: str) -> None:
    """Meet the other processes that torchrun started, GPUs over NCCL, CPUs over gloo. A second call, or one process: nothing.

    On GPUs, the process's own one is the current one already.
    """
    if not _several_were_started() or dist.is_initialized():
        return
    # both on GPUs too: flags and gathered objects are on the CPU, which NCCL does not send
    dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo")


def leave_processes() -> None:
    """Undo `join_processes`."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """The number of this process among those of this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_gpu() -> int:
    """The number of this process's GPU, before the processes have met or after: each of several has its own. Needs no context of CUDA.

    Raises:
        InputError: more processes on this machine than it has GPUs.
    """
    gpus, number = torch.cuda.device_count(), local_rank() if _several_were_started() else 0
    if 0 < gpus <= number:  # where none can be seen, CUDA has the better reason
        raise InputError(f"process {number} of this machine has no GPU: it has {gpus}; lower torchrun's --nproc-per-node")
    return number


def _several_were_started() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of every process's tensor; all have one shape. Gradients are summed likewise: the loss is the sum of every process's."""
    return tensor if world_size() == 1 else _Sum.apply(tensor)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _all_reduced(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _all_reduced(gradient)


def _all_reduced(tensor: Tensor) -> Tensor:
    # a copy, as all_reduce overwrites; contiguous, as it adds memory as it lies, and strides may differ between processes
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients of the same parameters. One without a gradient counts as 0."""
    if world_size() == 1:
        return
    learners = [parameter for parameter in parameters if parameter.requires_grad]
    # all have to send the same messages, so what any process has a gradient for is sent by all
    have = sum_over_processes(torch.tensor([float(parameter.grad is not None) for parameter in learners]))
    learners = [parameter for parameter, processes in zip(learners, have.tolist()) if processes > 0]
    for parameter in learners:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for gradients in _messages([parameter.grad for parameter in learners if parameter.grad is not None]):
        message = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(message)
        message /= world_size()
        for gradient, part in zip(gradients, message.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view(gradient.shape))


def _messages(tensors: list[Tensor]) -> Iterable[list[Tensor]]:
    """Consecutive tensors of one type, at most `MESSAGE_NUMBERS` together where there is more than one."""
    message: list[Tensor] = []
    for tensor in tensors:
        full = sum(other.numel() for other in message) + tensor.numel() > MESSAGE_NUMBERS
        if message and (full or tensor.dtype != message[0].dtype):
            yield message
            message = []
        message.append(tensor)
    if message:
        yield message


@torch.no_grad()
def share_weights(*networks: nn.Module | None) -> None:
    """Give every process the first one's parameters and buffers, whatever its own machine made of the seed."""
    if world_size() > 1:
        for network in networks:
            for tensor in network.state_dict().values() if network is not None else ():
                dist.broadcast(tensor, 0)


def gather(item: Item) -> list[Item]:
    """Every process's item, in the order of their numbers, in every process. Tensors belong on the CPU."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def from_first(item: Item) -> Item:
    """The first process's item, in every process."""
    if world_size() == 1:
        return item
    items = [item]
    dist.broadcast_object_list(items)
    return items[0]


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return sum_over_processes(torch.tensor(float(flag))).item() > 0


def wait_for_all() -> None:
    """Return when every process has come here, such as for a file that the first one writes."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def first_one_first() -> Iterator[None]:
    """The first process goes through the block before the others do, such as to write a file that they read."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def my_share(items: int) -> range:
    """Which of so many items are this process's: consecutive ones, every item of one process, as even as can be, the first has the most."""
    first, end = (-(-items * number // world_size()) for number in (rank(), rank() + 1))
    return range(first, end)
