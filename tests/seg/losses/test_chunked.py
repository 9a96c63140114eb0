"""The plain-torch losses in pieces: chunks of pixels, tiles of classes, threads, memory, and what torch may put around them."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from seg.chunks import chunks_of, share_chunks
from seg.losses import chunked, exact_cross_entropy
from tests.seg.losses.loss_problems import DISTANCES, problem, value_and_gradients

CPU = torch.device("cpu")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 32 pixels, for more than 16 classes 128; then tiles of 2 classes. With neighbours, chunks of 64."""
    monkeypatch.setattr(chunked, "TILE_ELEMENTS", {"cpu": 256})
    monkeypatch.setattr(chunked, "TILE_PIXELS", {"cpu": (16, 32)})
    monkeypatch.setattr(chunked, "CHUNK_PIXELS", {"cpu": 64})
    monkeypatch.setattr(chunked, "pixels_per_chunk", lambda elements, device: 64)
    monkeypatch.setattr("seg.chunks.WORTH_A_THREAD", 16)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    with torch_threads(torch.get_num_threads()):
        yield torch.set_num_threads


# ---------------------------------------------------------------- pieces


@given(images=st.integers(1, 4), pixels=st.integers(1, 400), size=st.integers(1, 200))
def test_chunks_cover_every_pixel_once(images: int, pixels: int, size: int) -> None:
    labels = torch.empty(images, pixels, device="meta")
    counts = torch.zeros(images, pixels)
    for image, start, stop in chunks_of(labels, size):
        assert 0 < stop - start <= max(size, 16)
        counts[image, start:stop] += 1
    assert (counts == 1).all()


def test_tiles_stay_within_their_memory() -> None:
    for num_classes in (1, 19, 1284, 16_384, 16_385, 100_000):
        pixels, classes = chunked.tile_shape(num_classes, CPU)
        assert pixels % 16 == 0 and classes <= num_classes and pixels * classes <= chunked.TILE_ELEMENTS["cpu"]


@pytest.mark.usefixtures("small_pieces")
@settings(max_examples=40, deadline=None)
@given(
    num_threads=st.sampled_from([1, 3]),
    num_pixels=st.sampled_from([1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 300]),
    num_classes=st.sampled_from([1, 2, 8, 16, 17, 18, 19]),
    exact=st.booleans(),
    distance=st.sampled_from(DISTANCES),
    temperature=st.sampled_from([1e-3, 0.05]),
    seed=st.integers(0, 1000),
)
def test_pieces_equal_the_whole(
    num_threads: int, num_pixels: int, num_classes: int, exact: bool, distance: str, temperature: float, seed: int
) -> None:
    pixels, classes, labels = problem(num_pixels, num_classes, 5, seed=seed)
    labels[20:60] = -1  # so that some chunks hold nothing else
    options = {
        "num_neighbours": None if exact else min(3, num_classes),
        "distance": distance,
        "temperature": temperature,
        "scale": 1 / temperature,
    }
    whole = value_and_gradients(pixels, classes, labels, impl="reference", **options)
    with torch_threads(num_threads):
        pieces = value_and_gradients(pixels, classes, labels, impl="chunked", **options)
    for result, expected in zip(pieces, whole):
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9 / temperature)


class _LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation returns."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("num_neighbours", [8, None])
def test_no_tensor_grows_with_pixels_times_classes(set_threads: Callable[[int], None], num_neighbours: int | None) -> None:
    """20 000 classes and 6000 pixels: their product has 480 MB. A tile has 4, the class table 1.3."""
    set_threads(1)  # other threads do not report to the mode
    pixels, classes, labels = (part.float() if part.is_floating_point() else part for part in problem(6000, 20_000, 12))
    options = {} if num_neighbours is None else {"search": "torch"}
    with _LargestTensor() as largest:
        value_and_gradients(
            pixels,
            classes,
            labels,
            num_neighbours=num_neighbours,
            impl="chunked",
            **options,
        )
    assert largest.bytes <= 3 * 4 * chunked.TILE_ELEMENTS["cpu"]


# ---------------------------------------------------------------- threads


def test_shares_run_side_by_side_each_on_one_thread(set_threads: Callable[[int], None]) -> None:
    set_threads(3)
    together = threading.Barrier(3, timeout=300)

    def work(share: Any) -> tuple[int, int, int]:
        together.wait()
        return len(share), torch.get_num_threads(), threading.get_ident()

    sizes, torch_threads, threads = zip(*share_chunks(work, chunks_of(torch.empty(7, 1), 16), CPU))
    assert sizes == (2, 2, 3) and torch_threads == (1, 1, 1) and len(set(threads)) == 3
    seen: list[int] = [torch.get_num_threads()]
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [3, 3]


def test_one_thread_is_the_caller_and_a_failure_reaches_it(set_threads: Callable[[int], None]) -> None:
    def fail(share: Any) -> None:
        raise RuntimeError(f"in thread {threading.get_ident()}")

    chunks = chunks_of(torch.empty(7, 1), 16)
    for num_threads in (1, 2):
        set_threads(num_threads)
        with pytest.raises(RuntimeError, match="in thread") as caught:
            share_chunks(fail, chunks, CPU)
        assert (str(threading.get_ident()) in str(caught.value)) == (num_threads == 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.usefixtures("small_pieces")
def test_a_forked_process_makes_threads_of_its_own(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    pixels, classes, labels = problem(100, 9, 5)
    expected = exact_cross_entropy(pixels, classes, labels, impl="chunked")
    context = torch.multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(exact_cross_entropy(pixels, classes, labels, impl="chunked").item()))
    child.start()
    child.join(timeout=300)
    if child.is_alive():
        child.terminate()
    assert child.exitcode == 0 and queue.get() == expected.item()


# ---------------------------------------------------------------- what torch may put around


@pytest.mark.slow
def test_a_compiled_step_around_the_loss() -> None:
    pixels, classes, labels = problem(60, 9, 5)

    def step(pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return 2 * exact_cross_entropy(F.normalize(pixels * 3, dim=1), classes, labels, impl="chunked")

    inputs = pixels.requires_grad_(), classes.requires_grad_()
    plain, compiled = step(*inputs), torch.compile(step, backend="aot_eager")(*inputs)
    torch.testing.assert_close(compiled, plain)
    for result, expected in zip(torch.autograd.grad(compiled, inputs), torch.autograd.grad(plain, inputs)):
        torch.testing.assert_close(result, expected)


class _Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.projection = torch.nn.Parameter(torch.randn(5, 5, generator=generator, dtype=torch.float64))
        self.class_embeddings = torch.nn.Parameter(problem(1, 9, 5)[1])

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return exact_cross_entropy(features @ self.projection, self.class_embeddings, labels, impl="chunked")


def _gradients(head: torch.nn.Module, rank: int) -> list[torch.Tensor]:
    pixels, _, labels = problem(40, 9, 5, seed=rank)
    head(pixels, labels).backward()
    return [parameter.grad for parameter in head.parameters() if parameter.grad is not None]


def _train_on(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(_gradients(torch.nn.parallel.DistributedDataParallel(_Head()), rank), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.minutes
def test_distributed_gradients_are_the_mean_of_the_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_train_on, (tmp_path,), nprocs=2)
    for rank in range(2):
        for shared, first, second in zip(torch.load(tmp_path / f"{rank}.pt"), _gradients(_Head(), 0), _gradients(_Head(), 1)):
            torch.testing.assert_close(shared, (first + second) / 2)
