"""How a GPU makes float32 products, and trainings that it repeats bit for bit. A CPU computes the same with and without all this.

Tensor cores round the factors of float32 products to TF32, ten bits, and are several times faster. torch has one switch for products of
matrices, off at first, and one for convolutions, on at first: two exact forms of one layer, of which one convolves and one multiplies, then
differ by a thousandth. Here both stand alike: on in trainings (train.tf32), off where values are compared.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch


@contextmanager
def switches_kept() -> Iterator[None]:
    """Afterwards all switches are where they were: a training in a process that does other things is to leave them alone."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    deterministic, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        # only where it has changed: torch imports its compiler to set it
        if (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()) != (deterministic, warns):
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)


def prepare_training(device: torch.device, *, tf32: bool, deterministic: bool) -> None:
    """Set how a GPU computes from now on, see `switches_kept`. A CPU is left alone.

    Args:
        tf32: for products of matrices and for convolutions.
        deterministic: the same results every time. Operators of torch that have no such form on GPUs say so in a warning.
    """
    if device.type != "cuda":
        return
    # torch 2.9 has new names for both switches, but of its own parts some read the old ones alone and fail where the new ones differ
    warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32 behavior")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product of matrices is made
        torch.use_deterministic_algorithms(True, warn_only=True)
        # torch would fill all memory that it gives out, which nothing here reads before it is written
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def full_precision(*, convolutions: bool = True) -> Iterator[None]:
    """Within, float32 products have the digits of float32, whatever the switches say."""
    undo = [_switch_products_off(), *([_switch_convolutions_off()] if convolutions else [])]
    try:
        yield
    finally:
        for restore in undo:
            restore()


def _switch_products_off() -> Callable[[], None]:
    """Returns what puts the switch back."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses the old name where its caller has set the new ones
        return _set_new_names([torch.backends.cuda.matmul, torch.backends.mkldnn.matmul])  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")
    return partial(torch.set_float32_matmul_precision, before)


def _switch_convolutions_off() -> Callable[[], None]:
    cudnn: Any = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32
    except RuntimeError:
        return _set_new_names([cudnn.conv])
    cudnn.allow_tf32 = False
    return partial(setattr, cudnn, "allow_tf32", before)


def _set_new_names(switches: list[Any]) -> Callable[[], None]:
    before = [switch.fp32_precision for switch in switches]

    def put(values: list[str]) -> None:
        for switch, value in zip(switches, values):
            switch.fp32_precision = value

    put(["ieee"] * len(switches))
    return partial(put, before)
