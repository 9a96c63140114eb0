"""Noise beside the semantics: the joined layouts equal a concatenated map, and regions are resampled one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from shared.errors import InputError
from synth.checkpoints import official_state
from synth.generator import SpadeGenerator
from synth.images.generation import generate
from synth.kernels.rows import Maps, Rows
from synth.semantics import Semantics, build_semantics
from synth.semantics.layout import DenseLayout, Layout, SemanticPyramid
from synth.semantics.noise import NOISE_KINDS, Noise, draw_noise, resample, seeded_noise

LABELS = torch.randint(-1, 4, (3, 4, 8), generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 1).repeat_interleave(4, 2)


def noise_map(noise: Noise) -> torch.Tensor:
    """(N, Z, H, W)."""
    if noise.owner is None:
        return noise.vectors.view(*LABELS.shape, -1).permute(0, 3, 1, 2)
    return noise.vectors[noise.owner].permute(0, 3, 1, 2)


def maps(modulation: Maps | Rows, layout: Layout) -> Maps:
    return modulation if isinstance(modulation, Maps) else modulation.maps(layout.batch_size, layout.size)


def semantics(name: str) -> Semantics:
    return build_semantics(name, 4, embedding_dim=3, instance_edges=True)


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("name", ["onehot", "onehot_dense", "random"])
def test_joined_equals_concatenated(kind: str, name: str) -> None:
    torch.manual_seed(0)
    edges = LABELS > 2
    kinds = torch.where(LABELS < 0, 4, LABELS)
    table = torch.eye(5) if name != "random" else semantics(name).table
    assert table is not None
    dense = torch.cat([table[kinds].permute(0, 3, 1, 2), edges[:, None].float()], 1)
    noise = draw_noise(kind, 6, kinds)
    expected = DenseLayout(torch.cat([dense, noise_map(noise)], 1))
    layout = noise.beside(semantics(name).pyramid(LABELS, edges)).at(16, 32)
    assert layout.width == expected.width
    conv = nn.Conv2d(layout.width, 5, 3, padding=1)
    second, bias = torch.randn(8, 5, 3, 3), torch.randn(8)
    for mine, theirs in ((layout, expected), (layout.resized(8, 16), expected.resized(8, 16)), (layout.pooled(), expected.pooled())):
        outputs = [(of.convolve(conv), *maps(of.modulation(conv, second, bias), of)) for of in (mine, theirs)]
        for actual, right in zip(*outputs):
            torch.testing.assert_close(actual, right, rtol=1e-4, atol=1e-4)
        gradients = [torch.autograd.grad(output[0].square().sum(), conv.weight)[0] for output in outputs]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-2)


def test_what_shares_a_vector() -> None:
    classes = torch.where(LABELS < 0, 4, LABELS)
    per_image, per_region, per_pixel = (noise_map(draw_noise(kind, 2, classes, seed=1)) for kind in ("image", "region", "pixel"))
    assert all(len(image.flatten(1).unique(dim=1).T) == 1 for image in per_image)
    for image, label_map in zip(per_region, classes):
        assert len(image.flatten(1).unique(dim=1).T) == len(label_map.unique())
        assert all(len(image[:, label_map == label].unique(dim=1).T) == 1 for label in label_map.unique())
    assert len(per_pixel.permute(0, 2, 3, 1).flatten(0, 2).unique(dim=0)) == LABELS.numel()
    assert len(torch.cat([per_image[:, :, 0, 0], per_region[:, :, 0, 0]]).unique(dim=0)) == 6  # every image has its own


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_only_the_chosen_classes_are_resampled(kind: str) -> None:
    classes = torch.where(LABELS < 0, 4, LABELS)
    first, fresh = (draw_noise(kind, 3, classes, seed) for seed in (0, 1))
    mixed = noise_map(resample(first, fresh, classes, [2, 3]))
    chosen = ((classes == 2) | (classes == 3))[:, None].expand_as(mixed)
    assert torch.equal(mixed[chosen], noise_map(fresh)[chosen]) and torch.equal(mixed[~chosen], noise_map(first)[~chosen])


def make_generator(kind: str, channels: int = 5) -> SpadeGenerator:
    torch.manual_seed(0)
    generator = SpadeGenerator(
        build_semantics("random", 4, embedding_dim=3), image_size=(32, 64), width=2, hidden=4, noise_channels=channels, noise=kind
    )
    for parameter in generator.parameters():
        nn.init.normal_(parameter, std=0.3)
    return generator


def test_a_seed_makes_an_image_and_another_one_another() -> None:
    generator = make_generator("image")
    pyramid = generator.semantics.pyramid(LABELS)
    assert pyramid.classes is not None
    images = [generate(generator, pyramid, noise=draw_noise("image", 5, pyramid.classes, seed)) for seed in (0, 1, 0)]
    assert np.array_equal(images[0], images[2]) and not np.array_equal(images[0], images[1])
    torch.manual_seed(5)
    drawn = generate(generator, LABELS)
    assert drawn.shape == (3, 32, 64, 3) and not np.array_equal(drawn, generate(generator, LABELS))


def test_refusals() -> None:
    generator, plain = make_generator("pixel"), make_generator("image", 0)
    noise = draw_noise("image", 5, LABELS)
    with pytest.raises(ValueError, match="this generator has no noise input"):
        plain(LABELS, noise=noise)
    with pytest.raises(ValueError, match="not of a label map; pass it"):
        generator(SemanticPyramid(DenseLayout(torch.zeros(1, 3, 32, 64))))
    with pytest.raises(InputError, match="unknown noise 'picture'; choose one of image, region, pixel"):
        make_generator("picture")
    with pytest.raises(InputError, match="has noise beside its semantics, and the published layout has none"):
        official_state(generator)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_seeded_noise_stays_when_other_classes_come(kind: str) -> None:
    """What a pixel has follows from the seed of its class alone, and from its place where every pixel has noise of its own."""

    def at_pixels(noise: Noise) -> torch.Tensor:
        return noise.vectors if noise.owner is None else noise.vectors[noise.owner.flatten()]

    before = torch.tensor([[[2, 2, 5], [2, 5, 5]]])
    after = torch.tensor([[[0, 2, 5], [2, 5, 9]]])
    same = (before == after).flatten()
    drawn, changed = (at_pixels(seeded_noise(kind, 4, classes, 7, {})) for classes in (before, after))
    assert torch.equal(drawn[same], changed[same])
    again = at_pixels(seeded_noise(kind, 4, before, 7, {5: 8}))
    assert torch.equal((again == drawn).all(1), (before == 2).flatten())
