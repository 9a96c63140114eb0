"""Shapes, style, sharing and refusals of the generator."""

import copy

import pytest
import torch

from shared.errors import InputError
from synth.config import GeneratorConfig
from synth.generator import SpadeGenerator, published_image_size
from synth.semantics import build_semantics


def small(upsampling: str = "normal", image_size: tuple[int, int] = (32, 64), semantics: str = "onehot", **options) -> SpadeGenerator:
    table = build_semantics(semantics, 4, embedding_dim=3, instance_edges=options.pop("instance_edges", False))
    return SpadeGenerator(table, image_size=image_size, width=2, hidden=4, upsampling=upsampling, **options)


@pytest.fixture
def label_map():
    return torch.randint(-1, 4, (2, 32, 64), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("upsampling", "size"), [("normal", (32, 96)), ("more", (64, 128)), ("most", (128, 256))])
def test_shapes(upsampling, size):
    network = small(upsampling, size)
    images = network(torch.zeros(2, *size, dtype=torch.long))
    assert images.shape == (2, 3, *size)
    assert images.abs().max() <= 1
    assert hasattr(network, "up_4") == (upsampling == "most")


def test_number_of_tensors_is_that_of_the_published_checkpoints():
    assert len(small().state_dict()) == 234
    assert len(small("most", (128, 128)).state_dict()) == 272
    assert len(small(norm="instance").state_dict()) == 180


def test_the_gain_scales_the_first_weights_and_is_the_published_one_where_none_is_given():
    networks = []
    for options in ({}, {"init_gain": 0.02}, {"init_gain": 1.0}):
        torch.manual_seed(0)
        networks.append(small(**options).state_dict())
    for name, published in networks[0].items():
        assert torch.equal(published, networks[1][name])
        if name.endswith(("weight", "weight_orig")):
            torch.testing.assert_close(networks[2][name], 50 * published)
    with pytest.raises(InputError, match=r"generator\.init_gain is 0; it must be above 0"):
        GeneratorConfig(init_gain=0)


def test_published_number_of_parameters():
    with torch.device("meta"):
        network = SpadeGenerator(build_semantics("onehot", 35), image_size=published_image_size(512, 2.0, "more"), upsampling="more")
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(93.05e6, rel=1e-3)  # 36 channels


def test_published_image_size():
    assert published_image_size(256) == (256, 256)
    assert published_image_size(512, 2.0, "more") == (256, 512)
    assert published_image_size(300, 1.0, "normal") == (288, 288)
    with pytest.raises(InputError, match="starts from 0x1 pixels; use a crop size of at least 256"):
        published_image_size(128, 2.0, "most")  # 0.5 rounds to 0


def test_label_maps_of_other_sizes_are_resized(label_map):
    network = small().eval()
    assert torch.equal(network(label_map), network(label_map.repeat_interleave(2, 1).repeat_interleave(2, 2)))


def test_image_sizes_out_of_reach_are_refused():
    with pytest.raises(
        InputError, match=r"image size 100x130 .* must be multiples of 64; nearest: 128x128 \(height 64 or 128, width 128 or 192\)"
    ):
        small("more", (100, 130))
    with pytest.raises(InputError, match=r"nearest: 32x64 \(height 32\)"):
        small("normal", (0, 64))
    with pytest.raises(InputError, match="unknown upsampling 'extreme'; choose one of normal, more, most"):
        small("extreme")
    with pytest.raises(InputError, match="unknown norm 'layer'"):
        small(norm="layer")


def test_instance_norm_of_one_pixel_is_refused(label_map) -> None:
    with pytest.raises(InputError, match="instance normalisation needs first features of more than one pixel"):
        small("normal", (32, 32), norm="instance")
    with pytest.raises(InputError, match="instance normalisation needs first features of more than one pixel"):
        small("normal", (32, 64), norm="instance")(label_map, size=(32, 32))


@pytest.mark.parametrize("semantics", ["onehot", "onehot_dense", "random"])
@pytest.mark.parametrize(("upsampling", "size"), [("normal", (96, 32)), ("more", (128, 64)), ("normal", (64, 64))])
def test_without_style_the_weights_make_every_size(label_map, upsampling, size, semantics):
    built = small(upsampling, size, semantics).eval()
    other = small(upsampling, (128, 256), semantics).eval()
    other.load_state_dict(built.state_dict())
    assert torch.equal(other(label_map, size=size), built(label_map))
    assert other(label_map).shape == (2, 3, 128, 256)
    with pytest.raises(InputError, match=r"image size 130x64 .* nearest: 128x64"):
        built(label_map, size=(130, 64))


def test_a_style_code_fixes_the_size(label_map):
    network = small(z_dim=6).eval()
    assert network(label_map, size=(32, 64)).shape == (2, 3, 32, 64)
    with pytest.raises(
        InputError, match=r"with a style code makes images of the size it was trained for, 32x64 .* but 64x64 was asked for"
    ):
        network(label_map, size=(64, 64))


def test_style(label_map):
    network = small(z_dim=6).eval()
    z = torch.randn(2, 6)
    assert torch.equal(network(label_map, z=z), network(label_map, z=z))
    assert not torch.equal(network(label_map), network(label_map))  # drawn from the prior
    torch.manual_seed(5)
    drawn = network(label_map)
    torch.manual_seed(5)
    assert torch.equal(drawn, network(label_map, z=torch.randn(2, 6)))
    with pytest.raises(ValueError, match=r"z has shape \(1, 6\), expected \(images, z_dim\) = \(2, 6\)"):
        network(label_map, z=z[:1])
    with pytest.raises(ValueError, match="no style input"):
        small()(label_map, z=z)


@pytest.mark.parametrize("norm", ["batch", "sync", "instance"])
def test_norms_train(label_map, norm):
    network = small(image_size=(64, 64), norm=norm)
    network(label_map).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_edges_change_the_image(label_map):
    network = small(instance_edges=True).eval()
    for parameter in network.parameters():
        parameter.data.mul_(20)
    none = torch.zeros(label_map.shape, dtype=torch.bool)
    assert not torch.equal(network(label_map, edges=none), network(label_map, edges=~none))


def test_a_shared_pyramid_gives_the_same_images(label_map):
    network = small(semantics="random").eval()
    assert torch.equal(network(label_map), network(network.semantics.pyramid(label_map)))


def test_copies_after_training_are_equal(label_map):
    network = small(semantics="random")
    network(label_map).mean().backward()
    twin = copy.deepcopy(network).eval()
    assert torch.equal(twin(label_map), network.eval()(label_map))
    assert "semantics.table" in network.state_dict()


def test_nothing_changes_the_arguments(label_map):
    before = label_map.clone()
    small()(label_map)
    assert torch.equal(before, label_map)


def test_training_is_repeatable(label_map):
    torch.manual_seed(0)
    network = small(image_size=(64, 128))
    gradients = []
    for twin in (copy.deepcopy(network), network):
        twin(label_map).square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in twin.parameters()]))
    assert torch.equal(*gradients)
