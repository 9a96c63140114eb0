"""A stream of samples of any sizes becomes batches of one size each: no sample is lost, and none waits without bound."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import shared.data.batch
from shared.data.batch import Batch, collate_by_size, regroup
from shared.data.spec import Sample
from shared.errors import InputError

Size = tuple[int, int]


def sample(number: int, size: Size, *, instances: bool = False) -> Sample:
    ids = torch.full(size, number)
    return Sample(torch.full((3, *size), float(number)), ids, ids + 1 if instances else None, str(number))


def groups(sizes: list[Size], batch_size: int, *, instances: bool = False) -> list[list[Batch]]:
    """What the processes hand over: a list of batches for every `batch_size` samples."""
    samples = [sample(number, size, instances=instances) for number, size in enumerate(sizes)]
    chunks = [collate_by_size(list(chunk)) for chunk in (samples[at : at + batch_size] for at in range(0, len(samples), batch_size))]
    assert not any(isinstance(chunk, InputError) for chunk in chunks)
    return chunks  # type: ignore[return-value]


@given(
    sizes=st.lists(st.sampled_from([(2, 3), (3, 2), (4, 4), (1, 1)]), max_size=40),
    batch_size=st.integers(1, 7),
    limit=st.sampled_from([0, 20, 2**25]),
)
def test_every_sample_comes_once_with_others_of_its_size(sizes: list[Size], batch_size: int, limit: int) -> None:
    with patch.object(shared.data.batch, "WAITING_PIXELS", limit):
        batches = list(regroup(groups(sizes, batch_size, instances=True), batch_size))
    order = [int(name) for batch in batches for name in batch.names]
    assert sorted(order) == list(range(len(sizes)))
    for size in set(sizes):
        of_size = [number for number in order if sizes[number] == size]
        assert of_size == sorted(of_size)
    for batch in batches:
        assert 1 <= len(batch.names) <= batch_size
        for number, image, ids, instances in zip(batch.names, batch.images, batch.label_maps, batch.instance_maps, strict=True):  # type: ignore[arg-type]
            assert image.shape[1:] == ids.shape == instances.shape == sizes[int(number)]
            assert (image == int(number)).all() and (ids == int(number)).all() and (instances == int(number) + 1).all()


def test_batches_are_as_full_as_can_be() -> None:
    alternating = [(2, 3), (3, 2)] * 8
    assert [len(batch.names) for batch in regroup(groups(alternating, 4), 4)] == [4] * 4
    rare = [(2, 3)] * 3 + [(9, 9)] + [(2, 3)] * 5
    assert [batch.names for batch in regroup(groups(rare, 4), 4)] == [["0", "1", "2", "4"], ["5", "6", "7", "8"], ["3"]]


def test_one_size_is_handed_on_as_it_comes() -> None:
    chunks = groups([(4, 4)] * 7, 3)
    batches = list(regroup(chunks, 3))
    assert [batch.names for batch in batches] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert [batch.images.data_ptr() for batch in batches] == [chunk[0].images.data_ptr() for chunk in chunks]


def test_what_waits_is_bounded() -> None:
    """Of pictures of many sizes each comes soon after it was read, the one that has waited longest first."""
    chunks, read = groups([(1, 1 + number) for number in range(40)], 2), 0

    def reading() -> Iterator[list[Batch]]:
        nonlocal read
        for chunk in chunks:
            read += 2
            yield chunk

    with patch.object(shared.data.batch, "WAITING_PIXELS", 100):
        for expected, batch in enumerate(regroup(reading(), 2)):
            assert batch.names == [str(expected)]
            waiting = sum(1 + number for number in range(expected, read))
            assert waiting <= 100 + 39 + 40  # what may wait, and a chunk


@pytest.mark.parametrize("position", [0, 2])
def test_an_error_is_handed_on(position: int) -> None:
    samples: list[Sample | InputError] = [sample(0, (2, 2)), sample(1, (3, 3))]
    samples.insert(position, InputError("a.png holds value 9"))
    assert str(collate_by_size(samples)) == "a.png holds value 9"
