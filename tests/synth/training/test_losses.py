"""Losses on hand-computed cases, and the schedule."""

import pytest
import torch
import torch.nn.functional as F

from synth.training.losses import GAN_MODES, discriminator_loss, feature_matching, generator_loss, kl_divergence, split_fake_real
from synth.training.schedule import learning_rate_factor, ttur_learning_rates


def predictions(*values: float) -> list[list[torch.Tensor]]:
    """One scale per value; the prediction is the last of two layers."""
    return [[torch.zeros(1), torch.full((2, 1, 2, 2), value)] for value in values]


@pytest.mark.parametrize(
    ("mode", "fake", "real", "generator"),
    [("hinge", 0.75, 0.25, 0.25), ("ls", 0.625, 0.25, 2.125), ("w", -0.25, -1.0, 0.25)],
)
def test_by_hand(mode, fake, real, generator):
    """Predictions on fakes are 0.5 and −1, on reals 0.5 and 1.5: scales are averaged."""
    on_fake, on_real = discriminator_loss(predictions(0.5, -1.0), predictions(0.5, 1.5), mode)
    assert (on_fake.item(), on_real.item()) == pytest.approx((fake, real))
    assert generator_loss(predictions(0.5, -1.0), mode).item() == pytest.approx(generator)


def test_original_is_binary_cross_entropy():
    on_fake, on_real = discriminator_loss(predictions(0.3), predictions(0.7), "original")
    logits = torch.tensor([0.3, 0.7])
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([0.0, 1.0]), reduction="none")
    torch.testing.assert_close(torch.stack([on_fake, on_real]), expected)
    confident, _ = discriminator_loss(predictions(100.0), predictions(0.0), "original")
    assert confident.item() == pytest.approx(100.0)  # no overflow


@pytest.mark.parametrize("mode", GAN_MODES)
def test_better_answers_score_better(mode):
    good = sum(discriminator_loss(predictions(-0.5), predictions(0.5), mode))
    bad = sum(discriminator_loss(predictions(0.5), predictions(-0.5), mode))
    assert good < bad
    assert generator_loss(predictions(0.5), mode) < generator_loss(predictions(-0.5), mode)


def test_feature_matching():
    fake = [[torch.ones(2, 3, requires_grad=True), torch.zeros(1)], [torch.full((4,), 3.0), torch.zeros(1)]]
    real = [[torch.full((2, 3), 3.0, requires_grad=True), torch.ones(1)], [torch.zeros(4), torch.ones(1)]]
    loss = feature_matching(fake, real)
    assert loss.item() == pytest.approx((2 + 3) / 2)  # the prediction does not count
    loss.backward()
    assert fake[0][0].grad is not None and real[0][0].grad is None


def test_split():
    fake, real = split_fake_real([[torch.arange(4.0), torch.arange(6.0)]])
    assert fake[0][0].tolist() == [0, 1] and real[0][1].tolist() == [3, 4, 5]


def test_kl_divergence():
    mu, logvar = torch.randn(3, 4), torch.randn(3, 4)
    normal = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(kl_divergence(mu, logvar), expected)
    torch.testing.assert_close(kl_divergence(mu, logvar, "mean"), expected / 3)
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0


def test_learning_rates():
    assert ttur_learning_rates(2e-4) == (1e-4, 4e-4, (0.0, 0.9))
    assert ttur_learning_rates(2e-4, ttur=False) == (2e-4, 2e-4, (0.5, 0.999))
    assert [learning_rate_factor(step, 100) for step in (0, 49, 50, 75, 100, 120)] == [1, 1, 1, 0.5, 0, 0]
    assert learning_rate_factor(99, 100, constant_part=1.0) == 1
    assert learning_rate_factor(25, 100, constant_part=0.0) == 0.75
