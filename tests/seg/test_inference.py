"""Sliding windows, scales and mirroring: what must not change a prediction does not, and what covers an image covers all of it."""

from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seg.inference import STRIDE, ViewConfig, predict_views, window_corners
from seg.model import EmbeddingSegmenter, SoftmaxSegmenter, build_segmenter
from shared.errors import InputError


class _Pointwise(nn.Module):
    """Features of a position from its own 4×4 pixels alone: windows and mirroring cannot change them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, channels, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        mean: torch.Tensor = self.mix(F.avg_pool2d(F.pad(images, (0, -width % 4, 0, -height % 4)), STRIDE))
        return mean


def segmenter(head: str) -> EmbeddingSegmenter | SoftmaxSegmenter:
    torch.manual_seed(0)
    model = build_segmenter(head=head, backbone="tiny", num_classes=9, embedding_dim=5)
    model.network = _Pointwise(5 if head == "embedding" else 9)  # type: ignore[assignment]
    return model.eval()


def images(height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


VIEWS = {
    "windows": ViewConfig(window=(16, 24), overlap=0.5),
    "windows without overlap": ViewConfig(window=(16, 32), overlap=0.0),
    "mirrored": ViewConfig(flip=True),
    "all at once": ViewConfig(window=(20, 20), flip=True, scales=[1.0, 1.0]),
}


@pytest.mark.parametrize("head", ["embedding", "softmax"])
@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("size", [(48, 64), (45, 62)])
def test_views_of_a_pointwise_network_agree(head: str, views: ViewConfig, size: tuple[int, int]) -> None:
    """Near borders of areas a vote of unit vectors or probabilities may decide otherwise than scores; elsewhere nothing changes."""
    model, pictures = segmenter(head), images(*size)
    once = predict_views(model, pictures, ViewConfig(scales=[1.0, 1.0]))
    found = predict_views(model, pictures, views)
    assert found.shape == (2, *size) and found.unique().numel() > 2
    assert (found == once).double().mean() > 0.999


def test_the_image_as_it_is_is_the_plain_prediction() -> None:
    model, pictures = build_segmenter(head="embedding", backbone="tiny", num_classes=9).eval(), images()
    assert torch.equal(predict_views(model, pictures, ViewConfig()), model.predict(pictures))
    larger = ViewConfig(window=(64, 64))
    assert (predict_views(model, pictures, larger) == model.predict(pictures)).double().mean() > 0.95


def test_windows_see_what_they_see() -> None:
    """A network that looks around gives another result in windows than at once."""
    torch.manual_seed(0)
    model = build_segmenter(head="embedding", backbone="tiny", num_classes=9).eval()
    at_once, in_windows = (predict_views(model, images(), ViewConfig(window=window)) for window in (None, (16, 16)))
    assert not torch.equal(at_once, in_windows)


def test_votes_are_averaged_by_hand() -> None:
    """Two scales of a pointwise network: the mean of their unit vectors decides."""
    model, pictures = segmenter("embedding"), images()
    assert isinstance(model, EmbeddingSegmenter)
    half = F.interpolate(pictures, (24, 32), mode="bilinear", antialias=True)
    features = [F.normalize(model(view, upsample=False), dim=1) for view in (pictures, half)]
    mean = features[0] + F.interpolate(features[1], (12, 16), mode="bilinear")
    expected = model.classify(F.interpolate(mean, (48, 64), mode="bilinear"))
    found = predict_views(model, pictures, ViewConfig(scales=[1.0, 0.5]))
    assert (found == expected).double().mean() > 0.999


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    overlap=st.sampled_from([0.0, 1 / 3, 0.5, 0.9]),
)
def test_windows_cover_every_pixel(size: tuple[int, int], window: tuple[int, int], overlap: float) -> None:
    (height, width), (tall, wide) = ((STRIDE * a, STRIDE * b) for a, b in (size, window))
    seen = torch.zeros(height, width)
    for top, left in window_corners((height, width), (tall, wide), overlap):
        assert top % STRIDE == left % STRIDE == 0
        assert (top + tall <= height or top == 0) and (left + wide <= width or left == 0)
        seen[top : top + tall, left : left + wide] += 1
    assert seen.min() >= 1


def test_neighbouring_windows_overlap_enough() -> None:
    tops = sorted({top for top, _ in window_corners((100, 8), (40, 8), 0.5)})
    assert tops[0] == 0 and tops[-1] == 60 and all(b - a <= 20 for a, b in pairwise(tops))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": (30, 64)}, r"window is \[30, 64\]; both sides must be multiples of 4, such as \[32, 64\]"),
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"scales": []}, "one or more factors"),
        ({"scales": [1.0, 0.0]}, "above 0"),
    ],
)
def test_refusals(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViewConfig(**wrong)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_windows() -> None:
    """What is averaged has the size of one view's features."""
    largest = 0

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dim() == 4:
                largest = max(largest, result.numel())
            return result

    model, pictures = segmenter("embedding"), images()
    with Sizes():
        predict_views(model, pictures, ViewConfig(window=(16, 16), overlap=0.9, flip=True))
    assert largest <= max(pictures.numel(), 2 * 5 * 48 * 64)


def test_all_views_are_used() -> None:
    seen: list[tuple[int, ...]] = []
    model = segmenter("softmax")
    model.network.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[2:])))
    predict_views(model, images(), ViewConfig(scales=[0.5, 1.0], flip=True))
    assert seen == [size for size, _ in product([(24, 32), (48, 64)], range(2))]
