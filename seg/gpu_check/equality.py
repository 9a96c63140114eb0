"""The losses and the search against float64 on the same device, forward and backward, at odd sizes and at one that fills a card.

Shapes: N images of H×W, P pixels, C classes, D embedding size, K neighbours.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses import class_cross_entropy, class_separation, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.model import EmbeddingHead
from seg.neighbours import best_classes, nearest_classes
from seg.neighbours.triton import triton_best_classes
from shared.errors import InputError
from shared.gpu_check.checks import Absent, Check, Found, compared, relative_errors, same_bits, worst_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MOST_REFERENCE = 2**25
"""Pixels × classes × D up to which `impl="reference"` is the truth, which stores all of them; above, chunked in float64 is."""
SCALE = 64
"""Of a pixel's loss before its gradient is taken, as in training with scaled losses: float16 has no smaller numbers than 6e-8."""
GRADIENT_ROUNDING = 6e-5
"""Relative, of gradients whose products are those of two halves each, as the Triton kernels take them."""


class Size(NamedTuple):
    """C, and (N, H, W) of the label maps."""

    classes: int
    shape: tuple[int, int, int]

    def __str__(self) -> str:
        return f"C {self.classes}, {'×'.join(map(str, self.shape))}"


TINY = (Size(20, (1, 9, 10)),)
ODD = (Size(19, (3, 97, 131)), Size(1284, (1, 65, 77)), Size(10_000, (1, 31, 33)))
FULL = (Size(150, (10, 450, 450)),)


class Variant(NamedTuple):
    """One way in which a loss can be asked for. neighbours: K, or None for all classes. sharp: the largest logits that float32 can tell."""

    neighbours: int | None
    distance: str
    weighted: bool = False
    sharp: bool = False

    def __str__(self) -> str:
        kind = "exact" if self.neighbours is None else f"{self.neighbours} neighbours"
        return f"{kind}, {self.distance}{', class weights' * self.weighted}{', temperature 1e-4' * self.sharp}"

    def loss(self, impl: str, num_classes: int, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(pixels, classes, labels) → scalar."""
        choices: dict[str, Any] = {"distance": self.distance, "impl": impl, "temperature": 1e-4 if self.sharp else 0.05}
        if self.weighted:
            weights = torch.logspace(-1, 1, num_classes, device=device)
            weights[::5] = 0
            choices["class_weights"] = weights
        if self.neighbours is None:
            return partial(exact_cross_entropy, **choices)
        return partial(neighbour_cross_entropy, num_neighbours=self.neighbours, **choices)

    @property
    def rounding(self) -> float:
        """Relative error of a loss in float32: a few roundings of the largest logit of unit vectors."""
        return 1e-6 * (4e4 if self.sharp else 40.0)


VARIANTS = [Variant(neighbours, distance) for neighbours in (None, 8) for distance in ("squared", "plain")]


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """The most telling first."""
    if rehearsal:
        losses = [("triton", VARIANTS[0], "float32", 12), ("triton", VARIANTS[3], "bfloat16", 12), ("chunked", VARIANTS[0], "float32", 12)]
    else:
        losses = [(impl, variant, dtype, 12) for dtype in DTYPES for variant in VARIANTS for impl in ("triton", "chunked")]
        losses += [("triton", variant, "float32", dim) for dim in (7, 33, 64) for variant in VARIANTS]
        special = [Variant(None, "squared", weighted=True), Variant(8, "plain", weighted=True), Variant(32, "squared")]
        losses += [("triton", variant, "float32", 12) for variant in [*special, Variant(None, "squared", sharp=True)]]
    sizes = TINY if rehearsal else ODD
    backends = ["torch", "triton", "faiss"]
    found = [Check("{}, {}, {}, D {}".format(*loss), partial(check_loss, device, rehearsal, *loss)) for loss in losses]
    found += [Check(f"auto is triton, {variant}", partial(auto_is_triton, device, variant)) for variant in VARIANTS if not rehearsal]
    found += [Check(f"search, {name}, {dtype}", partial(check_search, device, name, DTYPES[dtype], rehearsal))
              for name in backends for dtype in (["float32"] if rehearsal else DTYPES)]  # fmt: skip
    found += [Check(f"best class, {name}", partial(check_best, device, name, sizes)) for name in ("torch", "triton")]
    found += [Check(f"class scores, {dtype}", partial(check_class_scores, device, DTYPES[dtype], rehearsal)) for dtype in DTYPES]
    found += [Check("separation", partial(check_separation, device, sizes))]
    found += [Check(f"head, {kind}", partial(check_head, device, neighbours)) for kind, neighbours in (("exact", None), ("neighbours", 5))]
    return [*found, Check("loss in bands", partial(check_bands, device)), Check("no valid pixel", partial(check_nothing, device))]


def problem(size: Size, dim: int, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (N, D, H, W) near the embedding of their class, classes (C, D) float32 and labels (N, H, W); a fifth is ignored."""
    generator = torch.Generator(device).manual_seed(0)
    classes = F.normalize(torch.randn(size.classes, dim, generator=generator, device=device), dim=1)
    labels = torch.randint(size.classes, size.shape, generator=generator, device=device)
    noise = torch.randn(*size.shape, dim, generator=generator, device=device) * (0.6 / dim**0.5)
    pixels = F.normalize(noise.add_(classes[labels]), dim=3).to(dtype).permute(0, 3, 1, 2).contiguous()
    labels[torch.rand(size.shape, generator=generator, device=device) < 0.2] = -1
    return pixels, classes, labels


def evaluated(loss: Callable[..., Tensor], pixels: Tensor, classes: Tensor, labels: Tensor) -> list[Tensor]:
    """Loss, and gradients by pixels and classes in float64."""
    by = pixels.detach().requires_grad_(), classes.detach().requires_grad_()
    value, scale = loss(*by, labels), scale_of(labels)
    return [value.detach().double(), *(gradient.double() / scale for gradient in torch.autograd.grad(value * scale, by))]


def scale_of(labels: Tensor) -> float:
    """A power of two, so that scaling rounds nothing: the mean over pixels makes the gradient of one small."""
    return 2.0 ** math.floor(math.log2(SCALE * labels.numel()))


def check_loss(device: torch.device, rehearsal: bool, impl: str, variant: Variant, dtype: str, dim: int) -> Found:
    """As near to float64 as plain torch in float32, or a few roundings more; Triton's the same every time."""
    full = dim == 12 and variant in VARIANTS and (dtype == "float32" or (dtype, impl) == ("bfloat16", "triton"))
    sizes = TINY if rehearsal else ODD + FULL if full else ODD
    results = []
    for size in sizes:
        if variant.neighbours is not None and variant.neighbours > size.classes:
            continue
        pixels, classes, labels = problem(size, dim, device, DTYPES[dtype])
        small = labels.numel() * size.classes * dim <= MOST_REFERENCE
        of_truth = variant.loss("reference" if small else "chunked", size.classes, device)
        truth = evaluated(of_truth, pixels.double(), classes.double(), labels)
        plain = relative_errors(evaluated(of_truth, pixels.float(), classes, labels), truth)
        ours = variant.loss(impl, size.classes, device)
        once = evaluated(ours, pixels, classes, labels)
        kept = torch.finfo(DTYPES[dtype]).eps  # of a gradient in the type of its pixels
        extra = variant.rounding, variant.rounding + GRADIENT_ROUNDING + kept, variant.rounding + GRADIENT_ROUNDING
        found = compared(("loss", "pixel gradient", "class gradient"), once, truth, [2 * a + b for a, b in zip(plain, extra)])
        again = same_bits(once, evaluated(ours, pixels, classes, labels))
        note = found.note or ("" if again or impl != "triton" else "two runs differ")
        figures = dict(found.figures) | {"plain torch's": max(plain), "repeats": "yes" if again else "no"}
        results.append((str(size), Found(figures, bool(found.equal) and (again or impl != "triton"), note)))
    return worst_of(results)


def auto_is_triton(device: torch.device, variant: Variant) -> Found:
    """Whether the kernels are taken: where their check fails, plain torch serves, and a warning says so."""
    size = ODD[0]
    inputs = problem(size, 12, device)
    auto, ours = (evaluated(variant.loss(impl, size.classes, device), *inputs) for impl in ("auto", "triton"))
    same = same_bits(auto, ours)
    return Found({"taken": "yes" if same else "no"}, same)


def check_search(device: torch.device, backend: str, dtype: torch.dtype, rehearsal: bool) -> Found:
    """Distances and their order, against all distances in float64 for a part of the pixels."""
    results = []
    for size in TINY if rehearsal else ODD + FULL:
        pixels, classes, _ = problem(size, 12, device, dtype)
        points, k = pixels.movedim(1, -1).flatten(0, 2), min(8, size.classes)
        try:
            ids, distances = nearest_classes(points, classes, k, backend=backend)
        except InputError as error:
            raise Absent(str(error)) from error
        step = max(1, len(points) * size.classes // 2**24)
        exact = torch.cdist(points[::step].double(), classes.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        nearest = exact.topk(k, dim=1, largest=False).values
        off = float((exact.gather(1, ids[::step]) - nearest).abs().max()), float((distances[::step].double() - nearest).abs().max())
        right = max(off) < 4e-6  # of squared distances up to 4
        results.append((str(size), Found({"of ids": off[0], "of distances": off[1]}, right, "" if right else "not the nearest")))
    return worst_of(results)


def check_best(device: torch.device, name: str, sizes: Sequence[Size]) -> Found:
    """The largest product, up to rounding: of two equally near classes either may come."""
    search = {"torch": best_classes, "triton": triton_best_classes}[name]
    results = []
    for size in sizes:
        pixels, classes, _ = problem(size, 12, device)
        products = torch.einsum("nds,cd->nsc", pixels.flatten(2).double(), classes.double())
        short = products.amax(2) - products.gather(2, search(pixels.flatten(2), classes)[..., None])[..., 0]
        results.append((str(size), Found({"short of the best": float(short.max())}, bool(short.max() < 4e-6))))
    return worst_of(results)


def check_class_scores(device: torch.device, dtype: torch.dtype, rehearsal: bool) -> Found:
    """The loss of the softmax baseline."""
    results = []
    for size in TINY if rehearsal else ODD[:2]:
        generator = torch.Generator(device).manual_seed(1)
        images, height, width = size.shape
        scores = (3 * torch.randn(images, size.classes, height, width, generator=generator, device=device)).to(dtype)
        _, _, labels = problem(size, 12, device)

        def found_by(given: Tensor, labels: Tensor = labels) -> list[Tensor]:
            given = given.detach().requires_grad_()
            value = class_cross_entropy(given, labels)
            scale = scale_of(labels)
            return [value.detach(), *(gradient.double() / scale for gradient in torch.autograd.grad(value * scale, given))]

        kept = 2 * torch.finfo(dtype).eps
        results.append((str(size), compared(("loss", "gradient"), found_by(scores), found_by(scores.double()), [1e-5, 1e-5 + kept])))
    return worst_of(results)


def check_separation(device: torch.device, sizes: Sequence[Size]) -> Found:
    """The regulariser and its gradient."""
    results = []
    for size in sizes:
        generator = torch.Generator(device).manual_seed(2)
        classes = F.normalize(torch.randn(size.classes, 12, generator=generator, device=device), dim=1)

        def found_by(given: Tensor) -> list[Tensor]:
            given = given.detach().requires_grad_()
            value = class_separation(given, 1.0)
            return [value.detach(), *torch.autograd.grad(value, given)]

        results.append((str(size), compared(("loss", "gradient"), found_by(classes), found_by(classes.double()), 1e-5)))
    return worst_of(results)


def check_head(device: torch.device, neighbours: int | None) -> Found:
    """The head alone, from features to a loss and its gradients, against itself in float64; and its predictions."""
    torch.manual_seed(0)
    head = EmbeddingHead(24, 30, num_neighbours=neighbours)
    features, labels = torch.randn(2, 24, 9, 13, device=device), torch.randint(-1, 30, (2, 33, 51), device=device)
    results, predicted = [], []
    for dtype, impl in ((torch.float64, "reference"), (torch.float32, "auto")):
        head.impl = impl
        head.to(device, dtype)
        given = features.to(dtype).requires_grad_()
        loss = head.loss(given, labels)
        gradients = torch.autograd.grad(loss, [given, *head.parameters()])
        results.append([loss.detach(), *gradients])
        predicted.append(head.predict(given, (33, 51)))
    truth, ours = results
    agree = float((predicted[0] == predicted[1]).double().mean())
    found = compared(["loss", "features", *(f"parameter {number}" for number in range(len(truth) - 2))], ours, truth, 5e-4)
    return Found(dict(found.figures) | {"same class": agree}, bool(found.equal) and agree > 0.999, found.note)


def check_bands(device: torch.device) -> Found:
    """A loss in bands of rows against the whole of it in float64."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 12, 17, 23, generator=generator).to(device)
    classes = F.normalize(torch.randn(40, 12, generator=generator), dim=1).to(device)
    labels = torch.randint(-1, 40, (2, 65, 89), generator=generator).to(device)
    finish = partial(F.normalize, dim=1)

    def in_bands(dtype: torch.dtype, rows: int, impl: str) -> list[Tensor]:
        by = features.to(dtype).requires_grad_(), classes.to(dtype).requires_grad_()
        loss = partial(exact_cross_entropy, impl=impl)
        value = loss_in_bands(loss, *by, label_map=labels, rows=rows, finish=finish)
        return [value.detach(), *torch.autograd.grad(value, by)]

    return compared(
        ("loss", "feature gradient", "class gradient"), in_bands(torch.float32, 16, "auto"), in_bands(torch.float64, 65, "reference"), 5e-4
    )


def check_nothing(device: torch.device) -> Found:
    """Where every pixel is ignored, loss and gradients are zero."""
    pixels, classes, labels = problem(TINY[0], 12, device)
    found = evaluated(exact_cross_entropy, pixels, classes, torch.full_like(labels, -1))
    return Found({"largest": max(float(part.abs().max()) for part in found)}, not any(bool(part.any()) for part in found))
