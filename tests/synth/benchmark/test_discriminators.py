"""The step with each discriminator: that it runs, how many parameters it has, and the largest batch by hand."""

import pytest
import torch

from shared.benchmark.contest import Result
from shared.benchmark.timing import Timing
from shared.data.config import DataConfig
from synth.benchmark.cases import Case, save_label_maps
from synth.benchmark.discriminators import (
    OUR_PAIR,
    PAIRS,
    PLAIN,
    batch_table,
    discriminator_contestants,
    discriminator_parameters,
    option_contestants,
)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp("maps") / "maps.npy"
    save_label_maps(DataConfig(), 2, path)
    return Case("discriminators", 40, 2, 64, 64, channels=2, hidden=4, dim=4, device="cpu", threads=1, seed=0, maps=str(path))


def test_every_pair_makes_its_step(case: Case) -> None:
    terms = {}
    for contestant in discriminator_contestants(case):
        terms[contestant.name] = contestant.prepare()()
        assert all(value.isfinite() for value in terms[contestant.name].values())
    assert terms.keys() == PAIRS.keys()
    assert [("discriminator/label_mix" in found) for found in terms.values()] == [False, False, True, True, True]


def test_parameters_grow_with_classes_but_for_ours(case: Case) -> None:
    for name in PAIRS:
        few, many = (discriminator_parameters(Case(**{**vars(case), "classes": count}), name) for count in (40, 400))
        assert (few == many) == ("embedding OASIS" in name)


def result(classes: int, seconds: float, peak: int) -> Result:
    return Result("discriminators", {"classes": classes, "images": 4}, OUR_PAIR, Timing(seconds, 0.0, seconds, 1), peak)


def test_the_largest_batch_by_hand() -> None:
    """Of 10 000 bytes 100 parameters hold 1600; a step of 4 images takes 400 for gradients and 4 · 250 for the images."""
    table = batch_table([result(19, 1, 1400), result(40, 1, 2400)], {(OUR_PAIR, 19): 100, (OUR_PAIR, 40): 100}, memory=10_000)
    assert table.rows == [[OUR_PAIR, str(8400 // 250), str(8400 // 500), ""]]
    assert batch_table([], {}).rows == []


def test_options_compute_the_same(case: Case) -> None:
    terms = {contestant.name: contestant.prepare() for contestant in option_contestants(case) if contestant.name != "compile"}
    torch.manual_seed(0)
    expected = terms[PLAIN]()
    for name, tolerance in (("recompute", 1e-6), ("channels_last", 1e-4), ("precision bf16", 0.1)):
        torch.manual_seed(0)
        for term, value in terms[name]().items():
            torch.testing.assert_close(value, expected[term], rtol=tolerance, atol=tolerance, msg=f"{name}: {term}")
