"""The style encoder."""

import pytest
import torch

from shared.errors import InputError
from synth.encoder import StyleEncoder, sample_style


@pytest.mark.parametrize(("image_size", "layers"), [(16, 2), (64, 4), (256, 6)])
def test_shapes_for_any_picture(image_size, layers):
    network = StyleEncoder(image_size=image_size, width=2, z_dim=5)
    mu, logvar = network(torch.randn(2, 3, 40, 70))
    assert mu.shape == logvar.shape == (2, 5)
    assert sum(key.endswith("weight_orig") for key in network.state_dict()) == layers


def test_published_layout():
    state = StyleEncoder().state_dict()
    assert list(state) == [
        *(f"layer{layer}.0.weight_{part}" for layer in range(1, 7) for part in ("orig", "u", "v")),
        *(f"fc_{head}.{part}" for head in ("mu", "var") for part in ("weight", "bias")),
    ]
    assert [len(state[f"layer{layer}.0.weight_orig"]) for layer in range(1, 7)] == [64, 128, 256, 512, 512, 512]
    assert state["fc_mu.weight"].shape == (256, 512 * 16)


def test_sizes_that_do_not_end_at_4x4_are_refused():
    for size in (4, 100, 0):
        with pytest.raises(InputError, match=f"power of two; got {size}"):
            StyleEncoder(image_size=size)


def test_sampling():
    torch.manual_seed(0)
    mu, logvar = torch.full((20000, 1), 3.0, requires_grad=True), torch.full((20000, 1), 2 * torch.log(torch.tensor(0.5)).item())
    z = sample_style(mu, logvar)
    assert z.mean().item() == pytest.approx(3, abs=0.02)
    assert z.std().item() == pytest.approx(0.5, abs=0.02)
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones_like(mu))
