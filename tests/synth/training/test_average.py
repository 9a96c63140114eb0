"""Averaged weights, and statistics that belong to them."""

import copy

import torch
from torch import nn

from shared.data.batch import Batch
from synth.generator import SpadeGenerator
from synth.semantics import build_semantics
from synth.training.schedule import measure_statistics, update_average


def make_generator(seed: int) -> SpadeGenerator:
    torch.manual_seed(seed)
    return SpadeGenerator(build_semantics("onehot", 5), image_size=(32, 32), width=2, hidden=4)


def test_average_moves_towards_the_generator() -> None:
    average, generator = make_generator(0), make_generator(1)
    before = average.conv_img.weight.detach().clone()
    update_average(average, generator, decay=0.75)
    torch.testing.assert_close(average.conv_img.weight.detach(), 0.75 * before + 0.25 * generator.conv_img.weight.detach())


def test_measured_statistics_normalise_what_the_weights_make() -> None:
    """With statistics of the very batch, evaluation mode makes what training mode makes, up to the variance's n / (n − 1)."""
    average = make_generator(2)
    batch = Batch(torch.zeros(8, 3, 32, 32), torch.randint(-1, 5, (8, 32, 32)), None, ["x"] * 8)
    for norm in (module for module in average.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.running_var is not None
        norm.running_var.fill_(9.0)
    with torch.no_grad():
        wrong = average.eval()(batch.label_maps)
        measure_statistics(average, [batch] * 40, torch.device("cpu"))
        measured = average(batch.label_maps)
        expected = copy.deepcopy(average).train()(batch.label_maps)
    assert (measured - expected).abs().max() < 0.1 * (wrong - expected).abs().max()
    assert all(norm.momentum == 0.1 for norm in average.modules() if isinstance(norm, nn.BatchNorm2d))


def test_weights_move_together_to_where_each_would_move_alone() -> None:
    average, generator = make_generator(0), make_generator(1)
    alone = copy.deepcopy(average)
    update_average(average, generator, decay=0.98)
    theirs, counters = generator.state_dict(), 0
    for name, tensor in alone.state_dict().items():
        counters += not tensor.is_floating_point()
        expected = tensor.lerp(theirs[name], 1 - 0.98) if tensor.is_floating_point() else theirs[name]
        assert torch.equal(average.state_dict()[name], expected), name
    assert counters
