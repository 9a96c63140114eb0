"""SPADE's last step as one operation against normalisation, product, sum and activation one after the other."""

import copy

import pytest
import torch
from torch import Tensor, nn

from synth.kernels import modulation
from synth.kernels.bags import Bags, one_each
from synth.kernels.modulation import modulate
from synth.kernels.rows import Maps, Rows
from synth.kernels.sweeps import TorchSweeps

SWEEPS = ["compiled", "torch"]


@pytest.fixture(params=SWEEPS)
def sweeps(request, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations in turn."""
    if request.param == "torch":
        monkeypatch.setattr(modulation, "numba_obstacle", lambda: "not in this test")
    elif modulation.numba_obstacle():
        pytest.skip(modulation.numba_obstacle())
    return request.param


def problem(channels: int, size: tuple[int, int, int], num_rows: int) -> tuple[Tensor, Tensor, Bags]:
    """Features, rows and which row each pixel shows: most pixels the first, as in a picture with a large sky."""
    torch.manual_seed(channels)
    images, height, width = size
    x = torch.randn(images, channels, height, width) * 3 + 5
    index = torch.randint(0, num_rows, (images * height * width,)) * (torch.rand(images * height * width) < 0.4)
    index[:num_rows] = torch.arange(num_rows)
    return x, torch.randn(num_rows, 2 * channels), Bags(index, torch.arange(len(index)), num_rows)


def value_and_gradients(x: Tensor, norm: nn.Module, rows: Tensor, of_pixel: Bags, slope: float, *, fused: bool) -> list[Tensor]:
    x, rows = x.detach().requires_grad_(), rows.detach().requires_grad_()
    by = Rows(rows, of_pixel)
    result = modulate(x, norm, by if fused else by.maps(len(x), (x.shape[2], x.shape[3])), slope)
    upstream = torch.sin(torch.arange(result.numel(), dtype=x.dtype)).view(result.shape)
    return [result.detach(), *torch.autograd.grad(result, (x, rows), upstream)]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize(("channels", "size"), [(3, (2, 5, 7)), (16, (1, 40, 90))])
def test_equals_the_steps_one_after_the_other(sweeps, norm, training, slope, channels, size):
    x, rows, of_pixel = problem(channels, size, 11)
    norms = [norm(channels, affine=False).train(training) for _ in range(2)]
    if norm is nn.BatchNorm2d:
        for layer in norms:
            layer.running_mean.fill_(4.0), layer.running_var.fill_(2.0)
    precise = copy.deepcopy(norms[0]).double()
    expected = value_and_gradients(x.double(), precise, rows.double(), of_pixel, slope, fused=False)
    plain = value_and_gradients(x, norms[0], rows, of_pixel, slope, fused=False)
    fused = value_and_gradients(x, norms[1], rows, of_pixel, slope, fused=True)
    for truth, separate, one in zip(expected, plain, fused):
        allowed = 2 * (separate.double() - truth).abs().max() + 2e-6 * truth.abs().max()
        assert (one.double() - truth).abs().max() <= allowed
    for buffer, same in zip(norms[1].buffers(), precise.buffers()):
        torch.testing.assert_close(buffer.double(), same.double())


def test_float64_takes_plain_torch():
    x, rows, of_pixel = problem(5, (2, 4, 6), 7)
    assert isinstance(modulation.sweeps_for(x.double(), rows.double()), TorchSweeps)
    norm = nn.BatchNorm2d(5, affine=False).double()
    pair = [value_and_gradients(x.double(), copy.deepcopy(norm), rows.double(), of_pixel, 0.2, fused=fused) for fused in (True, False)]
    for one, separate in zip(*pair):
        torch.testing.assert_close(one, separate, rtol=1e-10, atol=1e-10)


def test_bfloat16_features_and_float32_rows(sweeps):
    x, rows, of_pixel = problem(8, (1, 6, 6), 5)
    norm = nn.BatchNorm2d(8, affine=False)
    one = value_and_gradients(x.bfloat16(), norm, rows, of_pixel, 0.2, fused=True)
    exact = value_and_gradients(x.bfloat16().float(), nn.BatchNorm2d(8, affine=False), rows, of_pixel, 0.2, fused=True)
    assert [tensor.dtype for tensor in one] == [torch.bfloat16, torch.bfloat16, torch.float32]
    torch.testing.assert_close(one[0].float(), exact[0], rtol=1e-2, atol=1e-2)


def test_a_row_of_its_own_for_every_pixel(sweeps):
    x, _, _ = problem(6, (2, 3, 4), 2)
    rows = torch.randn(24, 12)
    pair = [
        value_and_gradients(x, nn.BatchNorm2d(6, affine=False), rows, one_each(24, x.device), 0.2, fused=fused) for fused in (True, False)
    ]
    for one, separate in zip(*pair):
        torch.testing.assert_close(one, separate, rtol=1e-4, atol=1e-5)


def test_rows_that_no_pixel_shows_have_no_gradient(sweeps):
    x, rows, of_pixel = problem(4, (1, 20, 30), 6)
    unused = Bags(of_pixel.indices + 3 * (of_pixel.indices > 2), of_pixel.offsets, 9)  # rows 3 to 5 are nobody's
    rows = torch.randn(9, 8)
    gradient = value_and_gradients(x, nn.BatchNorm2d(4, affine=False), rows, unused, 1.0, fused=True)[2]
    assert not gradient[3:6].any() and gradient[[0, 1, 2, 6, 7, 8]].all()


@pytest.mark.parametrize("wanted", ["x", "rows", "nothing"])
def test_gradients_that_nobody_asks_for(sweeps, wanted):
    x, rows, of_pixel = problem(4, (1, 5, 5), 3)
    norms = [nn.BatchNorm2d(4, affine=False) for _ in range(2)]
    both = value_and_gradients(x, norms[0], rows, of_pixel, 0.2, fused=True)
    x.requires_grad_(wanted == "x"), rows.requires_grad_(wanted == "rows")
    result = modulate(x, norms[1], Rows(rows, of_pixel), 0.2)
    assert torch.equal(result.detach(), both[0]) and result.requires_grad == (wanted != "nothing")
    if result.requires_grad:
        result.backward(torch.sin(torch.arange(result.numel(), dtype=x.dtype)).view(result.shape))
        torch.testing.assert_close((x if wanted == "x" else rows).grad, both[1 if wanted == "x" else 2])


def test_threads_do_not_change_the_result():
    x, rows, of_pixel = problem(32, (2, 64, 64), 40)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(value_and_gradients(x, nn.BatchNorm2d(32, affine=False), rows, of_pixel, 0.2, fused=True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(results[1], results[2]))
    for one, other in zip(results[0], results[1]):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_single_pixel_has_no_batch_statistics(sweeps):
    rows, of_pixel = torch.randn(1, 4), one_each(1, torch.device("cpu"))
    with pytest.raises(ValueError, match="more than one pixel"):
        modulate(torch.randn(1, 2, 1, 1), nn.BatchNorm2d(2, affine=False), Rows(rows, of_pixel))


def test_maps_are_the_rows_of_the_pixels():
    _, rows, of_pixel = problem(2, (2, 3, 4), 5)
    maps = Rows(rows, of_pixel).maps(2, (3, 4))
    assert isinstance(maps, Maps) and maps.scale.shape == maps.shift.shape == (2, 2, 3, 4)
    assert torch.equal(torch.cat([maps.scale, maps.shift], 1).permute(0, 2, 3, 1).reshape(24, 4), rows[of_pixel.indices])
