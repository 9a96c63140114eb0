"""Our networks and losses against recorded outputs of the published ones. Tolerances and file layout: README.md beside the files."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synth.discriminator import MultiscaleDiscriminator
from synth.generator import SpadeGenerator, published_image_size
from synth.semantics import build_semantics
from synth.semantics.edges import instance_edges
from synth.semantics.layout import DenseLayout, SemanticPyramid
from synth.training.losses import GAN_MODES, discriminator_loss, feature_matching, generator_loss, split_fake_real

PARITY = Path(__file__).parents[4] / "shared" / "parity"
pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason=f"reference outputs are not at {PARITY}")

OUTPUT, GRADIENT, BUFFER = 2e-5, 1e-5, 1e-5


def read(name: str) -> dict[str, Tensor]:
    """Arrays of one file as tensors: half precision became float32, bytes of images [−1, 1], texts are left out."""
    with np.load(PARITY / name) as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files if arrays[key].dtype.kind not in "US"}
    for key, value in tensors.items():
        if value.dtype == torch.float16:
            tensors[key] = value.float()
        elif key.endswith("_u8") and "label" not in key:
            tensors[key] = (value / 255 - 0.5) / 0.5
    return tensors


def part(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def labels(arrays: dict[str, Tensor], num_classes: int) -> Tensor:
    """The recorded map; its ids from `num_classes` on are the ignored ones."""
    label_map = arrays["in/label"][:, 0].long()
    return torch.where(label_map >= num_classes, -1, label_map)


def assert_near(actual: Tensor, expected: Tensor, absolute: float) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=absolute)


def assert_gradient(actual: Tensor | None, expected: Tensor) -> None:
    assert actual is not None
    assert_near(actual, expected, GRADIENT * float(expected.abs().max()))


def assert_buffers(network: nn.Module, after: dict[str, Tensor]) -> None:
    buffers = dict(network.named_buffers())
    assert set(after) == {key for key in buffers if key != "semantics.table"}
    for key, expected in after.items():
        assert_near(buffers[key].float(), expected.float(), BUFFER)


def under_ties(fake: Tensor, real: Tensor) -> Tensor:
    """Image pixels below first-layer features that are equal on fake and real up to rounding: there the slope of L1 is undecided.

    fake, real: (N, O, H/2 + 1, W/2 + 1). Returns (N, 1, H, W) bool.
    """
    ties = ((fake - real).abs() < 1e-7).any(1, keepdim=True).float()
    return F.conv_transpose2d(ties, torch.ones(1, 1, 4, 4), stride=2, padding=2) > 0


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return read("spade_generator_onehot.npz")


def published_generator(arrays: dict[str, Tensor], semantics: str = "onehot") -> SpadeGenerator:
    network = SpadeGenerator(build_semantics(semantics, 6), image_size=published_image_size(64, 2.0), width=4)
    network.load_state_dict(part(arrays, "w/"))
    return network


@pytest.mark.parametrize("semantics", ["onehot", "onehot_dense"])
class TestGenerator:
    def test_evaluation(self, recorded, semantics):
        network = published_generator(recorded, semantics).eval()
        with torch.no_grad():
            assert_near(network(labels(recorded, 6)), recorded["eval/output"], OUTPUT)

    def test_training_forward_gradients_and_buffers(self, recorded, semantics):
        network = published_generator(recorded, semantics).train()
        output = network(labels(recorded, 6))
        output.square().sum().backward()
        assert_near(output, recorded["train/output"], OUTPUT)
        for key, expected in part(recorded, "train/grad/").items():
            assert_gradient(network.get_parameter(key).grad, expected)
        assert_buffers(network, part(recorded, "after/"))

    def test_converged_singular_vectors(self, recorded, semantics):
        network = published_generator(recorded, semantics)
        vectors = {key: value for key, value in part(recorded, "conv/").items() if key.endswith(("_u", "_v"))}
        network.load_state_dict(vectors, strict=False)
        with torch.no_grad():
            assert_near(network.eval()(labels(recorded, 6)), recorded["conv/eval_output"], OUTPUT)
            assert_near(network.train()(labels(recorded, 6)), recorded["conv/train_output"], OUTPUT)


def test_gradient_into_a_soft_semantic_map(recorded):
    semantic_map = recorded["in/semantics"].float().requires_grad_()
    output = published_generator(recorded).train()(SemanticPyramid(DenseLayout(semantic_map)))
    output.square().sum().backward()
    assert_gradient(semantic_map.grad, recorded["train/grad_semantics"])


def test_embedding_table(recorded):
    embeddings = SimpleNamespace(vectors=recorded["in/embedding"])
    network = SpadeGenerator(build_semantics("learned", 7, embeddings), image_size=published_image_size(64, 2.0), width=4)
    missing = network.load_state_dict(part(recorded, "w/"), strict=False)
    assert missing.missing_keys == ["semantics.table"]
    with torch.no_grad():
        assert_near(network.eval()(labels(recorded, 7)), recorded["eval/output_embedding"], OUTPUT)


@pytest.mark.parametrize("semantics", ["onehot", "onehot_dense"])
@pytest.mark.parametrize("mode", ["eval", "train"])
class TestDiscriminator:
    @pytest.fixture
    def setting(self, semantics, mode):
        arrays = read("spade_discriminator.npz")
        table = build_semantics(semantics, 6)
        network = MultiscaleDiscriminator(table, width=8)
        network.load_state_dict(part(arrays, "w/"))
        network.train(mode == "train")
        return part(arrays, f"{mode}/"), arrays, network, table.pyramid(labels(arrays, 6))

    def test_features_losses_and_buffers(self, setting, mode):
        expected, arrays, network, pyramid = setting
        features = network(pyramid, torch.cat([arrays["in/fake_u8"], arrays["in/real_u8"]]))
        for scale, layers in enumerate(features):
            for layer, feature in enumerate(layers):
                assert_near(feature, expected[f"feat/{scale}/{layer}"], OUTPUT)
        fake, real = split_fake_real(features)
        for gan in GAN_MODES:
            on_fake, on_real = discriminator_loss(fake, real, gan)
            assert_near(on_fake, expected[f"loss/{gan}/D_Fake"], OUTPUT)
            assert_near(on_real, expected[f"loss/{gan}/D_real"], OUTPUT)
            assert_near(generator_loss(fake, gan), expected[f"loss/{gan}/GAN"], OUTPUT)
        assert_near(10 * feature_matching(fake, real), expected["loss/GAN_Feat"], 10 * OUTPUT)
        if mode == "train":
            assert_buffers(network, part(arrays, "after/"))

    def test_gradient_of_the_generator_step(self, setting, mode):
        expected, arrays, network, pyramid = setting
        image = arrays["in/fake_u8"].requires_grad_()
        fake, real = split_fake_real(network(pyramid, torch.cat([image, arrays["in/real_u8"]])))
        (generator_loss(fake) + 10 * feature_matching(fake, real)).backward()
        decided = ~under_ties(fake[0][0], real[0][0])
        assert decided.float().mean() > 0.95
        assert_gradient(image.grad * decided, expected["grad_fake_Gstep"] * decided)

    def test_gradient_of_the_discriminator_step(self, setting, mode):
        expected, arrays, network, pyramid = setting
        fake, real = split_fake_real(network(pyramid, torch.cat([arrays["in/fake_u8"], arrays["in/real_u8"]])))
        sum(discriminator_loss(fake, real)).backward()
        for key, gradient in part(expected, "grad_Dstep/").items():
            assert_gradient(network.get_parameter(key).grad, gradient)


def test_preprocessing():
    arrays = read("spade_preprocess.npz")
    edges = instance_edges(arrays["in/instance"][:, 0])
    assert torch.equal(edges, arrays["out/edges"][:, 0].bool())
    pyramid = build_semantics("onehot_dense", 6, instance_edges=True).pyramid(labels(arrays, 6), edges)
    assert torch.equal(pyramid.pooled(0).semantic_map, arrays["out/semantics"].float())
    assert torch.equal(F.one_hot(arrays["in/label"][:, 0].long(), 7).permute(0, 3, 1, 2), arrays["out/semantics"][:, :7].long())
