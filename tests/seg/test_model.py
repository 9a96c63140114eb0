"""The segmenters: shapes, norms, gradients, and predictions against every distance."""

import pytest
import torch
import torch.nn.functional as F

from seg.losses import class_separation, neighbour_cross_entropy
from seg.model import EmbeddingSegmenter, SoftmaxSegmenter, build_segmenter
from seg.networks.deeplab import DeepLabV3Plus, ImagePooling
from seg.networks.upsampling import upsample_rows
from seg.unit_vectors import nearest_class_map, unit_norm
from shared.backbone import build_backbone
from shared.errors import InputError


def embedding_segmenter(**options: object) -> EmbeddingSegmenter:
    torch.manual_seed(0)
    model = build_segmenter(**{"head": "embedding", "backbone": "tiny", "num_classes": 9, "embedding_dim": 5} | options)  # type: ignore[arg-type]
    assert isinstance(model, EmbeddingSegmenter)
    return model


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (5, 3), (1, 1)])
def test_any_size_gives_unit_vectors_of_that_size(size: tuple[int, int]) -> None:
    model = embedding_segmenter().eval()
    embeddings = model(torch.randn(2, 3, *size))
    assert embeddings.shape == (2, 5, *size)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2, *size))
    assert model.predict(torch.randn(2, 3, *size)).shape == (2, *size)


def test_normalised_before_upsampling_vectors_are_shorter_between_positions() -> None:
    norms = embedding_segmenter(normalise="before_upsampling").eval()(torch.randn(1, 3, 32, 32)).norm(dim=1)
    assert norms.max() <= 1 + 1e-6 and norms.min() < 0.99


@pytest.mark.parametrize("options", [{}, {"normalise": "before_upsampling"}, {"head": "softmax"}])
def test_features_at_stride_4_give_the_output_when_they_are_upsampled(options: dict[str, str]) -> None:
    model = build_segmenter(**{"head": "embedding", "backbone": "tiny", "num_classes": 9, "embedding_dim": 5} | options).eval()  # type: ignore[arg-type]
    images = torch.randn(2, 3, 33, 46)
    features = model(images, upsample=False)
    assert features.shape == (2, 9 if "head" in options else 5, 9, 12)
    assert torch.equal(model.upsample(features, (33, 46)), model(images))


def test_class_embeddings_are_unit_rows_of_the_raw_ones() -> None:
    model = embedding_segmenter()
    assert model.raw_class_embeddings.shape == (9, 5) and model.raw_class_embeddings.abs().max() <= 1
    torch.testing.assert_close(model.class_embeddings, F.normalize(model.raw_class_embeddings, dim=1))


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_a_batch_of_one_trains(head: str, norm: str) -> None:
    model = build_segmenter(head=head, backbone="tiny", num_classes=9, embedding_dim=5, norm=norm).train()
    outputs = model(torch.randn(1, 3, 32, 48))
    if isinstance(model, EmbeddingSegmenter):
        labels = torch.randint(9, (1, 32, 48))
        loss = neighbour_cross_entropy(outputs, model.class_embeddings, labels, num_neighbours=3) + class_separation(
            model.class_embeddings, 2.0
        )
    else:
        loss = F.cross_entropy(outputs, torch.randint(9, (1, 32, 48)))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_predict_is_the_nearest_class_embedding() -> None:
    model = embedding_segmenter().eval()
    images = torch.randn(2, 3, 20, 30)
    distances = torch.cdist(model(images).permute(0, 2, 3, 1).reshape(-1, 5), model.class_embeddings)
    assert torch.equal(model.predict(images).flatten(), distances.argmin(1))


def test_nearest_class_map_takes_the_lowest_of_equal_classes_in_many_chunks() -> None:
    classes = unit_norm(torch.randn(3000, 4), dim=1).repeat(2, 1)
    ids = torch.randint(3000, (2, 15, 20))
    pixels = 0.3 * classes[ids].permute(0, 3, 1, 2)
    assert torch.equal(nearest_class_map(pixels, classes), ids)


def test_softmax_predicts_its_largest_logit() -> None:
    model = build_segmenter(head="softmax", backbone="tiny", num_classes=7).eval()
    assert isinstance(model, SoftmaxSegmenter)
    images = torch.randn(1, 3, 17, 30)
    logits = model(images)
    assert logits.shape == (1, 7, 17, 30)
    assert torch.equal(model.predict(images), logits.argmax(1))


def test_unit_norm() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16)
    torch.testing.assert_close(unit_norm(x, dim=1), F.normalize(x.float(), dim=1))
    zero = torch.zeros(1, 3, requires_grad=True)
    unit_norm(zero, dim=1).sum().backward()
    assert zero.grad is not None and zero.grad.isfinite().all() and not unit_norm(zero, dim=1).any()


@pytest.mark.parametrize(("output_stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_pyramid_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    network = DeepLabV3Plus(build_backbone("mobilenet_v2", output_stride=output_stride), 19)
    assert [branch[0].dilation[0] for branch in network.pyramid.branches[1:4]] == rates
    assert isinstance(network.pyramid.branches[4], ImagePooling)
    assert network.project_low_level[0].out_channels == 48
    assert network.decode[0][0].weight.shape == (256, 304, 3, 3)
    assert network(torch.randn(2, 3, 64, 96)).shape == (2, 19, 16, 24)


def test_head_and_backbone_share_out_the_parameters() -> None:
    model = embedding_segmenter()
    counted = len(model.network.head_parameters()) + len(list(model.network.backbone.parameters())) + 1
    assert counted == len(list(model.parameters()))


def test_refusals() -> None:
    with pytest.raises(InputError, match="unknown head 'linear'; choose one of embedding, softmax"):
        build_segmenter(head="linear", backbone="tiny", num_classes=3)
    with pytest.raises(InputError, match="unknown normalisation order 'never'"):
        embedding_segmenter(normalise="never")


@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_half_precision_is_upsampled_as_in_bands(head: str) -> None:
    model = embedding_segmenter(head=head) if head == "embedding" else build_segmenter(head=head, backbone="tiny", num_classes=9)
    features = torch.randn(2, 5 if head == "embedding" else 9, 6, 8).bfloat16()
    whole = model.upsample(features, (21, 30))
    assert whole.dtype == torch.float32
    torch.testing.assert_close(whole[:, :, 4:9], model.finish(upsample_rows(features, (21, 30), 4, 9)), rtol=1e-5, atol=1e-5)
