"""A training step on tensors that have shapes and types but no data, and the bytes that are alive in it.

What the loss allocates is imitated: the real one looks at its data. Everything else is the code that trains.

Shapes: N images of H×W, C classes, D embedding size; M allocations of a step.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seg.chunks import computation_dtype
from seg.config import LossConfig, SegConfig
from seg.losses.objective import LossAndGradients, one_pass_loss
from seg.model import Segmenter
from seg.networks.upsampling import bands
from seg.trained import segmenter_from
from seg.training.optimiser import build_optimisers

Loss = Callable[..., torch.Tensor]
PARTS = WEIGHTS, NETWORK, OUTPUT, DATA = "weights, gradients, momentum", "network", "output and loss", "data"
_AUTOCAST = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside that are alive, real ones or without data.

    Attributes:
        part: the part that new tensors belong to.
        history: bytes alive after each allocation, in the order of `PARTS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = WEIGHTS
        self.history: list[tuple[int, ...]] = []
        self._bytes = dict.fromkeys(PARTS, 0)
        self._storages: dict[int, tuple[str, int, weakref.ref[Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def move(self, tensor: torch.Tensor, part: str) -> None:
        """Count a tensor that was made inside under another part from now on."""
        key = tensor.untyped_storage()._cdata
        before, size, reference = self._storages[key]
        self._bytes[before] -= size
        self._bytes[part] += size
        self._storages[key] = part, size, reference

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # the address of what several tensors may share
        if key not in self._storages:
            # weak, as counting must not keep a tensor alive
            self._storages[key] = self.part, storage.nbytes(), weakref.ref(storage, lambda _: self._forget(key))
            self._bytes[self.part] += storage.nbytes()
            self.history.append(tuple(self._bytes.values()))

    def _forget(self, key: int) -> None:
        part, size, _ = self._storages.pop(key)
        self._bytes[part] -= size


def trace_step(config: SegConfig, num_classes: int, shape: tuple[int, int, int], device_type: str) -> np.ndarray:
    """(M, 4) bytes alive after each allocation of a training step with images of `shape` (N, H, W)."""
    # no weights: there is no data to put them into, and a prediction must not download
    with torch.random.fork_rng(devices=[]):
        model = segmenter_from(config.head, num_classes, replace(config.model, pretrained=False, weights=None))
    with FakeTensorMode(), LiveBytes() as live:
        _take_data_away(model)
        optimizers = build_optimisers(model, config.train).values()
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["foreach"] = device_type == "cuda"  # as torch chooses
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        for optimizer in optimizers:
            optimizer.step()  # makes the momentum
        # otherwise the gradients of the passes before are there when memory peaks
        if config.train.accumulation == 1:
            model.zero_grad()
        _mark_parts(model, live)
        # what the making of model and momentum has allocated is no part of a step
        live.history.clear()

        live.part = DATA
        images, labels = torch.empty(shape[0], 3, *shape[1:]), torch.empty(shape, dtype=torch.int64)
        live.part = OUTPUT
        # as in the training, no name holds the output, so that it is gone before the backward pass
        _loss(model, _forward(model, images, config, device_type), labels, config.loss, device_type).backward()
        live.part = WEIGHTS
        for optimizer in optimizers:
            optimizer.step()
    return np.array(live.history, dtype=np.int64)


def _take_data_away(model: nn.Module) -> None:
    """Put tensors without data in the place of a model's. Built for real, as some encoders look at numbers while they are built."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _mark_parts(model: Segmenter, live: LiveBytes) -> None:
    """Make hooks tell `live` which part of the step is running."""

    def enter(part: str, *_: Any) -> None:
        live.part = part

    def leave_network(_: Any, __: Any, output: torch.Tensor) -> None:
        enter(OUTPUT)
        live.move(output, OUTPUT)
        output.register_hook(partial(enter, NETWORK))

    model.network.register_forward_pre_hook(partial(enter, NETWORK))
    model.network.register_forward_hook(leave_network)
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda parameter: live.move(parameter.grad, WEIGHTS))


def _forward(model: Segmenter, images: torch.Tensor, config: SegConfig, device_type: str) -> torch.Tensor:
    """The output as the training gets it: computed in mixed precision, then float32."""
    with _autocast(config.train.precision, device_type):
        return model(images, upsample=config.loss.band_rows is None).float()


def _loss(model: Segmenter, output: torch.Tensor, labels: torch.Tensor, config: LossConfig, device_type: str) -> torch.Tensor:
    """A loss that allocates what the real one does. That one looks at its data, and there is none here."""
    classes = model.class_vectors
    cross_entropy: Loss = partial(_embedding_loss, config, device_type) if classes else F.cross_entropy
    if config.band_rows is None:
        return cross_entropy(output, *classes, labels)
    return one_pass_loss(partial(_one_band, cross_entropy, model.finish, labels, config.band_rows), output, *classes)


def _embedding_loss(
    config: LossConfig, device_type: str, pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    return one_pass_loss(partial(_only_allocate, config, device_type), pixels, classes)


def _only_allocate(config: LossConfig, device_type: str, inputs: tuple[torch.Tensor, ...], _: bool) -> LossAndGradients:
    """What every `Implementation` allocates: the gradients, and for a moment its chunks."""
    pixels, classes = inputs
    gradients = tuple(torch.empty_like(tensor, dtype=computation_dtype(*inputs)) for tensor in inputs)
    torch.empty(_chunk_bytes(config, len(classes), pixels, device_type), dtype=torch.uint8)
    return LossAndGradients(pixels.new_zeros(()), gradients)


def _chunk_bytes(config: LossConfig, num_classes: int, pixels: torch.Tensor, device_type: str) -> int:
    """Most bytes that an implementation of the loss holds at a time beside inputs and gradients, as measured."""
    if config.impl == "reference":
        candidates = 1 + (num_classes if config.candidates == "all" else config.num_neighbours)
        return 4 * candidates * pixels.nbytes
    if device_type == "cpu":
        return 11 * 2**19 * torch.get_num_threads()
    return 2**28 if config.impl == "chunked" else 2**26


def _one_band(
    cross_entropy: Loss,
    finish: Callable[[torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    rows: int,
    inputs: tuple[torch.Tensor, ...],
    _: bool,
) -> LossAndGradients:
    """What `seg.losses.bands.loss_in_bands` allocates: the gradients, and one band at a time."""
    features, *classes = inputs
    gradients = tuple(torch.empty_like(tensor, dtype=computation_dtype(*inputs)) for tensor in inputs)
    band = next(bands(features, labels.shape[1], rows))
    leaves = [piece.detach().float().requires_grad_() for piece in (features[:, :, band.source], *classes)]
    with torch.enable_grad():
        # as there, no name holds the band's output: the loss keeps what it needs of it
        loss = cross_entropy(finish(band.upsample(leaves[0], labels.shape[2])), *leaves[1:], labels[:, band.rows])
        torch.autograd.grad(loss, leaves)
    return LossAndGradients(gradients[0].new_zeros(()), gradients)


@contextmanager
def _autocast(precision: str, device_type: str) -> Iterator[None]:
    """Mixed precision as on `device_type`, for tensors without data, which are always on the CPU."""
    with torch.autocast("cpu", _AUTOCAST[precision], enabled=precision != "no"):
        if precision == "no" or device_type == "cpu":
            yield
        else:
            with _GroupNormInFloat32():
                yield


class _GroupNormInFloat32(TorchFunctionMode):
    """Where autocast differs between CPUs and GPUs, for the operators of the networks here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.group_norm:
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))
