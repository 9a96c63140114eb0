"""Bags, sweeps, the gathered convolution and the networks made of them against float64 on the same device, forward and backward.

Letters: N images, C classes, P pixels, U rows, O channels.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.gpu_check.checks import Check, Found, compared, same_bits, worst_of
from synth.discriminator import MultiscaleDiscriminator
from synth.generator import SpadeGenerator
from synth.kernels.bags import Bags, torch_bag_sums
from synth.kernels.modulation import modulate
from synth.kernels.rows import Rows, sum_rows
from synth.kernels.sweeps import TorchSweeps
from synth.networks.spade import NORMS, Spade
from synth.oasis.discriminator import SegmentationDiscriminator
from synth.oasis.losses import class_balance, count_pixels, loss_on_fake, loss_on_real
from synth.semantics import build_semantics
from synth.semantics.build import Semantics
from synth.semantics.layout import DenseLayout, Layout

ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Relative, in the Euclidean norm, of what is computed in float32 and kept in a type."""
AUTOCAST = {torch.float32: 3e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""The same of a layer or a network under autocast."""
FLIPPED = {torch.float32: 1e-3, torch.float16: 8e-2, torch.bfloat16: 8e-2}
"""The same of gradients through an activation, where a few numbers near 0 have another sign."""
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def checks_of(device: torch.device, rehearsal: bool) -> list[Check]:
    """Kernels first, then what is made of them."""
    types = list(NAMES)
    found = []
    for dtype in types:
        for weighted in (False, True):
            title = f"sums over bags, {NAMES[dtype]}{', weighted' * weighted}"
            found.append(Check(title, partial(check_bag_sums, device, dtype, weighted, rehearsal)))
    found += [Check(f"sweeps, {NAMES[dtype]}", partial(check_sweeps, device, dtype, rehearsal)) for dtype in types]
    found += [Check(f"sum of rows, {NAMES[dtype]}", partial(check_sum_rows, device, dtype, rehearsal)) for dtype in types]
    kinds = [("batch", True), ("batch", False), ("instance", True), ("none", True)]
    for dtype in types:
        for norm, training in kinds[:1] if rehearsal else kinds:
            title = f"modulation, {norm}{'' if training else ', evaluation'}, {NAMES[dtype]}"
            found.append(Check(title, partial(check_modulation, device, dtype, norm, training, rehearsal)))
    for name, geometry, edges in (("onehot", (3, 1, 1), False), ("onehot", (4, 2, 2), True), ("random", (3, 1, 1), False)):
        title = f"gathered convolution, {name}, {geometry[0]}×{geometry[0]}, stride {geometry[1]}{', edges' * edges}"
        found.append(Check(title, partial(check_convolution, device, name, geometry, edges, rehearsal)))
    found += [Check(f"SPADE layer, {NAMES[dtype]}", partial(check_layer, device, dtype, rehearsal)) for dtype in types]
    for name in ("onehot", "random"):
        found += [Check(f"generator, {name}, {NAMES[dtype]}", partial(check_generator, device, name, dtype, rehearsal)) for dtype in types]
    found.append(Check("multi-scale discriminator", partial(check_multiscale, device)))
    found += [Check(f"segmentation discriminator, {kind}", partial(check_segmenting, device, kind)) for kind in ("scores", "vectors")]
    return found


def noise(device: torch.device, *shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that follow from the seed."""
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def label_maps(device: torch.device, num_classes: int, *size: int) -> Tensor:
    """(N, H, W): blobs of a class, −1 among them, with single pixels of others."""
    generator = torch.Generator().manual_seed(0)
    images, height, width = size
    coarse = torch.randint(-1, num_classes, (images, 1, max(2, height // 16), max(2, width // 16)), generator=generator)
    labels = F.interpolate(coarse.float(), (height, width), mode="nearest")[:, 0].long()
    other = torch.rand(labels.shape, generator=generator) < 0.02
    labels[other] = torch.randint(-1, num_classes, (int(other.sum()),), generator=generator)
    return labels.to(device)


# --- Kernels ----------------------------------------------------------------------------------------------------------------


def bags_of(device: torch.device, lengths: Tensor, num_rows: int, weighted: bool) -> Bags:
    """Bags of so many random rows."""
    generator = torch.Generator().manual_seed(1)
    indices = torch.randint(0, num_rows, (int(lengths.sum()),), generator=generator)
    weights = torch.rand(len(indices), generator=generator).to(device) if weighted else None
    return Bags(indices.to(device), (lengths.cumsum(0) - lengths).to(device), num_rows, weights)


def check_bag_sums(device: torch.device, dtype: torch.dtype, weighted: bool, rehearsal: bool) -> Found:
    """Triton's kernel: bags of any length, rows of any width; the same every time."""
    from synth.kernels.triton_bags import triton_bag_sums

    generator = torch.Generator().manual_seed(2)
    mixed = torch.randint(0, 12, (37,), generator=generator)
    mixed[5] = 700 if not rehearsal else 30
    lengths = [(mixed, 11, width) for width in ([40] if rehearsal else [1, 40, 130, 256])]
    if not rehearsal:
        lengths += [
            (torch.full((2**17,), 9), 5000, 128),
            (torch.ones(2**19, dtype=torch.int64), 30_000, 512),
            (torch.zeros(3).long(), 4, 8),
        ]
    results = []
    for counts, num_rows, width in lengths:
        bags, rows = bags_of(device, counts, num_rows, weighted), noise(device, num_rows, width).to(dtype)
        truth = torch_bag_sums(rows.double(), bags.indices, bags.offsets, bags.weights)
        once, again = (triton_bag_sums(rows, bags.indices, bags.offsets, bags.weights) for _ in range(2))
        found = compared(["sums"], [once], [truth], ROUNDING[dtype])
        results.append((f"{len(counts)} bags, width {width}", repeated(found, [once], [again])))
    return worst_of(results)


def repeated(found: Found, once: Sequence[Tensor], again: Sequence[Tensor]) -> Found:
    """The result, which does not hold where a second run gave other bits."""
    same = same_bits(once, again)
    figures = dict(found.figures) | {"repeats": "yes" if same else "no"}
    return Found(figures, bool(found.equal) and same, found.note or ("" if same else "two runs differ"))


def features(
    device: torch.device, size: tuple[int, int, int, int], num_rows: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Bags, Tensor]:
    """x, rows, which row each pixel has (one row is had by nobody, one by most), and the upstream gradient."""
    images, channels, height, width = size
    generator = torch.Generator().manual_seed(3)
    numbers = torch.randint(0, num_rows - 1, (images * height * width,), generator=generator)
    numbers[torch.rand(len(numbers), generator=generator) < 0.5] = 0
    bags = Bags(numbers.to(device), torch.arange(len(numbers), device=device), num_rows)
    x, upstream = (1 + 2 * noise(device, *size, seed=4)).to(dtype), noise(device, *size, seed=5).to(dtype)
    return x, noise(device, num_rows, 2 * channels, seed=6).to(dtype), bags, upstream


SMALL = ((1, 3, 5, 4), (2, 40, 9, 8))
LARGE = ((3, 70, 61, 67), (4, 64, 256, 512), (1, 1024, 8, 16))


def check_sweeps(device: torch.device, dtype: torch.dtype, rehearsal: bool) -> Found:
    """Triton's sweeps over the pixels against plain torch in float64; the same every time."""
    from synth.kernels.triton_sweeps import TritonSweeps

    results = []
    for size in SMALL[1:] if rehearsal else SMALL + LARGE:
        x, rows, bags, d = features(device, size, 6, dtype)
        x, d = (part.permute(0, 2, 3, 1).reshape(-1, size[1]).contiguous() for part in (x, d))
        a, b, *means = noise(device, 4, size[1], seed=7)
        y = TorchSweeps().apply(x, a, b, rows, bags.indices, 0.2)

        def swept(sweeps: object, cast: Callable[[Tensor], Tensor]) -> list[Tensor]:
            given, scale, of, upstream, result = (cast(part) for part in (x, a, b, d, y))  # noqa: B023
            table, index, first, second = cast(rows), bags.indices, cast(means[0]), cast(means[1])  # noqa: B023
            return [
                *sweeps.moments(given),  # type: ignore[attr-defined]
                sweeps.apply(given, scale, of, table, index, 0.2),  # type: ignore[attr-defined]
                sweeps.row_gradients(given, scale, of, result, upstream, 0.2, bags),  # type: ignore[attr-defined]  # noqa: B023
                sweeps.input_gradient(given, scale, of, result, upstream, 0.2, table, index, (first, second)),  # type: ignore[attr-defined]
            ]

        truth = swept(TorchSweeps(), Tensor.double)
        once, again = (swept(TritonSweeps(), lambda part: part) for _ in range(2))
        moments = 1e-5 if device.type == "cuda" else ROUNDING[dtype]  # torch's on a CPU are in the type of the features
        limits = [moments, moments, ROUNDING[dtype], 3e-5, ROUNDING[dtype]]
        found = compared(["mean", "variance", "result", "row gradient", "input gradient"], once, truth, limits)
        results.append((f"{'×'.join(map(str, size))}", repeated(found, once, again)))
    return worst_of(results)


def check_sum_rows(device: torch.device, dtype: torch.dtype, rehearsal: bool) -> Found:
    """As the networks call it, and its gradient: rows that no bag uses, and one that more use than a segment holds."""
    results = []
    for num_bags, num_rows, width in [(43, 7, 20)] if rehearsal else [(43, 7, 20), (2**17, 3000, 128)]:
        lengths = torch.full((num_bags,), 9)
        lengths[3:5] = torch.tensor([600, 0])
        bags = bags_of(device, lengths, num_rows - 1, False)
        bags = Bags(bags.indices, bags.offsets, num_rows)
        rows, upstream = noise(device, num_rows, width).to(dtype), noise(device, num_bags, width, seed=2).to(dtype)
        bag_of_entry = torch.repeat_interleave(lengths).to(device)
        zeros = torch.zeros(num_bags, width, dtype=torch.float64, device=device)
        of_rows = torch.zeros(num_rows, width, dtype=torch.float64, device=device)
        truth = [
            zeros.index_add(0, bag_of_entry, rows.double()[bags.indices]),
            of_rows.index_add(0, bags.indices, upstream.double()[bag_of_entry]),
        ]
        once, again = (summed(rows, bags, upstream) for _ in range(2))
        found = compared(["sums", "gradient"], once, truth, ROUNDING[dtype])
        results.append((f"{num_bags} bags", repeated(found, once, again)))
    return worst_of(results)


def summed(rows: Tensor, bags: Bags, upstream: Tensor) -> list[Tensor]:
    """Sums and the gradient by the rows."""
    rows = rows.detach().requires_grad_()
    result = sum_rows(rows, bags)
    return [result.detach(), *torch.autograd.grad(result, rows, upstream)]


def check_modulation(device: torch.device, dtype: torch.dtype, kind: str, training: bool, rehearsal: bool) -> Found:
    """SPADE's last step as the networks call it, against maps and autograd in float64."""
    results = []
    for size in SMALL[1:] if rehearsal else SMALL + LARGE:
        for slope in (1.0, 0.2):
            x, rows, bags, upstream = features(device, size, 6, dtype)
            norm = (NORMS[kind](size[1], affine=False) if kind in NORMS else nn.Identity()).to(device).train(training)
            truth = modulated(x.double(), rows.double(), bags, deepcopy(norm).double(), slope, upstream.double(), plain=True)
            once, again = (modulated(x, rows, bags, deepcopy(norm), slope, upstream) for _ in range(2))
            # rounding may give a number near 0 another sign, and then its gradient the other slope
            of_gradients = 2 * ROUNDING[dtype] if slope == 1 else FLIPPED[dtype]
            limits = [ROUNDING[dtype], of_gradients, of_gradients]
            found = compared(["result", "input gradient", "row gradient"], once, truth, limits)
            results.append((f"{'×'.join(map(str, size))}, slope {slope}", repeated(found, once, again)))
    return worst_of(results)


def modulated(x: Tensor, rows: Tensor, bags: Bags, norm: nn.Module, slope: float, upstream: Tensor, plain: bool = False) -> list[Tensor]:
    """The result and its gradients. plain: by maps."""
    x, rows = x.detach().requires_grad_(), rows.detach().requires_grad_()
    if plain:
        scale, shift = rows[bags.indices].view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2).chunk(2, dim=1)
        result = F.leaky_relu(norm(x) * scale + shift, slope)
    else:
        result = modulate(x, norm, Rows(rows, bags), slope)
    return [result.detach(), *torch.autograd.grad(result, (x, rows), upstream)]


# --- Layers and networks ----------------------------------------------------------------------------------------------------


def dense_of(semantics: Semantics, labels: Tensor, edges: Tensor | None) -> DenseLayout:
    """The semantic map in float64."""
    classes = torch.where(labels < 0, semantics.num_classes, labels)
    table = torch.eye(semantics.num_classes + 1, device=labels.device) if semantics.table is None else semantics.table
    semantic_map = table.double()[classes].permute(0, 3, 1, 2)
    return DenseLayout(semantic_map if edges is None else torch.cat([semantic_map, edges[:, None].double()], 1))


def check_convolution(device: torch.device, name: str, geometry: tuple[int, int, int], edges: bool, rehearsal: bool) -> Found:
    """The convolution of a map that never exists, at full size and pooled, and the gradients of its kernel."""
    results = []
    for classes, *size in [(4, 2, 7, 9)] if rehearsal else [(4, 2, 7, 9), (35, 3, 61, 131), (151, 2, 256, 512)]:
        torch.manual_seed(0)
        labels = label_maps(device, classes, *size)
        marks = (torch.rand(labels.shape) < 0.3).to(device) if edges else None
        semantics = build_semantics(name, classes, embedding_dim=12, instance_edges=edges).to(device)
        conv = nn.Conv2d(semantics.width, 32, *geometry, device=device)
        precise = deepcopy(conv).double()
        gathered, dense = semantics.pyramid(labels, marks).pooled(0), dense_of(semantics, labels, marks)
        for title, ours, theirs in (("", gathered, dense), (", pooled", gathered.pooled(), dense.pooled())):
            found = compared(["result", "kernel", "bias"], convolved(ours, conv), convolved(theirs, precise), 2e-5)
            results.append((f"C {classes}{title}", found))
    return worst_of(results)


def convolved(layout: Layout, conv: nn.Conv2d) -> list[Tensor]:
    """The result and the gradients of the parameters, to an upstream gradient that follows from the result's shape."""
    result = layout.convolve(conv)
    upstream = noise(result.device, *result.shape, seed=9).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, list(conv.parameters()), upstream)]


def check_layer(device: torch.device, dtype: torch.dtype, rehearsal: bool) -> Found:
    """A SPADE layer with its semantics, in float32 or under autocast, against the layer on maps in float64."""
    results = []
    for classes, channels, *size in [(4, 6, 2, 8, 9)] if rehearsal else [(4, 6, 2, 8, 9), (35, 64, 2, 128, 256)]:
        torch.manual_seed(0)
        labels = label_maps(device, classes, *size)
        ours_of, theirs_of = (build_semantics(name, classes).to(device) for name in ("onehot", "onehot_dense"))
        layer = Spade(channels, ours_of.width, hidden=16).to(device)
        x = noise(device, size[0], channels, *size[1:])

        def passed(layer: Spade, x: Tensor, semantics: Semantics, enabled: bool, labels: Tensor = labels) -> list[Tensor]:
            x = x.detach().requires_grad_()
            pyramid = semantics.pyramid(labels)
            if x.dtype == torch.float64:
                pyramid = type(pyramid)(dense_of(semantics, labels, None))
            with torch.autocast(device.type, dtype=dtype if enabled else torch.bfloat16, enabled=enabled):
                result = layer(x, pyramid)
            upstream = noise(device, *x.shape, seed=8).to(result.dtype)
            return [result.detach(), *torch.autograd.grad(result, [x, *layer.parameters()], upstream)]

        truth = passed(deepcopy(layer).double(), x.double(), theirs_of, False)
        found = passed(layer, x, ours_of, dtype != torch.float32)
        names = ["result", "input", *(name for name, _ in layer.named_parameters())]
        limits = [AUTOCAST[dtype], *[FLIPPED[dtype]] * (len(names) - 1)]
        results.append((f"{channels} channels", compared(names, found, truth, limits)))
    return worst_of(results)


def check_generator(device: torch.device, name: str, dtype: torch.dtype, rehearsal: bool) -> Found:
    """Images and the gradient of every parameter against the network on maps in float64; many layers add up their rounding."""
    size, width, hidden = ((32, 64), 2, 4) if rehearsal else ((64, 128), 16, 32)
    torch.manual_seed(0)
    semantics = build_semantics(name, 12, embedding_dim=8).to(device)
    generator = SpadeGenerator(semantics, image_size=size, width=width, hidden=hidden).to(device)
    labels = label_maps(device, 12, 2, *size)
    precise = deepcopy(generator).double()
    pyramid = semantics.pyramid(labels)
    truth = images_of(precise, type(pyramid)(dense_of(semantics, labels, None)), torch.float64, device)
    found = images_of(generator, pyramid, dtype, device)
    return compared(["images", "gradients"], found, truth, [4 * AUTOCAST[dtype], 5 * FLIPPED[dtype]])


def images_of(generator: SpadeGenerator, pyramid: object, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Images, and the gradients of all parameters as one vector."""
    half = dtype in (torch.float16, torch.bfloat16)
    with torch.autocast(device.type, dtype=dtype if half else torch.bfloat16, enabled=half):
        images = generator(pyramid)
    upstream = noise(device, *images.shape, seed=8).to(images.dtype)
    learned = [parameter for parameter in generator.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(images, learned, upstream)
    return [images.detach(), torch.cat([gradient.double().flatten() for gradient in gradients])]


def check_multiscale(device: torch.device) -> Found:
    """Predictions at every scale, and the gradients by the images and by all parameters."""
    torch.manual_seed(0)
    semantics = build_semantics("onehot", 12).to(device)
    network = MultiscaleDiscriminator(semantics, width=8).to(device)
    labels = label_maps(device, 12, 2, 64, 128)
    images, pyramid = noise(device, 4, 3, 64, 128).tanh(), semantics.pyramid(labels)
    precise, dense = deepcopy(network).double(), type(pyramid)(dense_of(semantics, labels, None))

    def judged(network: nn.Module, pyramid: object, images: Tensor) -> list[Tensor]:
        images = images.detach().requires_grad_()
        predictions = [scale[-1] for scale in network(pyramid, images)]
        gradients = torch.autograd.grad(sum(part.square().mean() for part in predictions), [images, *network.parameters()])
        return [*(part.detach() for part in predictions), gradients[0], torch.cat([part.double().flatten() for part in gradients[1:]])]

    names = ["full size", "half size", "images", "gradients"]
    return compared(names, judged(network, pyramid, images), judged(precise, dense, images.double()), [1e-4, 1e-4, 1e-3, 1e-3])


def check_segmenting(device: torch.device, kind: str) -> Found:
    """The U-Net of OASIS and its losses on reals and fakes, streamed over classes for vectors, against float64 of the network and float32
    of the losses."""
    torch.manual_seed(0)
    classes = None if kind == "scores" else F.normalize(noise(device, 12, 8), dim=1)
    network = SegmentationDiscriminator(num_classes=12 if classes is None else None, embedding_dim=None if classes is None else 8,
                                        width=8, depth=3).to(device)  # fmt: skip
    labels, images = label_maps(device, 12, 2, 32, 64), noise(device, 2, 3, 32, 64).tanh()
    weights = class_balance(labels, count_pixels([labels], 12))

    def judged(network: nn.Module, images: Tensor, classes: Tensor | None) -> list[Tensor]:
        images = images.detach().requires_grad_()
        verdict = network(images, classes)
        losses = loss_on_real(verdict, labels, weights), loss_on_fake(verdict)
        gradients = torch.autograd.grad(losses[0] + losses[1], [images, *network.parameters()])
        return [*(part.detach() for part in losses), gradients[0], torch.cat([part.double().flatten() for part in gradients[1:]])]

    truth = judged(deepcopy(network).double(), images.double(), None if classes is None else classes.double())
    return compared(["on reals", "on fakes", "images", "gradients"], judged(network, images, classes), truth, [1e-4, 1e-4, 1e-3, 1e-3])
