"""The regulariser and the softmax baseline's loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import class_cross_entropy, class_separation
from shared.errors import InputError


def test_separation_in_closed_form() -> None:
    """Two classes 0.1 apart cost 0.1 each at a margin of 0.2, the far one nothing."""
    classes = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]], requires_grad=True)
    loss = class_separation(classes, margin=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.2 / 3)
    assert classes.grad is not None
    torch.testing.assert_close(classes.grad, torch.tensor([[2 / 3, 0.0], [-2 / 3, 0.0], [0.0, 0.0]]))


@settings(max_examples=20, deadline=None)
@given(num_classes=st.integers(2, 60), dim=st.sampled_from([1, 3, 12]), seed=st.integers(0, 1000))
def test_separation_equals_all_pairs(num_classes: int, dim: int, seed: int) -> None:
    classes = torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pairs = (classes[:, None] - classes).norm(dim=-1).fill_diagonal_(torch.inf)
    torch.testing.assert_close(class_separation(classes, margin=1.0), (1 - pairs.amin(1)).clamp_min(0).mean())


def test_separation_of_equal_embeddings_is_the_margin_and_finite() -> None:
    classes = torch.ones(5, 3, requires_grad=True)
    loss = class_separation(classes)
    loss.backward()
    assert loss.item() == pytest.approx(0.2)
    assert classes.grad is not None and not classes.grad.any()
    assert class_separation(torch.ones(1, 3)) == 0


def test_class_cross_entropy() -> None:
    logits, labels = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randint(-1, 5, (2, 3, 4))
    torch.testing.assert_close(class_cross_entropy(logits, labels), F.cross_entropy(logits, labels, ignore_index=-1))
    empty = class_cross_entropy(logits, torch.full_like(labels, -1))
    empty.backward()
    assert empty == 0 and logits.grad is not None and not logits.grad.any()
    with pytest.raises(InputError, match="label 5 is outside the 5 classes"):
        class_cross_entropy(logits, torch.full_like(labels, 5))
