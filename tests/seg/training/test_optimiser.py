"""The parameter groups and learning rates: the paper's, and the recipe's."""

from typing import Any

import pytest
import torch

from seg.config import SegTrainConfig
from seg.losses import class_separation, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.temperature import LearnedTemperature
from seg.model import EmbeddingSegmenter, build_segmenter
from seg.training.optimiser import TEMPERATURE_FACTOR, build_optimisers, set_learning_rates
from seg.training.sphere import SphereAdam
from shared.errors import InputError

PAPER = SegTrainConfig(optimizer="sgd", learning_rate=0.01, backbone_factor=0.1, weight_decay=1e-4, warmup=0.0, class_turn=None)
RECIPE = SegTrainConfig(optimizer="adamw", learning_rate=0.002, backbone_factor=0.5, weight_decay=0.02, class_turn=3.0)


def tiny(head: str = "embedding") -> EmbeddingSegmenter:
    torch.manual_seed(0)
    return build_segmenter(head=head, backbone="tiny", num_classes=4, embedding_dim=3, width=16)  # type: ignore[return-value]


def groups_of(optimizers: dict[str, torch.optim.Optimizer]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers.values() for group in optimizer.param_groups]


def require_every_parameter_once(groups: list[dict[str, Any]], *modules: torch.nn.Module) -> None:
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for module in modules for parameter in module.parameters())


def test_groups_hold_every_parameter_once_with_the_settings_of_the_paper() -> None:
    model = tiny()
    optimizers = build_optimisers(model, PAPER)
    assert list(optimizers) == ["optimizer"] and type(optimizers["optimizer"]) is torch.optim.SGD
    groups = {group["name"]: group for group in groups_of(optimizers)}
    assert [(name, group["lr"], group["momentum"], group["power"], group["weight_decay"]) for name, group in groups.items()] == [
        ("backbone", pytest.approx(0.001), 0.9, 0.9, 1e-4),
        ("head", 0.01, 0.9, 0.9, 1e-4),
        ("class_embeddings", 0.01, 0.95, 0.95, 1e-4),
    ]
    require_every_parameter_once(list(groups.values()), model)
    assert groups["class_embeddings"]["params"] == [model.raw_class_embeddings]


def test_adamw_decays_weights_alone_and_classes_turn_by_degrees() -> None:
    model, temperature = tiny(), LearnedTemperature()
    optimizers = build_optimisers(model, RECIPE, temperature)
    assert type(optimizers["optimizer"]) is torch.optim.AdamW and type(optimizers["class_optimizer"]) is SphereAdam
    groups = groups_of(optimizers)
    require_every_parameter_once(groups, model, temperature)
    decayed = [parameter for group in groups if group.get("weight_decay") for parameter in group["params"]]
    kernels = [module.weight for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sorted(map(id, decayed)) == sorted(map(id, kernels))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {"backbone": 0.001, "head": 0.002, "temperature": TEMPERATURE_FACTOR["adamw"] * 0.002, "class_embeddings": 3.0}


def test_raw_vectors_under_adamw_have_no_decay() -> None:
    optimizers = build_optimisers(tiny(), SegTrainConfig(optimizer="adamw", class_turn=None))
    assert list(optimizers) == ["optimizer"]
    (group,) = [group for group in groups_of(optimizers) if group["name"] == "class_embeddings"]
    assert group["weight_decay"] == 0


@pytest.mark.parametrize("settings", [PAPER, RECIPE])
def test_the_baseline_has_no_class_embeddings(settings: SegTrainConfig) -> None:
    optimizers = build_optimisers(tiny("softmax"), settings)
    assert list(optimizers) == ["optimizer"] and {group["name"] for group in groups_of(optimizers)} == {"backbone", "head"}


def test_rates_are_a_function_of_the_step_with_a_floor() -> None:
    optimizers = build_optimisers(tiny(), PAPER)
    for step in (90, 0, 50):
        rates = set_learning_rates(optimizers.values(), step, 100)
    assert rates == {
        "learning_rate/backbone": pytest.approx(0.001 * 0.5**0.9),
        "learning_rate/head": pytest.approx(0.01 * 0.5**0.9),
        "learning_rate/class_embeddings": pytest.approx(0.01 * 0.5**0.95),
    }
    assert [group["lr"] for group in groups_of(optimizers)] == list(rates.values())
    assert set(set_learning_rates(optimizers.values(), 100, 100).values()) == {1e-6}


def test_rates_rise_in_a_straight_line_to_where_they_would_be() -> None:
    optimizers = build_optimisers(tiny(), RECIPE).values()
    plain = [set_learning_rates(optimizers, step, 200) for step in range(200)]
    warm = [set_learning_rates(optimizers, step, 200, warmup=0.1) for step in range(200)]
    for step, (before, after) in enumerate(zip(plain, warm)):
        assert after == {name: pytest.approx(rate * min(1, (step + 1) / 20)) for name, rate in before.items()}
    assert set_learning_rates(optimizers, 0, 3, warmup=0.1) == set_learning_rates(optimizers, 0, 3)  # less than a step is none


@pytest.mark.parametrize("settings", [PAPER, RECIPE])
def test_a_resumed_optimiser_continues_the_schedule(settings: SegTrainConfig) -> None:
    optimizers = build_optimisers(tiny(), settings)
    expected = set_learning_rates(optimizers.values(), 30, 100, settings.warmup)
    resumed = build_optimisers(tiny(), settings)
    for name, optimizer in resumed.items():
        optimizer.load_state_dict(optimizers[name].state_dict())
    assert set_learning_rates(resumed.values(), 30, 100, settings.warmup) == expected


@pytest.mark.parametrize("recipe", ["paper", "adamw"])
def test_a_few_steps_learn_four_colours(recipe: str) -> None:
    model = tiny()
    settings = {
        "paper": SegTrainConfig(optimizer="sgd", learning_rate=0.1, weight_decay=1e-4, class_turn=None),
        "adamw": SegTrainConfig(learning_rate=0.01),
    }[recipe]
    optimizers = build_optimisers(model, settings).values()
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    labels = torch.arange(32).remainder(4).view(2, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = colours[labels].permute(0, 3, 1, 2)
    losses = []
    for step in range(40):
        set_learning_rates(optimizers, step, 40, 0.0 if recipe == "paper" else settings.warmup)
        if recipe == "paper":
            loss = neighbour_cross_entropy(model(images), model.class_embeddings, labels, num_neighbours=4)
        else:
            loss = exact_cross_entropy(model(images), model.class_embeddings, labels, temperature=0.2)
        model.zero_grad()
        (loss + class_separation(model.class_embeddings)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
    assert (model.predict(images) == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 1.5}, "train.warmup is 1.5; it must be a share of the steps, 0 to 1"),
        ({"class_turn": 0.0}, "train.class_turn is 0.0; it must be above 0, or null"),
        ({"clip_norm": -1.0}, "train.clip_norm is -1.0; it must be above 0, or null"),
    ],
)
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegTrainConfig(**settings)
