"""Feature networks: what is refused, what stands in for what, and that features see damage to images."""

import hashlib
import urllib.error
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torchvision import models
from torchvision.transforms.v2.functional import gaussian_blur

from shared.backbone import LITE0_WEIGHTS, build_backbone
from shared.encoder_file import load_encoder, save_encoder
from shared.errors import InputError
from shared.fid import Extractor, features, frechet_distance, kernel_distance
from shared.fid.features import FeatureNetwork, build_feature_network
from shared.fid.folder import find_images, image_statistics
from shared.fid.made_weights import write_made_weights

META = {"backbone": "tiny", "output_stride": 16, "dataset": "park"}


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no way out."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", build_backbone("tiny", output_stride=16), META)
    return tmp_path / "encoder.safetensors"


def pictures(count: int, size: tuple[int, int] = (40, 56), seed: int = 0) -> torch.Tensor:
    """Coloured squares on a coloured ground, (count, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 1, 1), generator=generator).expand(count, 3, *size).clone()
    for image in images:
        for top, left in torch.randint(0, 32, (5, 2), generator=generator).tolist():
            image[:, top : top + 8, left : left + 8] = torch.randint(0, 256, (3, 1, 1), generator=generator)
    return images.to(torch.uint8)


# encoder files


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_encoders_come_back(tmp_path: Path, norm: str, output_stride: int) -> None:
    saved = build_backbone("tiny", output_stride=output_stride, norm=norm).eval()
    save_encoder(tmp_path / "e.safetensors", saved, META | {"output_stride": output_stride, "miou": 0.5})
    loaded, meta = load_encoder(tmp_path / "e.safetensors")
    images = torch.rand(2, 3, 33, 47)
    assert all(torch.equal(theirs, ours) for theirs, ours in zip(loaded(images), saved(images)))
    assert meta["miou"] == 0.5


@pytest.mark.parametrize("change", [{"backbone": "resnet50"}, {"backbone": "giant"}, {"output_stride": 3}])
def test_encoders_that_cannot_be_rebuilt(tmp_path: Path, change: dict[str, object]) -> None:
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), META | change)
    with pytest.raises(InputError, match=r"e.safetensors does not hold a \w+ encoder") as caught:
        load_encoder(tmp_path / "e.safetensors")
    assert "\n" not in str(caught.value)


def test_encoder_files_that_are_refused(tmp_path: Path, encoder_file: Path) -> None:
    with pytest.raises(InputError, match="lacks dataset"):
        save_encoder(tmp_path / "new.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16})
    assert not (tmp_path / "new.safetensors").exists()
    encoder_file.write_bytes(encoder_file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cannot read .*encoder.safetensors"):
        build_feature_network(str(encoder_file))
    with pytest.raises(InputError, match=r"no file .*gone.safetensors; encoder"):
        build_feature_network(str(tmp_path / "gone.safetensors"))


# features of an encoder


def test_encoder_features(encoder_file: Path) -> None:
    network = build_feature_network(str(encoder_file))
    backbone, _ = load_encoder(encoder_file)
    images = torch.rand(2, 3, 40, 56)
    features = network(images)
    assert features.shape == (2, network.dim) == (2, sum(backbone.channels))
    assert (network.title, network.kernel_title) == ("FD-seg", "KD-seg")
    assert "not FID" in network.description
    assert hashlib.sha256(encoder_file.read_bytes()).hexdigest()[:8] in network.extractor.network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    expected = torch.cat([stage.mean((2, 3)) for stage in backbone(images)], 1)
    assert torch.allclose(features, expected, atol=1e-6)


def test_an_encoder_of_the_embedding_head_is_remarked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), META | {"head": "embedding"})
    build_feature_network(str(tmp_path / "e.safetensors"))
    assert "favours" in caplog.text


def test_blur_raises_both_distances(encoder_file: Path) -> None:
    network = build_feature_network(str(encoder_file))
    images = pictures(60)
    damaged = [images, *(gaussian_blur(images, [25, 25], [sigma]) for sigma in (0.5, 1.0, 2.0, 4.0))]
    sides = [image_statistics(network, side, total=60) for side in damaged]
    for distances in (
        [frechet_distance(sides[0], side) for side in sides],
        [kernel_distance(sides[0].features, side.features)[0] for side in sides],  # type: ignore[arg-type]
    ):
        assert all(later > 1.5 * earlier for earlier, later in pairwise(distances))


class MeanColour(FeatureNetwork):
    """Three features whose value is known."""

    dim = 3

    def __init__(self) -> None:
        super().__init__(torch.nn.Conv2d(3, 3, 1), Extractor("mean colour"), "The mean colour.")
        self.batch_sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(images))
        return images.mean((2, 3))


def test_images_of_several_sizes_keep_their_order() -> None:
    images = [*pictures(5), *pictures(2, (33, 64), seed=1), *pictures(1, seed=2)]
    network = MeanColour()
    statistics = image_statistics(network, iter(images), total=8, batch_size=3)
    assert network.batch_sizes == [3, 2, 2, 1]
    assert (statistics.count, statistics.extractor.network) == (8, "mean colour")
    expected = torch.stack([image.float().mean((1, 2)) / 255 for image in images])
    assert statistics.features is not None
    assert torch.allclose(statistics.features, expected, atol=1e-6)


# Inception


def test_offline_the_file_and_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no network in tests") as caught:
        build_feature_network("inception")
    assert str(tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth") in str(caught.value)
    assert "https://github.com/mseitzer/pytorch-fid/releases" in str(caught.value)


def test_auto_falls_back_on_lite0_and_says_so(encoder_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where an encoder is there."""
    assert build_feature_network("auto", encoder=encoder_file).title == "FD-lite0"
    assert "Using EfficientNet-Lite0 instead" in caplog.text
    assert build_feature_network("encoder", encoder=encoder_file).title == "FD-seg"


@pytest.mark.parametrize("name", ["inception", "auto"])
def test_another_file_is_not_the_fid_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / "weights.pth").write_bytes(b"not the weights")
    with pytest.raises(InputError, match=r"SHA-256 begins [0-9a-f]{8}, 6726825d was expected"):
        build_feature_network(name, weights=tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"no file .*gone.pth; the Inception weights were expected"):
        build_feature_network(name, weights=tmp_path / "gone.pth")


def test_the_published_weights_give_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights of their layout, which tests cannot download; that the features are pytorch-fid's is a test of the benchmark."""
    path = tmp_path / "weights.pth"
    write_made_weights(path)
    start = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(features, "INCEPTION_WEIGHTS", replace(features.INCEPTION_WEIGHTS, sha256_start=start))
    network = build_feature_network("auto", weights=path)
    assert (network.title, network.kernel_title, network.dim) == ("FID", "KID", 2048)
    assert start in network.description


# EfficientNet-Lite0


def test_the_definition_of_fd_lite0() -> None:
    """Every word of it: figures of different users compare only while none of it changes."""
    network = build_feature_network("efficientnet_lite0")
    assert (network.title, network.kernel_title, network.dim) == ("FD-lite0", "KD-lite0", 320)
    assert network.extractor == Extractor(
        "EfficientNet-Lite0",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "bilinear to 224x224, antialiased",
    )
    images = pictures(2, (90, 120)).float() / 255
    resized = F.interpolate(images, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    classifier = timm.create_model("tf_efficientnet_lite0")
    state = torch.load(LITE0_WEIGHTS.find(), map_location="cpu", weights_only=True)
    classifier.load_state_dict(dict(zip(classifier.state_dict(), state.values())))
    with torch.no_grad():
        last = classifier.eval().blocks(classifier.bn1(classifier.conv_stem(resized * 2 - 1)))
        features = network(images)
    assert last.shape == (2, 320, 7, 7)
    torch.testing.assert_close(features, last.mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.slow
def test_fd_lite0_of_known_images() -> None:
    """The same figures on every machine, up to rounding."""
    network = build_feature_network("efficientnet_lite0")
    images = pictures(24)
    sides = [image_statistics(network, side, total=24) for side in (images, pictures(24, seed=1), gaussian_blur(images, [9, 9], [1.5]))]
    assert frechet_distance(sides[0], sides[1]) == pytest.approx(54.3585, rel=1e-3)
    assert frechet_distance(sides[0], sides[2]) == pytest.approx(564.271, rel=1e-3)


# torchvision


def test_features_of_a_torchvision_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.mobilenet_v3_small().eval()
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    network = build_feature_network("torchvision/mobilenet_v3_small", weights=path)
    assert (network.title, network.kernel_title, network.dim) == ("FD-mobilenet_v3_small", "KD-mobilenet_v3_small", 1024)
    assert "not FID" in network.description
    assert network.extractor.weights == hashlib.sha256(path.read_bytes()).hexdigest()
    images = torch.rand(2, 3, 224, 224)  # at the model's own size nothing is resized
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        scores = model.classifier[3](network(images))
        assert torch.allclose(scores, model((images - mean) / std), atol=1e-4)
        assert network(images[..., :40, :30]).shape == (2, 1024)


def test_torchvision_models_that_are_not_available(tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"no weights")
    for name, path, message in (
        ("resnet51", None, r"unknown classifier of torchvision 'resnet51' \(did you mean resnet50\?\)"),
        ("resnet50", None, r"the weights of torchvision/resnet50 are not at .*hub/checkpoints/resnet50-11ad3fa6.pth; put https://"),
        ("mobilenet_v3_small", tmp_path / "other.pth", "cannot read .*other.pth: it is damaged or no .pth file"),
    ):
        with pytest.raises(InputError, match=message):
            build_feature_network(f"torchvision/{name}", weights=path)


# folders


def test_folders_are_searched_with_their_subfolders_in_any_case(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a/1.png", "c.Jpeg", "note.txt"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    found = find_images(tmp_path / "images")
    assert [path.relative_to(tmp_path / "images").as_posix() for path in found] == ["a/1.png", "b/2.PNG", "c.Jpeg"]


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty or below; found nothing"):
        find_images(tmp_path / "empty")
    (tmp_path / "empty" / "labels.npy").touch()
    with pytest.raises(InputError, match=r"found 1 × .npy"):
        find_images(tmp_path / "empty")
    with pytest.raises(InputError, match="gone is no folder"):
        find_images(tmp_path / "gone")
