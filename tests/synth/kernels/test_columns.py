"""Columns of a kernel and their gradient against ordinary indexing."""

import pytest
import torch

from synth.kernels import columns as kernel_columns
from synth.kernels.columns import columns_of


@pytest.mark.parametrize("mapped", [True, False], ids=["fresh pages", "ordinary memory"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_indexing(mapped, dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernel_columns, "WORTH_A_MAPPING", 1 if mapped else 2**40)
    torch.manual_seed(0)
    kernel = torch.randn(4, 50, 3, 3, dtype=dtype, requires_grad=True)
    classes = torch.tensor([7, 0, 49, 7])  # a class with and without instance edge occurs twice
    upstream = torch.randn(4, 4, 3, 3, dtype=dtype)
    expected = torch.autograd.grad(kernel[:, classes], kernel, upstream)[0]
    columns = columns_of(kernel, classes)
    assert torch.equal(columns, kernel[:, classes])
    for _ in range(2):  # what a backward pass leaves is added to
        columns_of(kernel, classes).backward(upstream)
    torch.testing.assert_close(kernel.grad, 2 * expected)
    torch.optim.Adam([kernel]).step()
    assert torch.isfinite(kernel).all()
