"""One-hot conditioning factorised into class vectors: exact at full rank, the best there is below, and a report that says how good."""

import pytest
import torch
from torch import Tensor

from shared.errors import InputError
from synth.checkpoints import official_state
from synth.factorise import factorise
from synth.generator import SpadeGenerator
from synth.semantics import build_semantics

C = 6


def generator(semantics: str = "onehot", *, instance_edges: bool = False, z_dim: int | None = None) -> SpadeGenerator:
    torch.manual_seed(0)
    table = build_semantics(semantics, C, embedding_dim=4, instance_edges=instance_edges)
    network = SpadeGenerator(table, image_size=(32, 64), width=2, hidden=3, z_dim=z_dim)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network.eval()


def images(network: SpadeGenerator) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    label_map = torch.randint(-1, C, (2, 32, 64), generator=draw)
    edges = label_map > 2 if network.semantics.instance_edges else None
    z = None if network.z_dim is None else torch.randn(2, network.z_dim, generator=draw)
    with torch.no_grad():
        return network(label_map, edges=edges, z=z)


def class_matrix(network: SpadeGenerator) -> Tensor:
    """(C + 1, …): all kernels that read the one-hot map, side by side."""
    kernels = [value for key, value in official_state(network).items() if key == "fc.weight" or "mlp_shared.0.weight" in key]
    return torch.cat([kernel[:, : C + 1].transpose(0, 1).flatten(1) for kernel in kernels], 1).double()


@pytest.mark.parametrize(("instance_edges", "z_dim"), [(False, None), (True, None), (True, 5)])
def test_full_rank_is_exact(instance_edges, z_dim):
    network = generator(instance_edges=instance_edges, z_dim=z_dim)
    twin, report = factorise(network, C + 1)
    assert report.error < 1e-6 and max(report.layer_errors.values()) < 1e-6
    assert twin.semantics.table.shape == (C + 1, C + 1)
    torch.testing.assert_close(images(twin), images(network), rtol=0, atol=1e-5)


def test_error_is_that_of_the_best_approximation():
    network = generator()
    values = torch.linalg.svdvals(class_matrix(network))
    for rank in range(1, C + 2):
        twin, report = factorise(network, rank)
        expected = (values[rank:].square().sum() / values.square().sum()).sqrt().item()
        assert report.error == pytest.approx(expected, abs=1e-6)
        lost = (class_matrix(twin) - class_matrix(network)).norm() / class_matrix(network).norm()
        assert lost.item() == pytest.approx(report.error, abs=1e-6)
        assert len(report.layer_errors) == 19 and min(report.layer_errors.values()) <= report.error <= max(report.layer_errors.values())
        assert twin.semantics.width == rank


def test_low_rank_weights_are_found():
    """A generator on class vectors, seen as one-hot, has their rank."""
    network = generator("random")
    exact, report = factorise(network, 4)
    assert report.error < 1e-6
    torch.testing.assert_close(images(exact), images(network), rtol=0, atol=1e-5)
    assert factorise(network, 3)[1].error > 0.01


def test_the_table():
    network = generator()
    table = factorise(network, C + 1)[0].semantics.table
    assert table.square().sum(1).mean().item() == pytest.approx(1)
    assert table[-1].any()  # ignored pixels show something
    rows = class_matrix(network)
    ratio = torch.cdist(table.double(), table.double()) / torch.cdist(rows, rows)
    ratio = ratio[~torch.eye(C + 1, dtype=torch.bool)]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))  # distances are those of the answers


def test_ignored_pixels_that_show_nothing_go_on_showing_nothing():
    network = generator()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name == "fc.weight" or "mlp_shared.0.weight" in name:
                parameter[:, C] = 0
    for rank in (2, C + 1):
        assert not factorise(network, rank)[0].semantics.table[-1].any()


def test_the_given_generator_stays_and_the_new_one_trains():
    network = generator(instance_edges=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    twin, _ = factorise(network, 2)
    label_map = torch.zeros(2, 32, 64, dtype=torch.long)
    twin.train()(label_map, edges=label_map > 0).square().mean().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    saved = 19 * 9 * (C + 1 - 2)  # kernel columns that are gone, by output channels: 32 of fc and 3 of each of 18 layers
    lost = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in twin.parameters())
    assert lost == saved // 19 * (32 + 18 * 3)


def test_ranks_out_of_range():
    for rank in (0, C + 2):
        with pytest.raises(InputError, match=f"rank is {rank}; with 6 classes and the ignored one it must lie in 1..7"):
            factorise(generator(), rank)
