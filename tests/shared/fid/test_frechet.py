"""The Fréchet distance against closed forms and pytorch-fid, and the statistics it is made of."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InputError
from shared.fid import Extractor, FeatureStatistics, frechet_distance
from shared.fid.frechet import sum_of_singular_values


def normal(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def statistics(features: torch.Tensor, *, keep_features: bool = True, batch: int = 1000, network: str = "") -> FeatureStatistics:
    result = FeatureStatistics(features.shape[1], keep_features=keep_features, extractor=Extractor(network))
    for part in features.split(batch):
        result.update(part)
    return result


def whitened(count: int, dim: int) -> torch.Tensor:
    """Features of mean 0 and covariance exactly 1."""
    features = normal(count, dim)
    features = features - features.mean(0)
    return torch.linalg.qr(features).Q * (count - 1) ** 0.5


# closed forms


@pytest.mark.parametrize("count", [6, 40])
def test_equal_covariances_leave_the_distance_of_the_means(count: int) -> None:
    features, shift = normal(count, 10), torch.arange(10.0, dtype=torch.float64)
    assert frechet_distance(statistics(features), statistics(features + shift)) == pytest.approx(float(shift.square().sum()), rel=1e-6)


@pytest.mark.parametrize("keep_features", [True, False])
def test_diagonal_gaussians(keep_features: bool) -> None:
    features = whitened(50, 8)
    scales_a, scales_b = torch.linspace(0.1, 2, 8).double(), torch.linspace(3, 0.5, 8).double()
    a, b = (statistics(features * scales, keep_features=keep_features) for scales in (scales_a, scales_b))
    assert frechet_distance(a, b) == pytest.approx(float((scales_a - scales_b).square().sum()), rel=1e-9)


def test_scaling_features_scales_the_distance_squared() -> None:
    a, b = normal(20, 30, 1), normal(25, 30, 2) + 1
    assert frechet_distance(statistics(a * 9), statistics(b * 9)) == pytest.approx(81 * frechet_distance(statistics(a), statistics(b)))


# the two ways to the root of a covariance


@pytest.mark.parametrize(("count_a", "count_b"), [(12, 15), (12, 200), (150, 200)])
def test_features_and_covariances_give_one_distance(count_a: int, count_b: int) -> None:
    a, b = normal(count_a, 24, 1).float(), normal(count_b, 24, 2).float() * 2 + 0.5
    kept = frechet_distance(statistics(a), statistics(b))
    dropped = frechet_distance(statistics(a, keep_features=False), statistics(b, keep_features=False))
    assert kept == pytest.approx(dropped, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The `disp` argument")
@pytest.mark.parametrize(("count", "dim"), [(400, 64), (40, 64)])
def test_pytorch_fid_agrees(count: int, dim: int) -> None:
    fid_score = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid's distance needs SciPy")
    a, b = (statistics(features) for features in (normal(count, dim, 1), normal(count, dim, 2) * 1.5 + 0.1))
    try:
        theirs = fid_score.calculate_frechet_distance(a.mean.numpy(), a.covariance.numpy(), b.mean.numpy(), b.covariance.numpy())
    except TypeError as error:
        pytest.skip(f"pytorch-fid's distance does not run with this SciPy: {error}")
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-9 if count > dim else 1e-5)


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-6, 1e-12, 0.0])
def test_singular_values_are_exact_whatever_the_spectrum(smallest: float) -> None:
    """Down to spectra whose squares are lost to rounding."""
    basis = torch.linalg.qr(normal(24, 24)).Q
    values = torch.linspace(1, smallest, 24, dtype=torch.float64) ** 3
    assert sum_of_singular_values(basis * values @ basis.T) == pytest.approx(float(values.sum()), rel=1e-10)


# properties


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 20), st.booleans(), st.integers(0, 2**31))
def test_a_distance_is_symmetric_not_negative_and_zero_to_itself(count_a: int, count_b: int, dim: int, keep: bool, seed: int) -> None:
    a, b = statistics(normal(count_a, dim, seed), keep_features=keep), statistics(normal(count_b, dim, seed + 1), keep_features=keep)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6, abs=1e-6)
    assert frechet_distance(a, b) >= 0
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=2, max_size=8), st.floats(-1e4, 1e4), st.integers(0, 2**31))
def test_streaming_equals_one_batch_in_any_order(sizes: list[int], offset: float, seed: int) -> None:
    features = normal(sum(sizes), 5, seed) + offset
    streamed = FeatureStatistics(5)
    for part in features.flip(0).split(sizes):
        streamed.update(part)
    assert streamed.count == len(features)
    assert torch.allclose(streamed.mean, features.mean(0), rtol=1e-12)
    assert torch.allclose(streamed.covariance, torch.cov(features.T, correction=1), rtol=1e-8, atol=1e-8)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    features = normal(100, 3) + 1e6
    expected = np.cov(normal(100, 3).numpy(), rowvar=False)
    assert np.allclose(statistics(features, batch=7).covariance.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_features_are_summed_in_float64(dtype: torch.dtype) -> None:
    features = normal(30, 4).to(dtype)
    assert torch.allclose(statistics(features).covariance, torch.cov(features.double().T), rtol=1e-12)
    kept = statistics(features, batch=7).features
    assert kept is not None
    assert torch.equal(kept, features.float())


def test_more_images_lower_the_distance_of_equal_distributions() -> None:
    distances = [frechet_distance(statistics(normal(count, 32, 1)), statistics(normal(count, 32, 2))) for count in (20, 80, 320)]
    assert all(later < earlier for earlier, later in pairwise(distances))


# files


@pytest.mark.parametrize("keep_features", [True, False])
def test_round_trip(tmp_path: Path, keep_features: bool) -> None:
    saved = statistics(normal(9, 4), keep_features=keep_features, network="Inception-2015")
    saved.save(tmp_path / "real.npz")
    loaded = FeatureStatistics.load(tmp_path / "real.npz")
    assert (loaded.count, loaded.dim, loaded.extractor.network) == (9, 4, "Inception-2015")
    assert torch.equal(loaded.mean, saved.mean)
    assert torch.allclose(loaded.covariance, saved.covariance, rtol=1e-15)
    assert (loaded.features is not None) == keep_features
    assert frechet_distance(loaded, saved) == pytest.approx(0, abs=1e-7)
    assert [file.name for file in tmp_path.iterdir()] == ["real.npz"]


def test_loaded_statistics_go_on_growing(tmp_path: Path) -> None:
    features = normal(20, 4)
    statistics(features[:8]).save(tmp_path / "half.npz")
    grown = FeatureStatistics.load(tmp_path / "half.npz")
    grown.update(features[8:])
    assert torch.allclose(grown.covariance, statistics(features).covariance)


def test_files_of_pytorch_fid_and_for_it(tmp_path: Path) -> None:
    ours = statistics(normal(30, 4))
    ours.save(tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as file:
        np.savez(tmp_path / "theirs.npz", mu=file["mu"], sigma=file["sigma"])
    theirs = FeatureStatistics.load(tmp_path / "theirs.npz")
    assert (theirs.count, theirs.features, theirs.extractor) == (None, None, Extractor())
    assert frechet_distance(theirs, ours) == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="without their image count"):
        theirs.update(normal(2, 4))
    theirs.save(tmp_path / "again.npz")
    assert FeatureStatistics.load(tmp_path / "again.npz").count is None


@pytest.mark.parametrize("length", [0, 3, 200, -30])
def test_files_cut_short(tmp_path: Path, length: int) -> None:
    statistics(normal(9, 4)).save(tmp_path / "real.npz")
    path = tmp_path / "cut.npz"
    path.write_bytes((tmp_path / "real.npz").read_bytes()[:length])
    with pytest.raises(InputError, match=r"cannot read statistics .*cut.npz"):
        FeatureStatistics.load(path)


def test_files_that_are_no_statistics(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    np.savez(tmp_path / "nan.npz", mu=np.full(2, np.nan), sigma=np.zeros((2, 2)))
    np.savez(tmp_path / "code.npz", mu=np.array([{}], dtype=object), sigma=np.zeros((1, 1)))
    (tmp_path / "text.npz").write_text("mu, sigma")
    np.save(tmp_path / "array.npy", np.zeros(3))
    expected = {
        "missing.npz": "no file",
        "other.npz": "lacks mu and sigma; it holds weights",
        "shapes.npz": r"mu \(3,\) and sigma \(2, 2\)",
        "nan.npz": "no finite mean",
        "code.npz": "cannot read",
        "text.npz": "cannot read",
        "array.npy": "cannot read",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            FeatureStatistics.load(tmp_path / name)


def test_a_sigma_that_is_no_covariance(tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", mu=np.zeros(2), sigma=np.diag([1.0, -1.0]))
    wrong = FeatureStatistics.load(tmp_path / "wrong.npz")
    with pytest.raises(InputError, match="negative eigenvalue"):
        frechet_distance(wrong, wrong)


# refusals


def test_refusals() -> None:
    four, five = statistics(normal(9, 4)), statistics(normal(9, 5))
    with pytest.raises(InputError, match="4 and 5 features"):
        frechet_distance(four, five)
    with pytest.raises(InputError, match="at least 2 images; there are 1"):
        frechet_distance(statistics(normal(1, 4)), four)
    with pytest.raises(InputError, match="network a and b"):
        frechet_distance(statistics(normal(9, 4), network="a"), statistics(normal(9, 4), network="b"))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(2, 3), r"shape \(2, 3\); float \(n, 4\) was expected"),
        (torch.zeros(4), r"shape \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.int64), "torch.int64"),
        (torch.full((2, 4), float("inf")), "not finite"),
    ],
)
def test_features_that_are_refused_leave_the_statistics(features: torch.Tensor, message: str) -> None:
    result = statistics(normal(3, 4))
    with pytest.raises(InputError, match=message):
        result.update(features)
    assert result.count == 3


def test_an_empty_batch_changes_nothing() -> None:
    result = statistics(normal(3, 4))
    result.update(torch.zeros(0, 4))
    assert torch.equal(result.covariance, statistics(normal(3, 4)).covariance)


@pytest.mark.parametrize("keep_features", [True, False])
def test_parts_add_up_to_the_whole(keep_features: bool) -> None:
    """In any sizes, none included, whatever the mean."""
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1000
    whole, parts = FeatureStatistics(4, keep_features), FeatureStatistics(4, keep_features)
    whole.update(features)
    for part in features.split([20, 0, 1, 29]):
        other = FeatureStatistics(4, keep_features)
        other.update(part)
        parts.add(other)
    assert parts.count == 50
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.covariance, whole.covariance)
    assert (parts.features is None) if not keep_features else torch.equal(parts.features, whole.features)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 features of 3 numbers cannot be added to 50 of 4"):
        parts.add(FeatureStatistics(3))
