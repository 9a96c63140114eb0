"""Published files in and out: what is read off the weights, label conventions, round trips, refusals."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import InputError
from synth.checkpoints import (
    load_official_discriminator,
    load_official_encoder,
    load_official_generator,
    official_state,
    published_options,
    save_official,
)
from synth.discriminator import MultiscaleDiscriminator
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.published import PUBLISHED_MODELS, LabelConvention
from synth.semantics import Semantics, build_semantics
from synth.semantics.layout import DenseLayout, SemanticPyramid

C = 4
CONVENTIONS = [LabelConvention(unknown, edges) for unknown in ("last", "first", "none") for edges in (False, True)]
SIZES = {"crop_size": 64, "aspect_ratio": 2.0}


def on_channels(channels: int) -> Semantics:
    """Semantics of so many channels, whatever they mean: networks on them stand for published ones, driven by dense maps."""
    return build_semantics("onehot", channels - 1)


def published_generator(channels: int = C + 1, image_size: tuple[int, int] = (32, 64), **options) -> SpadeGenerator:
    torch.manual_seed(0)
    network = SpadeGenerator(on_channels(channels), image_size=image_size, **({"width": 2, "hidden": 3} | options))
    return lively(network)


def lively(network: nn.Module) -> nn.Module:
    """Weights far from the flat initial ones, in evaluation mode."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=1 / max(1, parameter[0].numel()) ** 0.5)
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    return network.eval()


def channels_of(labels: LabelConvention) -> int:
    return C + (labels.unknown != "none") + labels.instance_edges


def maps(labels: LabelConvention, size: tuple[int, int] = (32, 64)) -> tuple[Tensor, Tensor | None, Tensor]:
    """Label maps with ignored pixels, edges, and the dense map that the published convention makes of them."""
    generator = torch.Generator().manual_seed(1)
    label_map = torch.randint(-1, C, (2, *size), generator=generator)
    edges = torch.rand(2, *size, generator=generator) > 0.7 if labels.instance_edges else None
    classes = [(label_map == index).float() for index in range(C)]
    ignored = [(label_map == -1).float()]
    channels = {"last": classes + ignored, "first": ignored + classes, "none": classes}[labels.unknown]
    return label_map, edges, torch.stack(channels + ([] if edges is None else [edges.float()]), 1)


def assert_equal_states(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(mine[key], value), key


class TestInference:
    @pytest.mark.parametrize("norm", ["batch", "instance"])
    @pytest.mark.parametrize("z_dim", [None, 6])
    @pytest.mark.parametrize(("upsampling", "crop_size"), [("normal", 64), ("more", 128), ("most", 256)])
    def test_generator(self, upsampling, crop_size, z_dim, norm):
        options = {"upsampling": upsampling, "norm": norm, "z_dim": z_dim, "hidden": 5, "width": 4}
        state = published_generator(image_size=(crop_size // 2, crop_size), **options).state_dict()
        told = upsampling if upsampling != "most" and z_dim is None else None  # otherwise the weights tell
        network = load_official_generator(state, crop_size=crop_size, aspect_ratio=2.0, upsampling=told)
        assert (network.upsampling, network.z_dim, network.image_size) == (upsampling, z_dim, (crop_size // 2, crop_size))
        assert network.semantics.num_classes == C and network.semantics.table is None and not network.training
        assert_equal_states(network.state_dict(), state)
        settings = f"--ngf 4 --num_upsampling_layers {upsampling} --crop_size {crop_size} --aspect_ratio 2 --label_nc 4"
        assert settings in published_options(network)
        assert f"spectralspade{'sync' if norm == 'batch' else ''}{norm}3x3" in published_options(network)

    @pytest.mark.parametrize(("num_scales", "num_layers", "width"), [(2, 4, 4), (1, 3, 8), (3, 4, 2)])
    def test_discriminator(self, num_scales, num_layers, width):
        options = {"width": width, "num_scales": num_scales, "num_layers": num_layers}
        state = MultiscaleDiscriminator(on_channels(7), **options).state_dict()
        assert_equal_states(load_official_discriminator(state).state_dict(), state)

    @pytest.mark.parametrize("image_size", [64, 128, 256])
    def test_encoder(self, image_size):
        state = StyleEncoder(image_size=image_size, width=2, z_dim=5).state_dict()
        network = load_official_encoder(state)
        assert network.image_size == image_size and not network.training
        assert_equal_states(official_state(network), state)

    def test_what_the_weights_do_not_tell_is_asked(self):
        state = published_generator().state_dict()
        with pytest.raises(InputError, match="normal and more have the same weights; say which"):
            load_official_generator(state, **SIZES)
        with pytest.raises(InputError, match="upsampling most was given, but the weights are of normal or more"):
            load_official_generator(state, crop_size=256, aspect_ratio=2.0, upsampling="most")
        with pytest.raises(InputError, match="crop size 32 with aspect ratio 4"):
            load_official_generator(state, crop_size=32, aspect_ratio=4.0, upsampling="normal")

    def test_style_tells_the_size(self):
        state = published_generator(z_dim=3, image_size=(64, 64)).state_dict()
        with pytest.raises(InputError, match="starts from 4 pixels, which crop size 96 and aspect ratio 1"):
            load_official_generator(state, crop_size=96, aspect_ratio=1.0)
        with pytest.raises(InputError, match="upsampling more was given, but the weights are of normal"):
            load_official_generator(state, crop_size=64, aspect_ratio=1.0, upsampling="more")

    @pytest.mark.parametrize(("name", "classes"), [("cityscapes", 35), ("coco", 182), ("ade20k", 150)])
    def test_channels_of_the_published_models_are_asked_for(self, name, classes):
        model = PUBLISHED_MODELS[name]
        state = published_generator(model.channels, width=1, hidden=1).state_dict()
        with pytest.raises(InputError, match=f"published {name} model has {classes} classes and LabelConvention.*; say labels="):
            load_official_generator(state, **SIZES, upsampling="normal")
        network = load_official_generator(state, **SIZES, upsampling="normal", labels=model.labels)
        assert network.semantics.num_classes == model.num_classes == classes
        assert load_official_generator(state, **SIZES, upsampling="normal", labels=LabelConvention()).semantics.width == model.channels


@pytest.mark.parametrize("labels", CONVENTIONS)
class TestConventions:
    def test_ids_make_the_image_of_the_published_map(self, labels):
        published = published_generator(channels_of(labels))
        network = load_official_generator(published.state_dict(), **SIZES, upsampling="normal", labels=labels)
        label_map, edges, dense = maps(labels)
        with torch.no_grad():
            torch.testing.assert_close(network(label_map, edges=edges), published(SemanticPyramid(DenseLayout(dense))))

    def test_ids_make_the_answers_to_the_published_map(self, labels):
        published = lively(MultiscaleDiscriminator(on_channels(channels_of(labels)), width=4))
        network = load_official_discriminator(published.state_dict(), labels=labels)
        label_map, edges, dense = maps(labels)
        pyramid = build_semantics("onehot", C, instance_edges=labels.instance_edges).pyramid(label_map, edges)
        images = torch.rand(4, 3, 32, 64)
        with torch.no_grad():
            for mine, theirs in zip(network(pyramid, images), published(SemanticPyramid(DenseLayout(dense)), images)):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("letter", ["G", "D"])
    def test_round_trip(self, labels, letter, tmp_path):
        channels, file = channels_of(labels), tmp_path / f"latest_net_{letter}.pth"
        published = published_generator(channels) if letter == "G" else lively(MultiscaleDiscriminator(on_channels(channels), width=4))
        torch.save(published.state_dict(), file)
        if letter == "G":
            save_official(load_official_generator(file, **SIZES, upsampling="normal", labels=labels), file)
        else:
            save_official(load_official_discriminator(file, labels=labels), file)
        assert_equal_states(torch.load(file, weights_only=True), published.state_dict())


class TestSaving:
    @pytest.mark.parametrize("edges", [False, True])
    @pytest.mark.parametrize("name", ["onehot", "random"])
    def test_trained_networks_become_onehot(self, name, edges):
        """A table is multiplied into the kernels; the image stays."""
        semantics = build_semantics(name, C, embedding_dim=3, instance_edges=edges)
        generator = lively(SpadeGenerator(semantics, image_size=(32, 64), width=2, hidden=3))
        discriminator = lively(MultiscaleDiscriminator(semantics, width=2))
        state, labels = official_state(generator), LabelConvention("last", edges)
        assert state["up_0.norm_s.mlp_shared.0.weight"].shape[1] == C + 1 + edges
        label_map, edge_map, dense = maps(labels)
        loaded = load_official_generator(state, **SIZES, upsampling="normal", labels=labels)
        judge = load_official_discriminator(official_state(discriminator, semantics.table), labels=labels)
        images, dense_pyramid = torch.rand(2, 3, 32, 64), SemanticPyramid(DenseLayout(dense))
        with torch.no_grad():
            torch.testing.assert_close(loaded(label_map, edges=edge_map), generator(label_map, edges=edge_map))
            expected = discriminator(semantics.pyramid(label_map, edge_map), images)
            for mine, theirs in zip(judge(dense_pyramid, images), expected):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)

    def test_what_has_no_channel_is_not_lost(self, tmp_path):
        labels = LabelConvention("none")
        network = load_official_generator(published_generator(C).state_dict(), **SIZES, upsampling="normal", labels=labels)
        with torch.no_grad():
            network.fc.weight[:, C] += 1
        with pytest.raises(InputError, match=r"answer to ignored pixels, .* save with 'last'"):
            save_official(network, tmp_path / "out.pth")
        assert not list(tmp_path.iterdir())
        network.published_labels = LabelConvention("last")
        assert official_state(network)["fc.weight"].shape[1] == C + 1

    def test_plain_tensors_that_share_nothing(self, tmp_path):
        network = published_generator()
        state = official_state(network)
        network.conv_img.bias.data.zero_()
        assert state["conv_img.bias"].any() and not any(tensor.requires_grad for tensor in state.values())
        (tmp_path / "file").write_text("taken")
        with pytest.raises(InputError, match="cannot write"):
            save_official(network, tmp_path / "file" / "latest_net_G.pth")

    def test_options_that_the_published_code_lacks_are_said(self):
        network = published_generator(hidden=128, width=1)
        assert published_options(network).endswith("--label_nc 4 --contain_dontcare_label --no_instance")
        assert "hidden width 3 where it has 128" in published_options(published_generator())
        assert "style length 6 where it has 256" in published_options(published_generator(z_dim=6))


class Code:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestRefusals:
    def load(self, source):
        return load_official_generator(source, **SIZES, upsampling="normal")

    def test_code_is_not_run(self, tmp_path):
        torch.save({"fc.weight": Code(tmp_path / "made")}, tmp_path / "opt.pth")
        with pytest.raises(
            InputError, match=r"cannot read .*opt\.pth: it holds code \(.*mkdir\), which is not run; give a file of weights"
        ):
            self.load(tmp_path / "opt.pth")
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("contents", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), None])
    def test_other_and_damaged_files(self, contents, tmp_path):
        path = tmp_path / "latest_net_G.pth"
        if contents is None:
            save_official(published_generator(), path)
            contents = path.read_bytes()[: path.stat().st_size // 2]
        path.write_bytes(contents)
        with pytest.raises(InputError, match=r"cannot read .*latest_net_G.pth: it is damaged or no \.pth file"):
            self.load(path)
        with pytest.raises(InputError, match=r"no file .*gone\.pth"):
            self.load(tmp_path / "gone.pth")

    def test_old_format_files(self, tmp_path):
        state = published_generator().state_dict()
        torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        assert_equal_states(self.load(tmp_path / "old.pth").state_dict(), state)

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ({"body.0.conv_0.weight_orig": torch.zeros(1)}, "an OASIS generator, which is another network; a SPADE generator was expected"),
            ({"discriminator_0.model0.0.weight": torch.zeros(1)}, "holds a SPADE discriminator; a SPADE generator was expected"),
            ({"model.1.weight": torch.zeros(1)}, "pix2pixHD generator"),
            ({"weight": torch.zeros(1), "bias": torch.zeros(1)}, "holds 2 tensors such as weight; a SPADE generator was expected"),
            ({"state_dict": {}, "epoch": 3}, "holds a mapping of 0 entries"),
            ({0: torch.zeros(1)}, r"holds a mapping of 1 entries \(0\); tensors by name \(a state dict\) were expected"),
            ({}, "holds a mapping of 0 entries"),
            ({"head_0.conv_0.bias": torch.zeros(32)}, "fc.weight is missing"),
        ],
    )
    def test_other_networks(self, state, said):
        with pytest.raises(InputError, match=said):
            self.load(state)

    def test_incomplete_and_foreign_tensors_are_counted(self):
        state = published_generator().state_dict()
        plain = {key.replace("weight_orig", "weight"): value for key, value in state.items() if not key.endswith(("_u", "_v"))}
        with pytest.raises(InputError, match=r"54 tensors are missing, first head_0\.\S+; 18 tensors are unknown, first head_0\.\S+weight"):
            self.load(plain)  # of a training without spectral normalisation
        del state["up_3.conv_0.bias"]
        with pytest.raises(InputError, match=r"1 tensors are missing, first up_3\.conv_0\.bias$"):
            self.load(state)

    def test_shapes(self):
        state = published_generator().state_dict()
        state["up_1.norm_0.mlp_shared.0.weight"] = torch.zeros(3, C + 1, 5, 5)
        with pytest.raises(InputError, match=r"up_1\.norm_0\.mlp_shared\.0\.weight has shape \(3, 5, 5, 5\); \(3, 5, 3, 3\) was expected"):
            self.load(state)
        state["head_0.norm_0.mlp_shared.0.weight"] = torch.zeros(3)
        with pytest.raises(InputError, match=r"mlp_shared\.0\.weight has shape \(3,\)"):
            self.load(state)

    def test_conventions_without_classes(self):
        state = published_generator(2).state_dict()
        with pytest.raises(InputError, match="a semantic map of 2 channels has no room for a class"):
            load_official_generator(state, **SIZES, upsampling="normal", labels=LabelConvention("last", True))

    def test_discriminator_and_encoder(self):
        with pytest.raises(InputError, match="a SPADE generator; a SPADE style encoder was expected"):
            load_official_encoder(published_generator().state_dict())
        with pytest.raises(InputError, match="an OASIS discriminator"):
            load_official_discriminator({"body_down.0.conv1.1.weight_orig": torch.zeros(1)})
        state = StyleEncoder(image_size=64, width=2).state_dict()
        del state["layer2.0.weight_orig"], state["layer2.0.weight_u"], state["layer2.0.weight_v"]
        with pytest.raises(InputError, match="tensors are missing, first layer2"):
            load_official_encoder(state)


def test_no_onehot_tensor_is_made(monkeypatch):
    network = load_official_generator(published_generator().state_dict(), **SIZES, upsampling="normal")
    monkeypatch.setattr(F, "one_hot", lambda *_: pytest.fail("a one-hot tensor was made"))
    assert network(torch.zeros(1, 32, 64, dtype=torch.long)).shape == (1, 3, 32, 64)
