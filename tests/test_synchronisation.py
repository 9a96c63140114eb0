"""How often a training step lets a GPU wait: every look at a number of a tensor does.

On a CPU the looks are counted that would be such, in the plain torch that every device has; on a GPU torch itself counts them.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seg.losses import cross_entropy
from seg.neighbours import search
from shared.run.guards import UpdateGuard
from synth.kernels import modulation
from tests.small import SEGMENTER, scenes, synthesis

Invoke = Callable[..., Any]

MOST_IN_SEG, MOST_IN_SYNTH = 5, 20
aten = torch.ops.aten
LOOKS = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.bincount, aten.equal, aten.is_nonzero),
    *(aten._unique, aten._unique2, aten.unique_dim, aten.unique_consecutive),
}
"""Operators whose result, or its size, the host reads."""


class Looks(TorchDispatchMode):
    """Counts the operators that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        by_mask = func.overloadpacket in (aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_)
        masks = by_mask and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        unknown_size = func.overloadpacket is aten.repeat_interleave and kwargs.get("output_size") is None
        if func.overloadpacket in LOOKS or masks or unknown_size:
            self.note(str(func))
        return func(*args, **kwargs)

    def note(self, what: str) -> None:
        if not self.paused:
            self.found.append(what)


class Copies(TorchFunctionMode):
    """Adds the copies between host and device, which on a CPU are none that an operator would show; and takes from the count what is on the
    host on a GPU too: tensors that were made of Python's numbers or copied there, and what follows from them alone."""

    def __init__(self, looks: Looks) -> None:
        super().__init__()
        self.looks, self.on_host = looks, dict[int, Any]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        of_host = func is torch.tensor and kwargs.get("device") is None
        of_host |= bool(tensors) and all(id(tensor) in self.on_host for tensor in tensors)
        before, self.looks.paused = self.looks.paused, of_host or self.looks.paused
        try:
            if func in (torch.tensor, torch.Tensor.new_tensor, torch.Tensor.tolist, torch.Tensor.cpu):
                self.looks.note(func.__name__)
            result = func(*args, **kwargs)
        finally:
            self.looks.paused = before
        if of_host or func is torch.Tensor.cpu:  # kept, as the number of a tensor that is gone is given to another
            self.on_host |= {id(leaf): leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


@contextmanager
def looks_counted() -> Iterator[list[str]]:
    """Within, a list grows by the names of what would wait."""

    def pause(*_: Any) -> None:
        looks.paused = True

    def go_on(*_: Any) -> None:
        looks.paused = False

    with ExitStack() as stack:
        looks = stack.enter_context(Looks())
        stack.enter_context(Copies(looks))
        # torch's optimisers count their steps on the CPU
        for hook in (register_optimizer_step_pre_hook(pause), register_optimizer_step_post_hook(go_on)):
            stack.callback(hook.remove)
        yield looks.found


@contextmanager
def waits_counted() -> Iterator[list[str]]:
    """The same as CUDA tells it."""
    before = torch.cuda.get_sync_debug_mode()
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
            found += [str(warning.message) for warning in caught if "synchronizing CUDA operation" in str(warning.message)]


def second_step(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, program: str, *options: object, on_gpu: bool = False) -> list[str]:
    """What waits in the second step of a training, which ends there; the first one also checks kernels."""
    steps: list[list[str]] = []
    update = UpdateGuard.update

    @contextmanager
    def counted(guard: UpdateGuard, step: int) -> Iterator[list[str]]:
        with update(guard, step) as names, (waits_counted if on_gpu else looks_counted)() as found:
            yield names
        steps.append(found)
        if step == 1:
            raise SystemExit

    monkeypatch.setattr(UpdateGuard, "update", counted)
    # of one image, as plain torch looks at each chunk of an image, which a GPU's kernels do not
    outcome = invoke(
        program, *options, "--train.batch_size", 1 if program == "seg.train" else 2, "--train.device", "cuda" if on_gpu else "cpu"
    )
    assert outcome.status == 0 and len(steps) == 2, outcome.errors
    return steps[1]


SEG: dict[str, list[object]] = {
    "embedding": [],
    "neighbours": ["--loss.candidates", "neighbours"],
    "softmax": ["--head", "softmax", "--loss.class_weights", "median_frequency"],
}
SYNTH: dict[str, list[object]] = {
    "vectors": ["--semantics", "random"],
    "onehot": ["--semantics", "onehot"],
    "oasis": ["--semantics", "random", "--discriminator.name", "oasis_embedding"],
}


def seg_options(head: str, classes: int) -> list[object]:
    return ["seg.train", *SEG[head], *scenes(classes=classes, train=2, val=1), *SEGMENTER]


def synth_options(kind: str, classes: int) -> list[object]:
    data = scenes(classes=classes, train=2, val=1)
    return ["synth.train", *SYNTH[kind], *data, *synthesis(), "--discriminator.begin", 0]


ON = [pytest.param(False, id="by reading"), pytest.param(True, id="on a GPU", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("on_gpu", ON)
@pytest.mark.parametrize("classes", [12, 1284])
@pytest.mark.parametrize("head", SEG)
def test_steps_of_segmentation(head: str, classes: int, on_gpu: bool, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cross_entropy, search):
        monkeypatch.setattr(module, "numba_obstacle", lambda: "a GPU has none")
    waits = second_step(invoke, monkeypatch, *seg_options(head, classes), on_gpu=on_gpu)
    assert 0 < len(waits) <= MOST_IN_SEG, waits


@pytest.mark.parametrize("on_gpu", ON)
@pytest.mark.parametrize("classes", [12, 1284])
@pytest.mark.parametrize("kind", SYNTH)
def test_steps_of_synthesis(kind: str, classes: int, on_gpu: bool, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modulation, "numba_obstacle", lambda: "a GPU has none")
    waits = second_step(invoke, monkeypatch, *synth_options(kind, classes), on_gpu=on_gpu)
    assert 0 < len(waits) <= MOST_IN_SYNTH, waits


def test_what_is_counted() -> None:
    values = torch.arange(4.0)
    with looks_counted() as found:
        assert float(values[1]) == 1 and values[values > 1].sum() > 0
        values.unique(), values.tolist(), values.new_tensor([1.0]), values.cpu().tolist()
        torch.tensor([1.0, 2.0]).sum().item(), (values + 1).sum()
        optimiser = torch.optim.AdamW([torch.ones(2, requires_grad=True)])
        optimiser.param_groups[0]["params"][0].grad = torch.ones(2)
        optimiser.step()
    named = [name.removeprefix("aten.").partition(".")[0] for name in found]
    assert named == ["_local_scalar_dense", "index", "_local_scalar_dense", "_unique2", "tolist", "new_tensor", "cpu"]
