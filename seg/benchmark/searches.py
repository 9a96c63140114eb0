"""The contestants of the search: the K nearest classes of every pixel.

Shapes: P pixels, C classes, D embedding size, K neighbours.
"""

from functools import cache, partial

import torch

from seg.benchmark.cases import Case, device_obstacle, make_inputs
from seg.benchmark.rivals import Search, faiss_obstacle, faiss_search
from seg.chunks import full_precision_matmul, pixels_per_chunk
from seg.neighbours import nearest_classes
from seg.neighbours.search import SEARCHES
from shared.benchmark.ceilings import Work
from shared.benchmark.contest import Contestant

FAISS, OURS = "FAISS", "nearest_classes"
CHECKED_DISTANCES = 2**22  # that the check computes in float64
SAME_DISTANCE = 1e-5  # of squared distances up to 4: nearer than that, two classes count as equally near


def search_contestants(case: Case) -> list[Contestant]:
    """FAISS, two ways of plain torch, and every backend of `seg.neighbours.nearest_classes`. The first three do not settle ties."""
    device, k = torch.device(case.device), min(case.neighbours, case.classes)

    @cache
    def vectors() -> tuple[torch.Tensor, torch.Tensor]:
        pixels, classes, _ = make_inputs(case)
        return pixels.detach().movedim(1, -1).flatten(0, 2).contiguous(), classes.detach()

    def contestant(name: str, search: Search, obstacle: str = "") -> Contestant:
        return Contestant(name, lambda: partial(search, *vectors(), k), work(case, k), lambda: errors_of(search, *vectors(), k), obstacle)

    backends = [name for name in SEARCHES if name != "auto"]
    return [
        contestant(FAISS, faiss_search, faiss_obstacle(device)),
        contestant("matmul + topk", matmul_search),
        contestant("cdist + topk", cdist_search),
        *(contestant(f"{OURS} ({name})", partial(our_search, backend=name), device_obstacle(name, case)) for name in backends),
    ]


def matmul_search(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> torch.Tensor:
    """ids (P, K) by a product and a selection, in chunks."""
    bias = classes.square().sum(1) / -2
    chunks = pixels.split(pixels_per_chunk(len(classes), pixels.device))
    with full_precision_matmul(pixels.device.type):
        return torch.cat([torch.addmm(bias, chunk, classes.T).topk(k, dim=1).indices for chunk in chunks])


def cdist_search(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> torch.Tensor:
    """ids (P, K) by torch's distances and a selection, in chunks."""
    chunks = pixels.split(pixels_per_chunk(len(classes), pixels.device))
    with full_precision_matmul(pixels.device.type):
        return torch.cat([torch.cdist(chunk, classes).topk(k, dim=1, largest=False).indices for chunk in chunks])


def our_search(pixels: torch.Tensor, classes: torch.Tensor, k: int, backend: str) -> torch.Tensor:
    """ids (P, K), exact and in the order of distances."""
    ids, _ = nearest_classes(pixels, classes, k, backend=backend)
    return ids


def errors_of(search: Search, pixels: torch.Tensor, classes: torch.Tensor, k: int) -> dict[str, float]:
    """Share of the ids that are farther than the K-th nearest class in float64, on a part of the pixels."""
    part = pixels[:: max(1, len(pixels) * len(classes) // CHECKED_DISTANCES)].contiguous()
    ids = search(part, classes, k)
    differences = torch.cdist(part.double(), classes.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    farthest = differences.kthvalue(k, dim=1, keepdim=True).values
    return {"ids": float((differences.gather(1, ids) > farthest + SAME_DISTANCE).double().mean())}


def work(case: Case, k: int) -> Work:
    """A product of P·C·D multiply-adds; float32 vectors read, ids of 8 bytes written."""
    return Work(4 * case.dim * (case.pixels + case.classes) + 8 * k * case.pixels, 2 * case.pixels * case.classes * case.dim)
