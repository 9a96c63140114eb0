"""Class arithmetic, and classes that come after the training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.data.spec import DatasetSpec
from shared.errors import InputError
from synth.generator import SpadeGenerator
from synth.images.class_changes import Mixture, add_table, mix, parse_mixtures, with_classes
from synth.images.generation import generate
from synth.semantics import Semantics
from synth.trained import TrainedGenerator

NAMES = ("road", "traffic light", "car")
VECTORS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 2]])


def trained(vectors: torch.Tensor | None = VECTORS) -> TrainedGenerator:
    torch.manual_seed(0)
    generator = SpadeGenerator(Semantics("table", 3, vectors), image_size=(32, 32), width=2, hidden=4).eval()
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    meta = {"class_names": list(NAMES), "label_codes": {"offset": 0, "ignore_value": 255}}
    return TrainedGenerator(generator, None, DatasetSpec("town", NAMES, np.eye(3, dtype=np.uint8)), meta)


def test_parsing() -> None:
    assert parse_mixtures("car=0.5*car+0.5*traffic light; van = .1 * car - 0.2*bus; a-b = -2*c-d") == [
        Mixture("car", [(0.5, "car"), (0.5, "traffic light")]),
        Mixture("van", [(0.1, "car"), (-0.2, "bus")]),
        Mixture("a-b", [(-2.0, "c-d")]),
    ]
    assert parse_mixtures("van=car") == [Mixture("van", [(1.0, "car")])]
    for wrong in ("car", "=car", "car=", "car=0.5*car+"):
        with pytest.raises(InputError, match="is not understood; write it like"):
            parse_mixtures(wrong)


def test_a_class_that_becomes_another_looks_like_it() -> None:
    labels = torch.randint(0, 3, (1, 32, 32), generator=torch.Generator().manual_seed(0))
    expected = generate(trained().generator, torch.where(labels == 0, 1, labels))
    changed = mix(trained(), parse_mixtures("road=traffic light"))
    assert np.array_equal(generate(changed.generator, labels), expected)
    assert not np.array_equal(generate(trained().generator, labels), expected)


def test_a_mixture_lies_between_its_parts_and_keeps_their_length() -> None:
    changed = mix(trained(), parse_mixtures("van=0.5*road+0.5*car; road=3*van"))
    assert changed.spec.class_names == (*NAMES, "van") == tuple(changed.meta["class_names"])
    vectors = changed.generator.semantics.class_vectors
    torch.testing.assert_close(vectors[3], torch.tensor([1.0, 0, 2.0]) / 5**0.5 * 1.5)
    torch.testing.assert_close(vectors[0], vectors[3])
    torch.testing.assert_close(vectors[1:3], VECTORS[1:])
    assert changed.spec.palette.shape == (4, 3) and len(changed.meta["palette"]) == 4
    new = torch.full((1, 32, 32), 3)
    assert generate(changed.generator, new).shape == (1, 32, 32, 3)
    with pytest.raises(InputError, match="label 3 is outside"):
        generate(trained().generator, new)


def test_rows_from_a_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", names=np.array(["kiosk", "car"]), vectors=np.array([[0, 3.0, 4], [2, 0, 0]]))
    changed = add_table(trained(), str(tmp_path / "rows.npz"))
    assert changed.spec.class_names == (*NAMES, "kiosk")
    expected = torch.cat([VECTORS[:2], torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8]])])
    torch.testing.assert_close(changed.generator.semantics.class_vectors, expected)


def test_the_row_of_ignored_pixels_stays() -> None:
    start = trained()
    start.generator.semantics = Semantics("table", 3, VECTORS, ignored_vector=torch.tensor([7.0, 8, 9]))
    table = with_classes(start, ["van"], torch.ones(1, 3)).generator.semantics.table
    assert table is not None and table[3:].tolist() == [[1, 1, 1], [7, 8, 9]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car=0.5*tram+0.5*car", "mix car: unknown class of town 'tram'; choose one of road, traffic light, car"),
        ("car=1*road-1*road", "mix car: nothing is left of the parts"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mix(trained(), parse_mixtures(text))


def test_more_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="semantics table have no class vectors"):
        mix(trained(None), parse_mixtures("car=road"))
    np.savez(tmp_path / "wide.npz", names=np.array(["kiosk"]), vectors=np.ones((1, 5)))
    with pytest.raises(InputError, match=r"the row of class kiosk in .*wide\.npz has 5 numbers, .* trained on class vectors of 3"):
        add_table(trained(), str(tmp_path / "wide.npz"))
    np.save(tmp_path / "bare.npy", np.ones((1, 3)))
    with pytest.raises(InputError, match="rows without names"):
        add_table(trained(), str(tmp_path / "bare.npy"))
