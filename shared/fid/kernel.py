"""The kernel distance between two sets of features (KID: Bińkowski et al. 2018, arXiv 1801.01401).

It is the squared maximum mean discrepancy with the kernel k(x, y) = (x·y / F + 1)³, in its unbiased form: its expectation is 0
for equal distributions at any number of images, where the Fréchet distance is still far from 0.

N, M images, F features.
"""

import torch

from shared.errors import InputError


def kernel_distance(
    features_a: torch.Tensor, features_b: torch.Tensor, *, num_subsets: int = 100, subset_size: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the kernel distance over random subsets.

    Args:
        features_a: (N, F) float, any device.
        features_b: (M, F).
        num_subsets: pairs of subsets.
        subset_size: images of each subset, drawn without replacement. None: half of the smaller set, at most 1000; with the whole
            set every subset would be the same and the deviation would pretend to be 0.
        seed: of the draws.

    Returns:
        (mean, standard deviation between subsets); the mean is slightly negative as often as positive for equal distributions.

    Raises:
        InputError: other number of features, values that are not finite, or a subset size outside [2, min(N, M)].
    """
    for features in (features_a, features_b):
        if features.ndim != 2 or features.shape[1] != features_a.shape[1]:
            shapes = f"{tuple(features_a.shape)} and {tuple(features_b.shape)}"
            raise InputError(f"features have shapes {shapes}; (images, features) with equally many features were expected")
        if not features.isfinite().all():
            raise InputError("features hold values that are not finite; the images or the network's weights are damaged")
    smaller = min(len(features_a), len(features_b))
    size = max(2, min(smaller // 2, 1000)) if subset_size is None else subset_size
    if not 2 <= size <= smaller:
        raise InputError(f"subset size {size} does not fit sets of {len(features_a)} and {len(features_b)} images; give 2 to {smaller}")
    generator = torch.Generator().manual_seed(seed)
    distances = torch.tensor(
        [_squared_mmd(_draw(features_a, size, generator), _draw(features_b, size, generator)) for _ in range(num_subsets)],
        dtype=torch.float64,
    )
    return distances.mean().item(), distances.std(correction=0).item()


def _draw(features: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    # float64: the distance is the small difference of large means of cubes
    return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)].double()


def _squared_mmd(x: torch.Tensor, y: torch.Tensor) -> float:
    """Unbiased estimate from two sets of n: a feature is never compared with itself."""
    n = len(x)
    within = sum((kernel.sum() - kernel.trace()).item() for kernel in (_kernel(x, x), _kernel(y, y))) / (n * (n - 1))
    return within - 2 * _kernel(x, y).mean().item()


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
