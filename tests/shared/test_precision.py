"""The switches of float32 products: where they stand in a training, where values are compared, and afterwards."""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from shared.fid.features import EncoderFeatures, FeatureNetwork
from shared.precision import full_precision, prepare_training, switches_kept

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BACKENDS: Any = torch.backends
SWITCHES = [BACKENDS.cuda.matmul, BACKENDS.mkldnn.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn]


def state() -> list[Any]:
    switches = [switch.fp32_precision for switch in SWITCHES]
    return [*switches, torch.are_deterministic_algorithms_enabled()]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with warnings.catch_warnings():
        yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_a_training_on_the_cpu_changes_nothing() -> None:
    before = state()
    prepare_training(CPU, tf32=True, deterministic=True)
    assert state() == before


def test_a_training_leaves_the_switches_as_they_were() -> None:
    before = [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()]
    with pytest.raises(ZeroDivisionError), switches_kept():
        prepare_training(GPU, tf32=True, deterministic=True)
        assert torch.get_float32_matmul_precision() == "high"
        raise ZeroDivisionError
    assert before == [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()]


@pytest.mark.parametrize(("tf32", "products", "switch"), [(True, "high", "tf32"), (False, "highest", "ieee")])
def test_products_and_convolutions_stand_alike(tf32: bool, products: str, switch: str) -> None:
    prepare_training(GPU, tf32=tf32, deterministic=False)
    assert torch.get_float32_matmul_precision() == products and torch.backends.cudnn.allow_tf32 == tf32
    assert SWITCHES[0].fp32_precision == switch and not torch.are_deterministic_algorithms_enabled()


def test_a_repeatable_training() -> None:
    prepare_training(GPU, tf32=True, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_full_precision_is_put_back_after_errors_too() -> None:
    prepare_training(GPU, tf32=True, deterministic=False)
    before = state()
    with pytest.raises(ZeroDivisionError), full_precision():
        assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
        raise ZeroDivisionError
    assert state() == before
    with full_precision(convolutions=False):
        assert torch.get_float32_matmul_precision() == "highest" and torch.backends.cudnn.allow_tf32
    assert state() == before


def test_whoever_has_set_the_new_switches_is_served_too() -> None:
    for switch in SWITCHES[:3:2]:
        switch.fp32_precision = "tf32"
    SWITCHES[3].fp32_precision = "ieee"  # now torch refuses to read either of the old ones
    before = state()
    with full_precision():
        assert [switch.fp32_precision for switch in SWITCHES[:3]] == ["ieee"] * 3
    assert state() == before


def test_features_are_computed_in_full_precision() -> None:
    class Seen(FeatureNetwork):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
            return images + 1

    prepare_training(GPU, tf32=True, deterministic=False)
    assert Seen()(torch.zeros(2)).tolist() == [1, 1]
    assert EncoderFeatures.__call__ is FeatureNetwork.__call__ and torch.backends.cudnn.allow_tf32
