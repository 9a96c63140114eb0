import pickle
from typing import get_args

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.constants import IGNORE_INDEX
from shared.data.spec import Sample
from shared.data.transforms import EvalResize, SynthMode, SynthTransform, TrainCrop
from shared.errors import InputError

CROPS = ("resize_and_crop", "crop", "scale_width_and_crop", "scale_shortside_and_crop")
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def made_sample(height: int, width: int, *, block: int = 1) -> Sample:
    """Every block has a class of its own, far above 255; the image shows the same layout (in its red channel, 8 bits of it)."""
    rows, columns = torch.arange(height) // block, torch.arange(width) // block
    label_map = 1000 + rows[:, None] * (int(columns[-1]) + 1) + columns
    image = (label_map % 256).to(torch.uint8).expand(3, height, width)
    return Sample(image, label_map, label_map + 70_000, "x")


def bytes_of(image: torch.Tensor, mean: float = 0.5, std: float = 0.5) -> torch.Tensor:
    return ((image * std + mean) * 255).round()


def require_consistent(before: Sample, after: Sample, grey: float) -> torch.Tensor:
    """What holds for every transform; gives the mask of pixels inside the picture."""
    inside = after.label_map != IGNORE_INDEX
    assert after.image.dtype == torch.float32 and after.label_map.dtype == torch.int64 and after.name == before.name
    assert type(after.image) is type(after.label_map) is torch.Tensor and after.image.is_contiguous()
    assert after.image.shape == (3, *after.label_map.shape)
    assert torch.isin(after.label_map[inside], before.label_map).all()
    assert after.instance_map is not None
    assert torch.equal(after.instance_map, torch.where(inside, after.label_map + 70_000, IGNORE_INDEX))  # moved together
    assert (after.image[:, ~inside] == grey).all()
    return inside


@settings(max_examples=60, deadline=None)
@given(size=sizes, crop=sizes, low=st.floats(0.25, 3), factor=st.floats(1, 2), jitter=st.sampled_from([0.0, 0.4]), seed=st.integers(0, 99))
def test_train_crop(size, crop, low, factor, jitter, seed):
    torch.manual_seed(seed)
    before = made_sample(*size)
    after = TrainCrop(crop, scale=(low, low * factor), jitter=jitter)(before)
    inside = require_consistent(before, after, 0.5)
    assert after.label_map.shape == crop
    for axis in (0, 1):
        if size[axis] * low >= crop[axis] + 1:
            assert inside.any(1 - axis).all()  # nothing is padded where the picture goes on


@settings(max_examples=80, deadline=None)
@given(size=sizes, crop=sizes, mode=st.sampled_from(get_args(SynthMode)), random_crop=st.booleans(), seed=st.integers(0, 99))
def test_synth_transform(size, crop, mode, random_crop, seed):
    torch.manual_seed(seed)
    before = made_sample(*size)
    after = SynthTransform(crop, mode=mode, random_crop=random_crop, multiple=4)(before)
    inside = require_consistent(before, after, 0.0)
    assert after.image.min() >= -1 and after.image.max() <= 1
    if mode in (*CROPS, "fixed"):
        assert after.label_map.shape == crop
    else:
        assert all(side % 4 == 0 for side in after.label_map.shape) and inside.all()
    if mode in ("resize_and_crop", "fixed"):
        assert inside.all()


def test_image_and_maps_stay_aligned():
    before = made_sample(64, 96, block=16)
    for transform in (TrainCrop((48, 48), scale=(1.5, 2)), SynthTransform((32, 48), mode="fixed"), EvalResize((40, 60))):
        after = transform(before)
        mean, std = (0.5, 0.5) if isinstance(transform, SynthTransform) else (0.0, 1.0)
        shown = bytes_of(after.image[0], mean, std)
        assert ((shown - after.label_map % 256).abs() < 1).float().mean() > 0.6  # the rest are blends along the block borders
        # a shift by half a pixel would make the blends lopsided
        assert (shown - after.label_map % 256).mean().abs() < 0.7


def test_without_resize_every_pixel_agrees():
    before = made_sample(20, 30)
    after = SynthTransform((8, 8), mode="crop")(before)
    assert torch.equal(bytes_of(after.image[0]), after.label_map.float() % 256)


def test_flip_is_joint_and_happens_half_the_time():
    torch.manual_seed(0)
    before = made_sample(2, 3)
    transform = SynthTransform((2, 3), mode="fixed")
    flipped = 0
    for _ in range(200):
        after = transform(before)
        mirrored = torch.equal(after.label_map, before.label_map.flip(-1))
        assert mirrored or torch.equal(after.label_map, before.label_map)
        assert torch.equal(bytes_of(after.image[0]), after.label_map.float() % 256)
        flipped += mirrored
    assert 70 < flipped < 130
    assert torch.equal(SynthTransform((2, 3), mode="fixed", flip=False)(before).label_map, before.label_map)


def test_crops_reach_every_place_and_no_further():
    torch.manual_seed(0)
    before = made_sample(6, 9)
    for transform in (SynthTransform((4, 4), mode="crop", flip=False), TrainCrop((4, 4), scale=(1, 1), flip=False)):
        corners = {int(transform(before).label_map[0, 0]) - 1000 for _ in range(600)}
        assert corners == {row * 9 + column for row in range(3) for column in range(6)}
    centre = SynthTransform((4, 4), mode="crop", flip=False, random_crop=False)(before)
    assert centre.label_map[0, 0] == 1000 + 1 * 9 + 2


def test_short_side_crop_never_leaves_the_picture():
    before = made_sample(48, 64)
    transform = SynthTransform((25, 25), mode="scale_shortside_and_crop", load_size=(28, 28))
    assert all((transform(before).label_map != IGNORE_INDEX).all() for _ in range(50))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("none", (40, 64)), ("scale_width", (24, 40)), ("scale_shortside", (32, 56)), ("fixed", (30, 40))],
)
def test_sizes_of_uncropped_modes(mode, expected):
    assert SynthTransform((30, 40), mode=mode, multiple=8)(made_sample(37, 65)).label_map.shape == expected


@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
@pytest.mark.parametrize(
    ("mode", "portrait", "landscape"),
    [
        ("scale_width_and_crop", (25, 17), (11, 17)),
        ("scale_shortside_and_crop", (25, 17), (17, 25)),
        ("resize_and_crop", (17, 17), (17, 17)),
    ],
)
def test_sizes_before_the_crop_are_rounded_down_as_published(mode, portrait, landscape, size):
    height, width = landscape if size == (20, 30) else portrait
    before = made_sample(*size)
    after = SynthTransform((8, 8), mode=mode, load_size=(17, 17), flip=False, random_crop=False)(before)
    whole = SynthTransform((height, width), mode="fixed", flip=False)(before)
    top, left = (height - 8) // 2, (width - 8) // 2
    assert torch.equal(after.label_map, whole.label_map[top : top + 8, left : left + 8])
    torch.testing.assert_close(after.image, whole.image[:, top : top + 8, left : left + 8])


def test_labels_are_resized_to_the_nearest_and_images_bicubically():
    """The published preprocessing resizes with Pillow. Where a new pixel's centre lies between two old ones, either is the nearest."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 37, 65), generator=generator, dtype=torch.uint8)
    label_map = torch.randint(0, 200, (37, 65), generator=generator)
    after = SynthTransform((32, 48), mode="fixed", flip=False)(Sample(image, label_map, None, "x"))
    picture = PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).resize((48, 32), PIL.Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert (bytes_of(after.image) - expected).abs().max() <= 2
    labels = PIL.Image.fromarray(label_map.to(torch.uint8).numpy()).resize((48, 32), PIL.Image.Resampling.NEAREST)
    assert torch.equal(after.label_map, torch.from_numpy(np.array(labels)).long())


def test_scale_is_the_one_asked_for():
    stripes = Sample(torch.zeros(3, 40, 40, dtype=torch.uint8), torch.arange(40).expand(40, 40) // 4, None, "x")
    after = TrainCrop((40, 40), scale=(2, 2))(stripes)
    _, widths = after.label_map[0].unique(return_counts=True)
    assert widths[1:-1].tolist() == [8] * (len(widths) - 2) and len(widths) in (5, 6)
    assert after.instance_map is None


def test_resize_comes_before_the_crop():
    before = made_sample(20, 30)
    after = TrainCrop((10, 15), resize=(10, 15), scale=(1, 1), flip=False)(before)
    assert torch.equal(after.label_map, EvalResize((10, 15))(before).label_map)
    torch.testing.assert_close(after.image, EvalResize((10, 15))(before).image)


def test_range_of_colours():
    white = Sample(torch.full((3, 4, 4), 255, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.int64), None, "x")
    black = Sample(torch.zeros_like(white.image), white.label_map, None, "x")
    for transform in (EvalResize(), TrainCrop((4, 4), scale=(1, 1))):
        assert [transform(sample).image.unique().tolist() for sample in (white, black)] == [[1.0], [0.0]]
    transform = SynthTransform((4, 4), mode="fixed")
    assert [transform(sample).image.unique().tolist() for sample in (white, black)] == [[1.0], [-1.0]]


def test_padding_is_a_middle_grey_in_both_ranges():
    white = Sample(torch.full((3, 4, 4), 255, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.int64), None, "x")
    for transform, grey in ((TrainCrop((6, 4), scale=(1, 1)), 0.5), (SynthTransform((6, 4), mode="crop"), 0.0)):
        after = transform(white)
        assert after.image[:, 4:].unique().tolist() == [grey] and after.label_map[4:].unique().tolist() == [IGNORE_INDEX]


def test_draws_come_from_the_global_generator():
    before = made_sample(20, 30)
    transform = pickle.loads(pickle.dumps(TrainCrop((12, 12), jitter=0.3)))
    torch.manual_seed(5)
    first = transform(before)
    torch.manual_seed(5)
    assert torch.equal(first.image, transform(before).image)
    state = torch.get_rng_state()
    EvalResize((7, 7))(before)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TrainCrop((8, 8), scale=(0.0, 1.0)), "scale range 0.0..1.0 is not valid; expected 0 < smallest <= largest"),
        (lambda: TrainCrop((8, 0)), r"size 8x0 \(height x width\) is not valid; both sides must be at least 1"),
        (lambda: TrainCrop((8, 8), jitter=2.0), "colour jitter 2.0 is not valid"),
        (lambda: SynthTransform((8, 8), mode="fixed", load_size=(9, 9)), "mode fixed does not resize before a crop"),
        (lambda: SynthTransform((8, 8), load_size=(9, 7)), r"load size \(9, 7\) is smaller than the crop \(8, 8\)"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(InputError, match=message):
        build()
