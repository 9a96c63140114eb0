"""The contestants of the loss: forward and backward over the same pixels.

Shapes: P pixels, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from seg.benchmark.cases import TEMPERATURE, Case, Inputs, device_obstacle, make_inputs, part_of
from seg.benchmark.rivals import Search, chunked_softmax, dense_softmax, faiss_obstacle, faiss_search, released_cross_entropy
from seg.benchmark.searches import matmul_search
from seg.losses import exact_cross_entropy, neighbour_cross_entropy
from seg.losses.cross_entropy import IMPLEMENTATIONS
from shared.benchmark.ceilings import Work
from shared.benchmark.contest import Contestant

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

DENSE, CHUNKED, RELEASED = "dense softmax", "chunked softmax", "released way"
NEIGHBOURS, EXACT = "neighbours", "exact"


def loss_contestants(case: Case) -> list[Contestant]:
    """Dense and chunked softmax, the released way, and this project's losses in every implementation there is."""
    inputs = cache(partial(make_inputs, case))
    neighbours = min(case.neighbours, case.classes)
    choices: dict[str, Any] = {"num_neighbours": neighbours, "temperature": TEMPERATURE}
    exact_reference = partial(exact_cross_entropy, temperature=TEMPERATURE, impl="reference")
    neighbour_reference = partial(neighbour_cross_entropy, **choices, impl="reference")

    def contestant(
        name: str, loss: Loss, *, over_all: bool, obstacle: str = "", predict_peak: Callable[[], int] | None = None
    ) -> Contestant:
        reference = exact_reference if over_all else neighbour_reference
        return Contestant(
            name,
            lambda: partial(loss_and_gradients, loss, inputs()),
            work_over_all(case) if over_all else work_over_neighbours(case, neighbours),
            lambda: errors_of(loss, reference, inputs()),
            obstacle,
            predict_peak,
        )

    search_name, search = released_search(torch.device(case.device))
    released = partial(released_cross_entropy, **choices, search=search)
    found = [
        contestant(DENSE, partial(dense_softmax, temperature=TEMPERATURE), over_all=True, predict_peak=partial(dense_peak, case)),
        contestant(CHUNKED, partial(chunked_softmax, temperature=TEMPERATURE), over_all=True),
        contestant(f"{RELEASED} ({search_name})", released, over_all=False),
    ]
    for impl in IMPLEMENTATIONS:
        loss, obstacle = partial(neighbour_cross_entropy, **choices, impl=impl), device_obstacle(impl, case)
        found.append(contestant(f"{NEIGHBOURS} ({impl})", loss, over_all=False, obstacle=obstacle))
    for impl in IMPLEMENTATIONS:
        loss, obstacle = partial(exact_cross_entropy, temperature=TEMPERATURE, impl=impl), device_obstacle(impl, case)
        found.append(contestant(f"{EXACT} ({impl})", loss, over_all=True, obstacle=obstacle))
    return found


def paper_contestants(case: Case) -> list[Contestant]:
    """The same without the chunked softmax, which takes minutes for millions of pixels on a CPU."""
    return [contestant for contestant in loss_contestants(case) if contestant.name != CHUNKED or case.device == "cuda"]


def dense_peak(case: Case) -> int:
    """Bytes of the logits, their softmax and its gradient, in float32."""
    return 3 * 4 * case.pixels * case.classes


def released_search(device: torch.device) -> tuple[str, Search]:
    """FAISS as in the released code, or a product and a selection where there is no FAISS for the device."""
    return ("torch search", matmul_search) if faiss_obstacle(device) else ("FAISS", faiss_search)


def loss_and_gradients(loss: Loss, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """The step that is measured: loss, gradient by the pixels, gradient by the classes."""
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, (inputs.pixels, inputs.classes))


def errors_of(loss: Loss, reference: Loss, inputs: Inputs) -> dict[str, float]:
    """Relative errors against the reference in float64, on as many pixels as that can hold."""
    part = part_of(inputs, min(max(2**22 // inputs.classes.numel(), 16), 4096))
    precise = Inputs(part.pixels.detach().double().requires_grad_(), part.classes.detach().double().requires_grad_(), part.labels)
    found, expected = loss_and_gradients(loss, part), loss_and_gradients(reference, precise)
    loss_error, *gradient_errors = (float((a.double() - b).norm() / b.norm()) for a, b in zip(found, expected))
    return {"loss": loss_error, "gradient": max(gradient_errors)}


def work_over_all(case: Case) -> Work:
    """Scores, and the gradients by pixels and by classes: three products of P·C·D multiply-adds.

    A pixel's scores are needed before and after their sum is known. A CPU's cache can hold them meanwhile; a GPU's registers cannot, so
    that each exponential is computed twice.
    """
    times = 2 if case.device == "cuda" else 1
    return Work(bytes_of(case), 6 * case.pixels * case.classes * case.dim, times * case.pixels * case.classes)


def work_over_neighbours(case: Case, neighbours: int) -> Work:
    """The search, a product of P·C·D multiply-adds, and the two gradients of K+1 candidates."""
    candidates = neighbours + 1
    flops = 2 * case.pixels * case.classes * case.dim + 4 * case.pixels * candidates * case.dim
    return Work(bytes_of(case), flops, case.pixels * candidates)


def bytes_of(case: Case) -> int:
    """Embeddings read and their gradients written, in float32, and labels of 8 bytes read."""
    return 2 * 4 * case.dim * (case.pixels + case.classes) + 8 * case.pixels
