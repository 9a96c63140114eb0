"""OASIS: its losses in closed form, the embedding form against the dense one, the discriminator's shapes and refusals."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from shared.backbone import LITE0, build_backbone
from shared.encoder_file import save_encoder
from shared.errors import InputError
from synth.config import DiscriminatorConfig, LossConfig
from synth.oasis import losses as class_scores
from synth.oasis.discriminator import SegmentationDiscriminator
from synth.oasis.losses import Verdict, class_balance, count_pixels, label_mix, label_mix_loss, loss_on_fake, loss_on_real, near_classes
from synth.semantics import Semantics
from synth.training.adversaries import SegmentationAdversary
from synth.training.step import frozen

LABELS = torch.tensor([[[0, 0, 0], [0, 2, -1]], [[0, 2, -1], [-1, -1, -1]]])  # 12 pixels: five 0, two 2, five ignored; class 1 is absent


def random_labels(num_classes: int = 5, size: tuple[int, int, int] = (2, 16, 32)) -> torch.Tensor:
    return torch.randint(-1, num_classes, size, generator=torch.Generator().manual_seed(1))


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_class_balance_by_hand() -> None:
    weights = class_balance(LABELS, count_pixels([LABELS], 3))
    assert weights[LABELS == 0].tolist() == pytest.approx([12 / (2 * 5)] * 5)
    assert weights[LABELS == 2].tolist() == pytest.approx([12 / (2 * 2)] * 2)
    assert (weights[LABELS == -1] == 0).all()
    nothing = torch.full((1, 2, 2), -1)
    assert (class_balance(nothing, count_pixels([nothing], 3)) == 0).all()


def test_balanced_loss_is_the_mean_over_classes_of_their_means() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3)
    each = F.cross_entropy(logits, LABELS, reduction="none", ignore_index=-1)
    expected = torch.stack([each[LABELS == 0].mean(), each[LABELS == 2].mean()]).mean()
    torch.testing.assert_close(loss_on_real(Verdict(logits), LABELS, class_balance(LABELS, count_pixels([LABELS], 3))), expected)


def test_a_discriminator_that_knows_nothing() -> None:
    """Equal scores: log(N + 1) on fakes, on ignored pixels too, and on reals, whatever the classes' sizes."""
    verdict = Verdict(torch.zeros(2, 4, 2, 3))
    assert loss_on_fake(verdict).item() == pytest.approx(math.log(4))
    assert loss_on_real(verdict, LABELS, class_balance(LABELS, count_pixels([LABELS], 3))).item() == pytest.approx(math.log(4))


def test_fake_is_the_last_score() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 2] = 50
    assert loss_on_fake(Verdict(logits)).item() == pytest.approx(0, abs=1e-6)
    assert loss_on_fake(Verdict(-logits)).item() == pytest.approx(50 + math.log(2))


def test_label_mix_draws_every_class_alike_and_independently() -> None:
    """The published loop gives class 0 a share of 0.26, and never real when class 1 is fake."""
    torch.manual_seed(0)
    label_map = torch.tensor([[[0, 1, 2, 3, -1]]])
    draws = torch.stack([label_mix(label_map, 4)[0, 0, 0] for _ in range(4000)]).float()
    assert draws.mean(0).tolist() == pytest.approx([0.5] * 5, abs=0.03)
    together = draws.T @ draws / len(draws)
    assert together[~torch.eye(5, dtype=torch.bool)].tolist() == pytest.approx([0.25] * 20, abs=0.03)
    labels = random_labels()
    mask = label_mix(labels, 5)[:, 0]
    assert all(len(mask[labels == label].unique()) == 1 for label in labels.unique())


def test_label_mix_loss_by_hand() -> None:
    fake, real = Verdict(torch.zeros(1, 2, 1, 2)), Verdict(torch.ones(1, 2, 1, 2))
    mask = torch.tensor([[[[True, False]]]])
    mixture = torch.tensor([1.0, 0.0]).expand(1, 2, 1, 2)
    assert label_mix_loss(fake, real, Verdict(mixture), mask).item() == 0
    assert label_mix_loss(fake, real, Verdict(mixture + torch.tensor([0.0, 3.0])), mask).item() == pytest.approx(9 / 2)


# ---- the embedding form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [2**20, 256])
def test_streamed_scores_equal_dense_scores(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_scores, "TILE_ELEMENTS", {"cpu": tile})
    monkeypatch.setattr(class_scores, "FEWEST_PIXELS", 7)  # the last chunk of an image is shorter
    torch.manual_seed(0)
    pixels, rows = (3 * torch.randn(2, 6, 16, 32)).requires_grad_(), torch.randn(6, 6).requires_grad_()
    labels, other = random_labels(), torch.randn(2, 6, 16, 32)
    streamed, dense = Verdict(pixels, rows), Verdict(torch.einsum("kd,ndhw->nkhw", rows, pixels))
    dense_other = torch.einsum("kd,ndhw->nkhw", rows, other)
    weights = class_balance(labels, count_pixels([labels], 5))
    for mine, theirs in (
        (loss_on_real(streamed, labels, weights), loss_on_real(dense, labels, weights)),
        (loss_on_fake(streamed), loss_on_fake(dense)),
        (streamed.squared_difference(other), dense.squared_difference(dense_other)),
    ):
        torch.testing.assert_close(mine, theirs)
        gradients = [torch.autograd.grad(2 * loss, (pixels, rows), retain_graph=True) for loss in (mine, theirs)]
        for actual, expected in zip(*gradients):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pixels, rows, labels = torch.randn(2, 6, 16, 32).to(dtype).requires_grad_(), torch.randn(6, 6), random_labels()
    whole = pixels.detach().float().requires_grad_()
    for values in (pixels, whole):
        (1000 * loss_on_real(Verdict(values, rows), labels, class_balance(labels, count_pixels([labels], 5)))).backward()
    assert pixels.grad is not None and whole.grad is not None
    torch.testing.assert_close(pixels.grad, whole.grad.to(dtype))


def test_with_the_identity_as_table_the_embedding_form_is_the_dense_form() -> None:
    """All terms of both networks, and their gradients, for networks with the same weights."""
    num_classes, labels = 5, random_labels()
    torch.manual_seed(0)
    dense = SegmentationDiscriminator(num_classes=num_classes, width=4, depth=2)
    embedding = SegmentationDiscriminator(embedding_dim=num_classes, width=4, depth=2)
    embedding.load_state_dict(dense.state_dict() | {"fake": embedding.fake})
    identity = Semantics("identity", num_classes, torch.eye(num_classes))
    fakes, reals = torch.rand(2, 2, 3, 16, 32) * 2 - 1
    results = []
    for network, table in ((dense, None), (embedding, identity)):
        made = fakes.clone().requires_grad_()
        adversary = SegmentationAdversary(LossConfig(), num_classes, table)
        adversary.begin([labels])
        torch.manual_seed(3)  # of the mixture
        with frozen(network):
            generator = adversary.generator_terms(network, labels, None, made, reals)
            of_images = torch.autograd.grad(sum(generator.values()), made)
        discriminator = adversary.discriminator_terms(network, labels, None, made, reals)
        shared = [parameter for name, parameter in network.named_parameters() if name != "fake"]
        of_weights = torch.autograd.grad(sum(discriminator.values()), shared)
        results.append([*generator.values(), *discriminator.values(), *of_images, *of_weights])
    assert len(discriminator) == 3
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-6)


def test_near_classes_are_those_that_occur_and_their_nearest() -> None:
    angles = torch.tensor([0.0, 10, 30, 90, 100, 180]).deg2rad()
    rows = torch.cat([torch.stack([angles.cos(), angles.sin(), torch.zeros(6)], 1), torch.tensor([[0.0, 0, 1]])])
    labels = torch.tensor([[[0, -1, 3, 3]]])
    assert near_classes(count_pixels([labels], 6), rows, 0).tolist() == [0, 3, 6]
    assert near_classes(count_pixels([labels], 6), rows, 1).tolist() == [0, 1, 3, 4, 6]
    assert near_classes(count_pixels([labels], 6), rows, 99).tolist() == list(range(7))
    assert near_classes(count_pixels([torch.full((1, 2, 2), -1)], 6), rows, 2).tolist() == [6]


def test_the_loss_among_near_classes() -> None:
    """With all classes near it is the exact one, with few it is the cross-entropy over these."""
    labels = random_labels(6)
    table = Semantics("random", 6, F.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0))))
    network = SegmentationDiscriminator(embedding_dim=3, width=4, depth=2).eval()
    images = torch.rand(2, 2, 3, 16, 32)

    def terms(num_neighbours: int | None, label_map: torch.Tensor) -> list[torch.Tensor]:
        adversary = SegmentationAdversary(LossConfig(), 6, table, num_neighbours)
        adversary.begin([label_map])
        torch.manual_seed(0)
        judged = adversary.discriminator_terms(network, label_map, None, *images)
        return [*judged.values(), *adversary.generator_terms(network, label_map, None, *images).values()]

    for near, exact in zip(terms(5, labels), terms(None, labels)):
        torch.testing.assert_close(near, exact)
    few = torch.where(labels == 4, 4, torch.where(labels < 0, -1, 1))
    verdict = network(images[0], table.class_vectors)
    scores = torch.einsum("kd,ndhw->nkhw", verdict.rows[[1, 4, 6]], verdict.pixels)
    targets = torch.where(few == 4, 1, 0)
    expected = (F.cross_entropy(scores, targets, reduction="none") * class_balance(few, count_pixels([few], 6))).mean()
    torch.testing.assert_close(terms(0, few)[-1], expected)


def test_nothing_of_pixels_times_classes_is_kept() -> None:
    num_classes, size = 3000, (8, 16)
    table = Semantics("random", num_classes, F.normalize(torch.randn(num_classes, 6)))
    network = SegmentationDiscriminator(embedding_dim=6, width=2, depth=2)
    adversary, kept = SegmentationAdversary(LossConfig(), num_classes, table), []
    labels = random_labels(num_classes, (2, *size))
    adversary.begin([labels])
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        sum(adversary.discriminator_terms(network, labels, None, *torch.rand(2, 2, 3, *size)).values()).backward()
    assert kept and max(kept) <= (num_classes + 1) * 7  # the rows: the table and fake
    assert network.fake is not None and network.fake.grad is not None and network.fake.grad.abs().sum() > 0


def test_classes_and_fake_keep_their_place_and_length() -> None:
    network = SegmentationDiscriminator(embedding_dim=3, temperature=0.5, width=2, depth=1)
    rows = network.rows(torch.tensor([[3.0, 0, 0], [0, 0.1, 0]]))
    torch.testing.assert_close(rows, 2 * torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    with pytest.raises(ValueError, match=r"class embeddings \(C, 3\) were expected, got \(2, 4\)"):
        network(torch.zeros(1, 3, 8, 8), torch.ones(2, 4))


# ---- the network -----------------------------------------------------------------------------------------------------


def test_published_number_of_parameters() -> None:
    network = SegmentationDiscriminator(num_classes=34)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(22.3e6, rel=0.005)


@pytest.mark.parametrize("size", [(32, 32), (36, 44)])
def test_a_score_per_pixel(size: tuple[int, int]) -> None:
    assert SegmentationDiscriminator(num_classes=4, width=2, depth=3)(torch.zeros(2, 3, *size)).pixels.shape == (2, 5, *size)


@pytest.mark.parametrize("encoder", ["encoder.safetensors", "efficientnet_lite0"])
def test_a_frozen_encoder_learns_nothing_and_lets_gradients_pass(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("tiny")
    save_encoder(tmp_path / "encoder.safetensors", backbone, {"backbone": "tiny", "output_stride": 16, "dataset": "town"})
    network = SegmentationDiscriminator(num_classes=4, width=4, encoder=encoder if encoder == LITE0 else tmp_path / encoder).train()
    assert not any(module.training for module in network.down.encoder.modules())
    images = torch.randn(2, 3, 32, 64, requires_grad=True)
    before = {name: value.clone() for name, value in network.down.encoder.state_dict().items()}
    loss_on_fake(network(images)).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.down.encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.down.encoder.state_dict().items())
    with frozen(network):
        pass
    assert not any(parameter.requires_grad for parameter in network.down.encoder.parameters())
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"discriminator\.num_neighbours is -1"):
        DiscriminatorConfig("oasis_embedding", num_neighbours=-1)
    with pytest.raises(InputError, match="depth is 7; it must be 1 to 6"):
        SegmentationDiscriminator(num_classes=4, depth=7)
    with pytest.raises(InputError, match="temperature is 0"):
        SegmentationDiscriminator(embedding_dim=4, temperature=0, width=2)
    with pytest.raises(InputError, match=r"images of 16x32 cannot be halved 5 times; set discriminator\.depth lower"):
        SegmentationDiscriminator(num_classes=4, width=2, depth=5)(torch.zeros(1, 3, 16, 32))
    with pytest.raises(InputError, match="semantics onehot have no class vectors"):
        _ = Semantics("onehot", 4, None).class_vectors


@pytest.mark.minutes
def test_compiled_it_is_the_same_up_to_rounding() -> None:
    torch.manual_seed(0)
    plain, table, images = SegmentationDiscriminator(embedding_dim=6, width=8, depth=3), torch.randn(9, 6), torch.randn(2, 3, 32, 64)
    for _ in range(20):
        plain(images, table)  # the spectral norms converge
    compiled = copy.deepcopy(plain)
    compiled.compile()
    results = []
    for network in (plain, compiled):
        loss_on_fake(network(images, table)).backward()
        results.append([network(images, table).pixels, *(parameter.grad for parameter in network.parameters()), *network.buffers()])
    for expected, actual in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
