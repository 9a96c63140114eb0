"""Weights in the layout of the published SPADE models: `latest_net_G.pth`, `latest_net_D.pth`, `latest_net_E.pth`.

Our parameters have the published names and shapes, except for the kernels that read the semantic map: its channels are ordered by a
`LabelConvention`, which a network that was loaded keeps, so that saving restores what was read, bit for bit.
"""

import re
from collections.abc import Callable
from os import PathLike

import torch
from torch import Tensor

from shared.errors import InputError
from shared.files.atomic import atomic_write
from synth.discriminator import MultiscaleDiscriminator
from synth.encoder import StyleEncoder
from synth.generator import DOUBLINGS, SpadeGenerator, published_image_size
from synth.published import LabelConvention, Source, convention_of, count_numbers, load_whole, onehot_kernel, read_state, require_tensor
from synth.semantics import build_semantics

READS_SEMANTICS = re.compile(r"fc\.weight|.*\.mlp_shared\.0\.weight|discriminator_\d+\.model0\.0\.weight")
"""Kernels over the semantic map (`fc` only where it is a convolution)."""


def load_official_generator(
    source: Source, *, crop_size: int, aspect_ratio: float, upsampling: str | None = None, labels: LabelConvention | None = None
) -> SpadeGenerator:
    """A published generator, in evaluation mode, driven by label maps. No one-hot tensor exists.

    Width, style, `most`, hidden width and kind of norm are read off the weights; batch and sync norm have the same ones and become batch.

    Args:
        crop_size, aspect_ratio: the published options of those names; the crop size is the width of the image.
        upsampling: normal, more or most. None: read off the weights, where they tell.
        labels: what the channels of the semantic map are. None: the classes, then the unknown one, and no edges.

    Raises:
        InputError: the file cannot be read or holds something else, the options do not fit it, or one is needed that is not given.
    """
    state, where = read_state(source, "head_0.")
    fc, bias = require_tensor(state, "fc.weight", where, 2, 4), require_tensor(state, "head_0.conv_0.bias", where, 1)
    hidden = require_tensor(state, "head_0.norm_0.mlp_shared.0.weight", where, 4)
    channels, has_style = hidden.shape[1], fc.ndim == 2
    labels = labels or convention_of(channels)
    # of a style: height × width of the first features, as `fc` has 16·ngf channels for each
    start_pixels = len(fc) // len(bias) if has_style else None
    upsampling = _choose_upsampling(state, upsampling, crop_size, aspect_ratio, start_pixels, where)
    semantics = build_semantics("onehot", labels.num_classes(channels), instance_edges=labels.instance_edges)
    generator = SpadeGenerator(
        semantics,
        image_size=published_image_size(crop_size, aspect_ratio, upsampling),
        # at least 1: a file with other shapes is then refused by the name of a tensor
        width=max(1, len(bias) // 16),
        upsampling=upsampling,
        # instance norm leaves no tensors in a state dict
        norm="batch" if "head_0.norm_0.param_free_norm.running_mean" in state else "instance",
        hidden=len(hidden),
        z_dim=fc.shape[1] if has_style else None,
    )
    generator.published_labels = labels
    return load_whole(generator, _convert(state, lambda kernel: labels.to_ours(kernel, semantics.num_classes)), where)


def load_official_discriminator(source: Source, *, labels: LabelConvention | None = None) -> MultiscaleDiscriminator:
    """A published discriminator, in evaluation mode, for pyramids of one-hot semantics; see `load_official_generator`."""
    state, where = read_state(source, "discriminator_0.")
    first = require_tensor(state, "discriminator_0.model0.0.weight", where, 4)
    channels = first.shape[1] - 3
    labels = labels or convention_of(channels)
    num_classes = labels.num_classes(channels)
    discriminator = MultiscaleDiscriminator(
        build_semantics("onehot", num_classes, instance_edges=labels.instance_edges),
        width=len(first),
        num_scales=count_numbers(state, r"discriminator_(\d+)\..*"),
        # one of them predicts, and is not counted
        num_layers=max(1, count_numbers(state, r"discriminator_0\.model(\d+)\..*") - 1),
    )
    discriminator.published_labels = labels
    return load_whole(discriminator, _convert(state, lambda kernel: labels.to_ours(kernel, num_classes)), where)


def load_official_encoder(source: Source) -> StyleEncoder:
    """A published style encoder, in evaluation mode. It reads images of 256×256, or 128×128 where the sixth layer is missing."""
    state, where = read_state(source, "fc_mu.")
    first, head = require_tensor(state, "layer1.0.weight_orig", where, 4), require_tensor(state, "fc_mu.weight", where, 2)
    image_size = 4 * 2 ** count_numbers(state, r"layer(\d+)\..*")
    return load_whole(StyleEncoder(image_size=image_size, width=len(first), z_dim=len(head)), state, where)


def official_state(network: SpadeGenerator | MultiscaleDiscriminator | StyleEncoder, table: Tensor | None = None) -> dict[str, Tensor]:
    """The state dict of a network as the published code has it, on the CPU.

    Semantics become one-hot: a table is multiplied into the kernels that read it, which is exact.

    Args:
        table: that of the semantics which a discriminator has seen; a generator brings its own.

    Raises:
        InputError: ignored pixels show something that the published layout of this network has no channel for.
    """
    state = {key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}
    if isinstance(network, StyleEncoder):
        return state
    if isinstance(network, SpadeGenerator) and network.noise_channels:
        raise InputError("this generator has noise beside its semantics, and the published layout has none")
    labels, table = network.published_labels, state.pop("semantics.table", None if table is None else table.cpu())
    image_channels = 3 if isinstance(network, MultiscaleDiscriminator) else 0

    def published(kernel: Tensor) -> Tensor:
        kernel = onehot_kernel(kernel, table)
        return labels.to_published(kernel, kernel.shape[1] - 1 - labels.instance_edges - image_channels)

    return _convert(state, published)


def save_official(
    network: SpadeGenerator | MultiscaleDiscriminator | StyleEncoder, path: str | PathLike[str], table: Tensor | None = None
) -> None:
    """Write `official_state` as a .pth file that the published code loads, whole or not at all."""
    state = official_state(network, table)
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def published_options(generator: SpadeGenerator) -> str:
    """The command line options with which the published code constructs this generator."""
    (height, width), block, unknown = generator.image_size, generator.head_0, generator.published_labels.unknown
    norm = "instance" if generator.norm == "instance" else "syncbatch"
    options = [f"--norm_G spectralspade{norm}3x3 --ngf {block.conv_0.in_channels // 16} --num_upsampling_layers {generator.upsampling}"]
    options.append(f"--crop_size {width} --aspect_ratio {width / height:g} --label_nc {generator.semantics.num_classes}")
    options += ["--contain_dontcare_label"] if unknown != "none" else []
    options += [] if generator.semantics.instance_edges else ["--no_instance"]
    options += [f"--use_vae --z_dim {generator.z_dim}"] if generator.z_dim is not None else []
    fixed = {  # numbers that the published code has no option for
        "hidden width": (block.norm_0.mlp_gamma.in_channels, 128),
        "style length": (generator.z_dim or 256, 256),
    }
    notes = [f"{name} {ours} where it has {theirs} written in" for name, (ours, theirs) in fixed.items() if ours != theirs]
    return " ".join(options) + (f" (and {', '.join(notes)})" if notes else "")


def _choose_upsampling(
    state: dict[str, Tensor], given: str | None, crop_size: int, aspect_ratio: float, start_pixels: int | None, where: str
) -> str:
    """Which of the three the weights are of. start_pixels: of the first features, which a generator with style tells."""
    # "normal" and "more" differ in an upsampling alone, which has no weights
    possible = ["most"] if "up_4.conv_0.bias" in state else ["normal", "more"]
    if start_pixels is not None:
        possible = [name for name in possible if _start_pixels(crop_size, aspect_ratio, name) == start_pixels]
        if not possible:
            raise InputError(
                f"{where} starts from {start_pixels} pixels, which crop size {crop_size} and aspect ratio {aspect_ratio} do not give; "
                "give those that the model was trained with"
            )
    if given is None and len(possible) > 1:
        raise InputError(f"{where}: upsampling normal and more have the same weights; say which of them it was trained with")
    if given is not None and given not in possible:
        raise InputError(f"{where}: upsampling {given} was given, but the weights are of {' or '.join(possible)}")
    return given or possible[0]


def _start_pixels(crop_size: int, aspect_ratio: float, upsampling: str) -> int:
    try:
        height, width = published_image_size(crop_size, aspect_ratio, upsampling)
    except InputError:  # not even one pixel
        return 0
    return height * width // 4 ** DOUBLINGS[upsampling]


def _convert(state: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Change the kernels that read the semantic map."""
    return {key: change(value) if value.ndim == 4 and READS_SEMANTICS.fullmatch(key) else value for key, value in state.items()}
