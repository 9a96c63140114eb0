"""Our networks against plain ones: the one-hot map as a tensor, torch's own hook-form spectral normalisation, one layer per line.

The plain networks have the published names and rules (Park et al., 2019), take the same state dict, and run beside ours in float64: over
several training forwards values, gradients, statistics and singular vectors stay equal, so a published training state continues.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from synth.checkpoints import load_official_discriminator, load_official_encoder, load_official_generator, official_state
from synth.semantics import build_semantics
from synth.training.losses import GAN_MODES, discriminator_loss, feature_matching, generator_loss, split_fake_real

WIDTH, HIDDEN, CHANNELS, Z = 2, 3, 5, 4  # channels: 4 classes and the unknown one


class PlainSpade(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.param_free_norm = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}[norm](channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(CHANNELS, HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def forward(self, x: Tensor, semantic_map: Tensor) -> Tensor:
        hidden = self.mlp_shared(F.interpolate(semantic_map, x.shape[2:], mode="nearest"))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class PlainBlock(nn.Module):
    def __init__(self, before: int, after: int, norm: str) -> None:
        super().__init__()
        middle = min(before, after)
        self.conv_0 = spectral_norm(nn.Conv2d(before, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, after, 3, padding=1))
        self.norm_0, self.norm_1 = PlainSpade(before, norm), PlainSpade(middle, norm)
        if before != after:
            self.conv_s, self.norm_s = spectral_norm(nn.Conv2d(before, after, 1, bias=False)), PlainSpade(before, norm)

    def forward(self, x: Tensor, semantic_map: Tensor) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x, semantic_map)) if hasattr(self, "conv_s") else x
        inner = self.conv_0(F.leaky_relu(self.norm_0(x, semantic_map), 0.2))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(inner, semantic_map), 0.2))


class PlainGenerator(nn.Module):
    def __init__(self, start: tuple[int, int], upsampling: str, norm: str, *, style: bool) -> None:
        super().__init__()
        self.start, self.upsampling = start, upsampling
        wide = 16 * WIDTH
        self.fc = nn.Linear(Z, wide * start[0] * start[1]) if style else nn.Conv2d(CHANNELS, wide, 3, padding=1)
        widths = {"head_0": (16, 16), "G_middle_0": (16, 16), "G_middle_1": (16, 16), "up_0": (16, 8), "up_1": (8, 4), "up_2": (4, 2)}
        widths |= {"up_3": (2, 1)} | ({"up_4": (1, 0.5)} if upsampling == "most" else {})
        for name, (before, after) in widths.items():
            self.add_module(name, PlainBlock(int(before * WIDTH), int(after * WIDTH), norm))
        self.conv_img = nn.Conv2d(WIDTH // 2 if upsampling == "most" else WIDTH, 3, 3, padding=1)

    def forward(self, semantic_map: Tensor, z: Tensor | None) -> Tensor:
        x = self.fc(F.interpolate(semantic_map, self.start, mode="nearest")) if z is None else self.fc(z).view(len(z), -1, *self.start)
        for name, block in self.named_children():
            if isinstance(block, PlainBlock):
                stays = name == "head_0" or (name == "G_middle_1" and self.upsampling == "normal")
                x = block(x if stays else F.interpolate(x, scale_factor=2), semantic_map)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


class PlainPatchDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [CHANNELS + 3, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
        for layer in range(4):
            convolution = nn.Conv2d(widths[layer], widths[layer + 1], 4, stride=1 if layer == 3 else 2, padding=2, bias=layer == 0)
            normalised = nn.Sequential(spectral_norm(convolution), nn.InstanceNorm2d(widths[layer + 1])) if layer else convolution
            self.add_module(f"model{layer}", nn.Sequential(normalised, nn.LeakyReLU(0.2)))
        self.model4 = nn.Sequential(nn.Conv2d(widths[4], 1, 4, padding=2))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]
        for layer in self.children():
            features.append(layer(features[-1]))
        return features[1:]


class PlainDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.discriminator_0, self.discriminator_1 = PlainPatchDiscriminator(), PlainPatchDiscriminator()

    def forward(self, semantic_map: Tensor, fake: Tensor, real: Tensor) -> list[list[Tensor]]:
        x = torch.cat([torch.cat([semantic_map, images], 1) for images in (fake, real)])
        return [self.discriminator_0(x), self.discriminator_1(F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False))]


class PlainEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(WIDTH * multiple for multiple in (1, 2, 4, 8, 8, 8))]
        for layer in range(6):
            convolution = spectral_norm(nn.Conv2d(widths[layer], widths[layer + 1], 3, stride=2, padding=1, bias=False))
            self.add_module(f"layer{layer + 1}", nn.Sequential(convolution, nn.InstanceNorm2d(widths[layer + 1])))
        self.fc_mu, self.fc_var = nn.Linear(8 * WIDTH * 16, Z), nn.Linear(8 * WIDTH * 16, Z)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(images, (256, 256), mode="bilinear")
        for layer in range(1, 7):
            x = F.leaky_relu(self.get_submodule(f"layer{layer}")(x), 0.2)
        return self.fc_mu(x.flatten(1)), self.fc_var(x.flatten(1))


def with_statistics(network: nn.Module) -> nn.Module:
    """Weights of a natural scale, and running statistics that are not the initial ones."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.2)
    for name, buffer in network.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    return network


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}


def label_maps(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(N, H, W) with ignored pixels, and the one-hot map (N, 5, H, W) in float64."""
    blocks = torch.randint(-1, CHANNELS - 1, (2, 1, size[0] // 8, size[1] // 8)).double()
    labels = F.interpolate(blocks, size, mode="nearest")[:, 0].long()
    return labels, F.one_hot(labels % CHANNELS, CHANNELS).permute(0, 3, 1, 2).double()


def assert_same(mine: Tensor, plain: Tensor) -> None:
    torch.testing.assert_close(mine, plain, rtol=1e-7, atol=1e-9)


def assert_same_state(ours: nn.Module, plain: nn.Module) -> None:
    """Parameters, statistics and singular vectors, under the published names."""
    state = official_state(ours)
    assert state.keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert_same(state[key], value)


def descend(networks: list[nn.Module], losses: list[Tensor]) -> None:
    """The same gradient step for both; the gradients meet in the weights after it."""
    for network, loss in zip(networks, losses):
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 1e-3 * parameter.grad


@pytest.mark.parametrize(
    ("upsampling", "size", "norm", "style"),
    [
        ("normal", (64, 128), "batch", False),
        ("normal", (32, 64), "instance", True),
        ("more", (64, 128), "batch", True),
        ("more", (64, 128), "instance", False),
        ("most", (128, 256), "batch", False),
    ],
)
def test_generator(upsampling, size, norm, style):
    torch.manual_seed(0)
    factor = {"normal": 32, "more": 64, "most": 128}[upsampling]
    plain = with_statistics(PlainGenerator((size[0] // factor, size[1] // factor), upsampling, norm, style=style))
    ours = load_official_generator(copied(plain), crop_size=size[1], aspect_ratio=2.0, upsampling=upsampling).double()
    plain.double()
    labels, semantic_map = label_maps(size)
    z = torch.randn(2, Z, dtype=torch.float64) if style else None
    assert_same(ours(labels, z=z), plain.eval()(semantic_map, z))
    target = torch.rand(2, 3, *size, dtype=torch.float64)
    for _ in range(2):
        made, expected = ours.train()(labels, z=z), plain.train()(semantic_map, z)
        assert_same(made, expected)
        descend([ours, plain], [(images - target).square().sum() for images in (made, expected)])
        assert_same_state(ours, plain)


@pytest.mark.parametrize("mode", GAN_MODES)
def test_discriminator_and_losses(mode):
    torch.manual_seed(0)
    plain = with_statistics(PlainDiscriminator())
    ours = load_official_discriminator(copied(plain)).train()
    labels, semantic_map = label_maps((32, 64))
    pyramid = build_semantics("onehot", CHANNELS - 1).pyramid(labels)
    for _ in range(3):
        fake, real = torch.rand(2, 2, 3, 32, 64) * 2 - 1
        features = plain.train()(semantic_map.float(), fake, real)
        answers = ours(pyramid, torch.cat([fake, real]))
        for ours_at_scale, plain_at_scale in zip(answers, features):
            torch.testing.assert_close(ours_at_scale, plain_at_scale, rtol=1e-5, atol=2e-5)
        losses = []
        for fakes, reals in (split_fake_real(answers), split_fake_real(features)):
            losses.append(sum(discriminator_loss(fakes, reals, mode)) + generator_loss(fakes, mode) + feature_matching(fakes, reals))
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
        descend([ours, plain], losses)
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-5)


def test_style_encoder():
    torch.manual_seed(0)
    plain = with_statistics(PlainEncoder())
    ours = load_official_encoder(copied(plain)).double()
    plain.double()
    for training in (False, True, True):
        images = torch.rand(2, 3, 48, 80, dtype=torch.float64) * 2 - 1
        made, expected = ours.train(training)(images), plain.train(training)(images)
        for mine, theirs in zip(made, expected):
            assert_same(mine, theirs)
        descend([ours, plain], [mu.square().sum() + logvar.sum() for mu, logvar in (made, expected)])
        assert_same_state(ours, plain)
