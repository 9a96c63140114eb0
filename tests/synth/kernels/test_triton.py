"""The Triton kernels of synthesis against plain torch: in Triton's interpreter, which needs no GPU, and on a GPU where there is one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import InputError
from synth.kernels import modulation, rows, triton_bags
from synth.kernels.bags import Bags, torch_bag_sums
from synth.kernels.modulation import modulate
from synth.kernels.rows import Rows, sum_rows
from synth.kernels.sweeps import TorchSweeps
from synth.kernels.triton_bags import triton_bag_sums
from synth.kernels.triton_sweeps import TritonSweeps, modulation_agrees
from synth.networks.spade import NORMS, Spade
from synth.semantics import build_semantics
from synth.semantics.layout import GatheredLayout
from tests.triton_interpreter import DEVICE, of_kernels, on_gpu, outside, run_in_interpreter

pytest.importorskip("triton")

ROUNDING = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}  # of a result, relative to the largest


@pytest.mark.long
@outside
def test_the_kernels_in_the_interpreter() -> None:
    run_in_interpreter(__file__)


@outside
def test_cpu_tensors_are_refused() -> None:
    x, numbers = torch.zeros(3, 4), torch.arange(3)
    with pytest.raises(InputError, match="'triton' needs a CUDA device, and the rows are on cpu; choose torch, or 'auto'"):
        triton_bag_sums(x, numbers, numbers, None)
    with pytest.raises(InputError, match="'triton' needs a CUDA device, and the features are on cpu; choose torch, or 'auto'"):
        TritonSweeps().apply(x, x[0], x[0], x.repeat(1, 2), numbers, 1.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def assert_near(actual: Tensor, truth: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Up to the rounding of a type, relative to the largest number."""
    actual, truth = actual.detach(), truth.detach()
    assert actual.shape == truth.shape
    worst = float((actual.double() - truth.double()).abs().max()) if truth.numel() else 0.0
    assert worst <= ROUNDING[dtype] * max(1.0, float(truth.abs().max()) if truth.numel() else 0.0)


def assert_rounded(half: Tensor, full: Tensor) -> None:
    """Number by number the same but for one rounding, which is a cut in the interpreter's bfloat16."""
    torch.testing.assert_close(half.float(), full, rtol=2 * torch.finfo(half.dtype).eps, atol=1e-7)


# ---------------------------------------------------------------- sums over bags


def make_bags(lengths: list[int], num_rows: int, weighted: bool = False) -> Bags:
    generator = torch.Generator().manual_seed(1)
    counts = torch.tensor(lengths, dtype=torch.int64)
    indices = torch.randint(0, num_rows, (int(counts.sum()),), generator=generator)
    weights = torch.rand(len(indices), generator=generator).to(DEVICE) if weighted else None
    return Bags(indices.to(DEVICE), (counts.cumsum(0) - counts).to(DEVICE), num_rows, weights)


def as_matrix(bags: Bags) -> Tensor:
    """(bags, rows) float64."""
    ends = torch.cat([bags.offsets[1:], bags.offsets.new_tensor([len(bags.indices)])])
    number = torch.repeat_interleave(ends - bags.offsets)
    matrix = torch.zeros(len(bags.offsets), bags.num_rows, dtype=torch.float64, device=DEVICE)
    weights = torch.ones(len(number), dtype=torch.float64, device=DEVICE) if bags.weights is None else bags.weights.double()
    return matrix.index_put_((number, bags.indices), weights, accumulate=True)


LENGTHS = {
    "of nine": [9] * 13,
    "of one": [1] * 37,
    "some empty": [0, 3, 0, 0, 8, 1, 17, 0],
    "all empty": [0, 0, 0],
    "one long": [1, 700, 2],
    "none": [],
}


@of_kernels
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("weighted", [False, True])
def test_bags_of_any_length(lengths: list[int], weighted: bool) -> None:
    bags, rows = make_bags(lengths, 11, weighted), noise(11, 24)
    assert_near(triton_bag_sums(rows, bags.indices, bags.offsets, bags.weights), as_matrix(bags) @ rows.double())


@of_kernels
@pytest.mark.parametrize("width", [1, 40, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_any_width_and_type(width: int, dtype: torch.dtype) -> None:
    """Sums are taken in float32 and rounded once."""
    bags, rows = make_bags([4, 0, 30, 9, 9], 6), noise(6, width).to(dtype)
    sums = triton_bag_sums(rows, bags.indices, bags.offsets, None)
    assert sums.dtype == dtype
    assert_near(sums, as_matrix(bags) @ rows.double(), dtype)
    assert_rounded(sums, triton_bag_sums(rows.float(), bags.indices, bags.offsets, None))


@of_kernels
def test_rows_in_their_order_and_of_any_strides() -> None:
    rows, offsets = noise(20, 7), torch.tensor([0, 0, 5, 20], device=DEVICE)
    expected = torch.stack([rows[:0].sum(0), rows[:5].sum(0), rows[5:].sum(0), rows[:0].sum(0)])
    assert_near(triton_bag_sums(rows, None, offsets, None), expected)
    assert_near(triton_bag_sums(rows.T.contiguous().T, None, offsets, None), expected)


@of_kernels
def test_unused_rows_may_hold_anything() -> None:
    rows = noise(5, 8)
    rows[0] = torch.nan
    indices, offsets = torch.tensor([1, 2, 4], device=DEVICE), torch.tensor([0, 1], device=DEVICE)
    assert_near(triton_bag_sums(rows, indices, offsets, None), torch.stack([rows[1], rows[2] + rows[4]]))


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sums over bags and all sweeps that the kernels can take."""
    monkeypatch.setattr(rows, "bag_sums_for", lambda some: triton_bag_sums if some.dtype in ROUNDING else torch_bag_sums)
    monkeypatch.setattr(modulation, "sweeps_for", lambda x, rows: TritonSweeps() if x.dtype in ROUNDING else TorchSweeps())


@of_kernels
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_of_the_rows(by_kernels: None, weighted: bool, dtype: torch.dtype) -> None:
    """Rows that no bag uses, that one uses, and that more use than a segment holds."""
    bags = make_bags([9] * 40 + [0, 600, 0], 5, weighted)
    rows, upstream = noise(7, 20).to(dtype).requires_grad_(), noise(43, 20, seed=2).to(dtype)
    bags = Bags(bags.indices, bags.offsets, 7, bags.weights)
    result = sum_rows(rows, bags)
    (gradient,) = torch.autograd.grad(result, rows, upstream)
    assert result.dtype == gradient.dtype == dtype
    matrix = as_matrix(bags)
    assert_near(result, matrix @ rows.double(), dtype)
    assert_near(gradient, matrix.T @ upstream.double(), dtype)
    assert not gradient[5:].any()


@of_kernels
@pytest.mark.parametrize(("geometry", "with_edges"), [((3, 1, 1), False), ((4, 2, 2), True), ((3, 2, 0), False)])
def test_the_gathered_convolution(by_kernels: None, geometry: tuple[int, int, int], with_edges: bool) -> None:
    """Two maps, ignored pixels, borders: the convolution of the one-hot map, and its gradients."""
    kernel, stride, padding = geometry
    torch.manual_seed(0)
    label_map = torch.randint(-1, 4, (2, 7, 9)).to(DEVICE)
    edges = (torch.rand(label_map.shape) < 0.3).to(DEVICE) if with_edges else None
    dense, gathered = (
        build_semantics(name, 4, instance_edges=with_edges).to(DEVICE).pyramid(label_map, edges).pooled(0)
        for name in ("onehot_dense", "onehot")
    )
    conv = nn.Conv2d(dense.width, 5, kernel, stride, padding, device=DEVICE)
    expected, actual = dense.convolve(conv), gathered.convolve(conv)
    upstream = noise(*expected.shape)
    for ours, theirs in zip(
        (actual, *torch.autograd.grad(actual, conv.parameters(), upstream)),
        (expected, *torch.autograd.grad(expected, conv.parameters(), upstream)),
    ):
        assert_near(ours, theirs)


# ---------------------------------------------------------------- modulation


def features(size: tuple[int, int, int, int], num_rows: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Bags, Tensor]:
    """x, rows, which row each pixel has (one row is had by nobody, one by most), and the upstream gradient."""
    images, channels, height, width = size
    generator = torch.Generator().manual_seed(3)
    numbers = torch.randint(0, num_rows - 1, (images * height * width,), generator=generator)
    numbers[torch.rand(len(numbers), generator=generator) < 0.5] = 0
    pixels = torch.arange(len(numbers), device=DEVICE)
    x, upstream = (5 + 2 * noise(*size, seed=4)).to(dtype), noise(*size, seed=5).to(dtype)
    return x, noise(num_rows, 2 * channels, seed=6).to(dtype), Bags(numbers.to(DEVICE), pixels, num_rows), upstream


def plain_modulation(x: Tensor, rows: Tensor, bags: Bags, norm: nn.Module, slope: float) -> Tensor:
    """By maps and by autograd."""
    maps = rows[bags.indices].view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    scale, shift = maps.chunk(2, dim=1)
    return F.leaky_relu(norm(x) * scale + shift, slope)


def assert_modulates(
    size: tuple[int, int, int, int], kind: str, slope: float, training: bool = True, dtype: torch.dtype = torch.float32
) -> None:
    x, rows, bags, upstream = features(size, 6, dtype)
    norms = [(NORMS[kind](size[1], affine=False) if kind in NORMS else nn.Identity()).to(DEVICE).train(training) for _ in range(2)]
    truth_inputs = [part.double().requires_grad_() for part in (x, rows)]
    truth = plain_modulation(*truth_inputs, bags, norms[0].double(), slope)
    inputs = [part.requires_grad_() for part in (x, rows)]
    result = modulate(inputs[0], norms[1], Rows(inputs[1], bags), slope)
    assert result.dtype == dtype
    assert_near(result, truth, dtype)
    if slope != 1:
        # so near to 0, rounding may give a result the other sign, and its gradient then another slope
        upstream = upstream.masked_fill(truth.abs() < 100 * ROUNDING[dtype], 0)
    gradients = torch.autograd.grad(result, inputs, upstream)
    for ours, theirs, given in zip(gradients, torch.autograd.grad(truth, truth_inputs, upstream.double()), inputs):
        assert ours.dtype == given.dtype
        assert_near(ours, theirs, dtype)
    assert not gradients[1][-1].any(), "nobody has the last row"
    for ours, theirs in zip(norms[1].buffers(), norms[0].buffers()):
        assert_near(ours, theirs, dtype)


@of_kernels
@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("size", [(1, 3, 5, 4), (2, 40, 9, 8), (3, 70, 6, 7)])
def test_modulation_over_the_batch(by_kernels: None, size: tuple[int, int, int, int], slope: float) -> None:
    assert_modulates(size, "batch", slope)


@of_kernels
@pytest.mark.parametrize(("kind", "training"), [("batch", False), ("instance", True), ("none", True)])
def test_other_normalisations(by_kernels: None, kind: str, training: bool) -> None:
    assert_modulates((2, 20, 6, 7), kind, 0.2, training)


@of_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """Every sweep gives what it gives for the same numbers in float32, rounded once."""
    x, rows, bags, d = features((2, 24, 6, 7), 6, dtype)
    x, d = (part.permute(0, 2, 3, 1).reshape(-1, 24) for part in (x, d))
    a, b, *means = noise(4, 24)
    results = []
    for cast in (lambda part: part, Tensor.float):
        y = TritonSweeps().apply(cast(x), a, b, cast(rows), bags.indices, 0.2)
        results.append(
            [
                y,
                TritonSweeps().row_gradients(cast(x), a, b, y, cast(d), 0.2, bags),
                TritonSweeps().input_gradient(cast(x), a, b, y, cast(d), 0.2, cast(rows), bags.indices, (means[0], means[1])),
            ]
        )
    for half, full in zip(*results):
        assert_rounded(half, full)


@of_kernels
def test_mixed_types(by_kernels: None) -> None:
    """Features in bfloat16 and rows in float32, as a network under autocast may have them."""
    x, rows, bags, _ = features((1, 5, 4, 4), 6)
    result = modulate(x.bfloat16(), nn.Identity(), Rows(rows, bags), 0.2)
    assert_near(result, plain_modulation(x.bfloat16().double(), rows.double(), bags, nn.Identity(), 0.2), torch.bfloat16)


def spade_and_pyramid(size: tuple[int, int]) -> tuple[Spade, object]:
    torch.manual_seed(0)
    label_map = torch.zeros(2, *size, dtype=torch.long)
    label_map[0, 3:], label_map[1, :, 4:], label_map[1, 0, 0] = 1, 2, -1
    semantics = build_semantics("onehot", 3).to(DEVICE)
    return Spade(6, semantics.width, hidden=5).to(DEVICE), semantics.pyramid(label_map.to(DEVICE))


@of_kernels
def test_a_layer_with_its_semantics(by_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything by the kernels, in float32 and under autocast, against the layer on maps in float64."""
    monkeypatch.setattr("synth.semantics.layout.MOSTLY_DISTINCT", 1.0)
    spade, pyramid = spade_and_pyramid((8, 9))
    assert isinstance(pyramid.at(8, 9), GatheredLayout)
    x = noise(2, 6, 8, 9)
    results = []
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        layer = Spade(6, 4, hidden=5).to(DEVICE, torch.float64 if dtype == torch.float64 else torch.float32)
        layer.load_state_dict(spade.state_dict())
        given = x.detach().to(layer.mlp_gamma.weight.dtype).requires_grad_()
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = layer(given, pyramid, slope=0.2)
            out.double().square().sum().backward()
        results.append([out, given.grad, *(weight.grad for weight in layer.parameters())])
    for truth, ours, reduced in zip(*results):
        truth, ours, reduced = truth.detach(), ours.detach(), reduced.detach()
        scale = float(truth.abs().max())
        assert float((ours - truth).abs().max()) <= 1e-5 * scale
        assert float((reduced - truth).abs().max()) <= 0.05 * scale


@of_kernels
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_layer(by_kernels: None) -> None:
    spade, pyramid = spade_and_pyramid((6, 6))
    x = noise(2, 6, 6, 6).requires_grad_()
    expected = torch.autograd.grad(spade(x, pyramid).square().sum(), x)[0]
    compiled = torch.compile(spade, backend="eager")
    assert_near(torch.autograd.grad(compiled(x, pyramid).square().sum(), x)[0], expected)


# ---------------------------------------------------------------- the check before they are taken


@of_kernels
def test_the_check_passes() -> None:
    device, half = torch.device(DEVICE), torch.float16
    assert triton_bags.bags_agree.__wrapped__(device) and modulation_agrees.__wrapped__(device)
    assert triton_bags.bags_agree.__wrapped__(device, half) and modulation_agrees.__wrapped__(device, half, torch.float32)


@of_kernels
@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_kernels_that_fail_are_not_taken(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> Tensor:
        if fault == "raises":
            raise RuntimeError("no such instruction")
        return 1.01 * torch_bag_sums(*arguments)

    monkeypatch.setattr(triton_bags, "triton_bag_sums", broken)
    expected = "off by 1.0e-02" if fault == "wrong" else r"do not run on .*no such instruction"
    with pytest.warns(UserWarning, match=f"{expected}.*plain torch computes sums over bags"):
        assert not triton_bags.bags_agree.__wrapped__(torch.device(DEVICE))


# ---------------------------------------------------------------- on a GPU, at sizes of use


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_of_the_full_generator(by_kernels: None, dtype: torch.dtype) -> None:
    """64 channels at 256×512, the same twice."""
    assert_modulates((4, 64, 256, 512), "batch", 0.2, dtype=dtype)
    x, _, bags, d = features((4, 64, 256, 512), 6, dtype)
    x, d = (part.permute(0, 2, 3, 1).reshape(-1, 64) for part in (x, d))
    a, b = noise(2, 64)
    once, again = (TritonSweeps().row_gradients(x, a, b, x, d, 0.2, bags) for _ in range(2))
    assert torch.equal(once, again)


@on_gpu
@pytest.mark.gpu
def test_more_numbers_than_an_int32_can_count(by_kernels: None) -> None:
    x = torch.ones(2**25 + 1, 65, device=DEVICE, dtype=torch.bfloat16)
    rows, index = torch.ones(1, 130, device=DEVICE), torch.zeros(len(x), dtype=torch.int64, device=DEVICE)
    y = TritonSweeps().apply(x, torch.ones(65, device=DEVICE), torch.zeros(65, device=DEVICE), rows, index, 1.0)
    assert bool((y == 2).all())
