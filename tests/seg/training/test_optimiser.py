"""The parameter groups and learning rates of the paper."""

import pytest
import torch

from seg.losses import class_separation, neighbour_cross_entropy
from seg.model import EmbeddingSegmenter, build_segmenter
from seg.training.optimiser import build_optimiser, set_learning_rates


def tiny(head: str = "embedding") -> EmbeddingSegmenter:
    torch.manual_seed(0)
    return build_segmenter(head=head, backbone="tiny", num_classes=4, embedding_dim=3, width=16)  # type: ignore[return-value]


def test_groups_hold_every_parameter_once_with_the_settings_of_the_paper() -> None:
    model = tiny()
    groups = {group["name"]: group for group in build_optimiser(model, lr=0.01).param_groups}
    assert [(name, group["lr"], group["momentum"], group["power"], group["weight_decay"]) for name, group in groups.items()] == [
        ("backbone", pytest.approx(0.001), 0.9, 0.9, 1e-4),
        ("head", 0.01, 0.9, 0.9, 1e-4),
        ("class_embeddings", 0.01, 0.95, 0.95, 1e-4),
    ]
    held = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert groups["class_embeddings"]["params"] == [model.raw_class_embeddings]


def test_the_baseline_has_no_class_embeddings() -> None:
    assert [group["name"] for group in build_optimiser(tiny("softmax"), lr=0.1, backbone_factor=1.0).param_groups] == ["backbone", "head"]


def test_rates_are_a_function_of_the_step_with_a_floor() -> None:
    optimizer = build_optimiser(tiny(), lr=0.01)
    for step in (90, 0, 50):
        rates = set_learning_rates(optimizer, step, 100)
    assert rates == {
        "learning_rate/backbone": pytest.approx(0.001 * 0.5**0.9),
        "learning_rate/head": pytest.approx(0.01 * 0.5**0.9),
        "learning_rate/class_embeddings": pytest.approx(0.01 * 0.5**0.95),
    }
    assert [group["lr"] for group in optimizer.param_groups] == list(rates.values())
    assert set(set_learning_rates(optimizer, 100, 100).values()) == {1e-6}


def test_a_resumed_optimiser_continues_the_schedule() -> None:
    optimizer = build_optimiser(tiny(), lr=0.01)
    expected = set_learning_rates(optimizer, 30, 100)
    resumed = build_optimiser(tiny(), lr=0.01)
    resumed.load_state_dict(optimizer.state_dict())
    assert set_learning_rates(resumed, 30, 100) == expected


def test_a_few_steps_learn_four_colours() -> None:
    model = tiny()
    optimizer = build_optimiser(model, lr=0.1, backbone_factor=1.0)
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    labels = torch.arange(32).remainder(4).view(2, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = colours[labels].permute(0, 3, 1, 2)
    losses = []
    for step in range(40):
        set_learning_rates(optimizer, step, 40)
        loss = neighbour_cross_entropy(model(images), model.class_embeddings, labels, num_neighbours=4)
        optimizer.zero_grad()
        (loss + class_separation(model.class_embeddings)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
    assert (model.predict(images) == labels).float().mean() > 0.9
