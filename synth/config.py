"""Settings of the synthesis programs."""

from dataclasses import dataclass, field
from typing import Literal

from shared.config import TrainConfig
from shared.data.config import DataConfig
from shared.data.transforms import SynthMode, SynthTransform
from shared.errors import InputError
from synth.semantics.build import require_semantics


@dataclass
class InputConfig:
    """How images and label maps become training samples."""

    size: tuple[int, int] = (64, 128)
    """(height, width) in pixels of the images that the generator makes."""
    mode: SynthMode = "fixed"
    """How pictures come to the size; names are the published ones. fixed: resized to it, whatever the proportions. crop: cropped to it.
    resize_and_crop, scale_width_and_crop, scale_shortside_and_crop: before the crop, resized to load_size, to its width in proportion, or
    in proportion until the short side is the smaller of load_size. scale_width, scale_shortside: resized in proportion to the size. none:
    as they are. These three round both sides to what the generator can make, and every picture must come out at the size."""
    load_size: tuple[int, int] | None = None
    """(height, width) in pixels before the random crop of the training (modes ending in _and_crop). Null: the size, which is also what
    evaluation takes."""
    flip: bool = True
    """Mirror half of the training samples left to right."""
    instance_edges: bool = False
    """Add a channel that marks borders of instances and of labels; needs a data set with instances."""

    def __post_init__(self) -> None:
        SynthTransform(self.size, mode=self.mode, load_size=self.load_size)  # refuses sizes and modes that contradict each other


@dataclass
class GeneratorConfig:
    """The SPADE generator."""

    width: int = 16
    """Channels of the last block (ngf); 64 in the published networks."""
    hidden: int = 32
    """Channels between a layer's semantics and its scale and shift; 128 in the published networks."""
    upsampling: Literal["normal", "more", "most"] = "normal"
    """Doublings of the size from the first block to the image: 5, 6 or 7."""
    norm: Literal["batch", "sync", "instance"] = "batch"
    """Parameter-free normalisation that SPADE modulates; sync shares statistics between processes."""
    style_dim: int | None = None
    """Size of the style code; its encoder is trained along and gives many images per layout. Null: one image per layout."""
    noise_channels: int = 0
    """Channels of noise beside the semantics, which gives many images per layout without a style encoder; 64 in OASIS. 0: none."""
    noise: Literal["image", "region", "pixel"] = "image"
    """What shares a vector of noise: an image (as published), the pixels of a class in an image, or nothing: each pixel has its own."""
    init_gain: float = 1.0
    """Deviation of the first weights, in that of Xavier's rule. With 0.02, as published, the first steps of a high learning rate replace
    them altogether."""

    def __post_init__(self) -> None:
        if not self.init_gain > 0:
            raise InputError(f"generator.init_gain is {self.init_gain}; it must be above 0")


Discriminator = Literal["multiscale", "oasis", "oasis_embedding"]
Perceptual = Literal["auto", "vgg19", "efficientnet_lite0", "none"]


@dataclass
class DiscriminatorConfig:
    """The discriminator."""

    name: Discriminator = "multiscale"
    """multiscale: is this patch real, given the semantics (SPADE). oasis: which class is this pixel, or is it fake (OASIS); memory grows
    with pixels x classes. oasis_embedding: the same question, answered by a vector per pixel that is compared with the class vectors of
    the semantics; it does not grow with the number of classes."""
    width: int = 16
    """Channels of the first layer; 64 in SPADE's networks (ndf), 128 in OASIS's."""
    num_scales: int = 2
    """Copies that look at the image and at its halvings (multiscale)."""
    num_layers: int = 4
    """Strided and plain layers before the prediction (multiscale)."""
    semantics: Literal["same", "onehot"] = "same"
    """What the discriminator sees of the label map: the generator's semantics, or one-hot in every arm (multiscale)."""
    depth: int = 4
    """Halvings of the image, 1 to 6 (oasis, oasis_embedding); 6 in the published network, for 256 pixels and more."""
    temperature: float = 0.1
    """Divides the products of pixel vectors and class vectors (oasis_embedding); with 1 and the identity as table it is oasis."""
    num_neighbours: int | None = None
    """Compare a pixel with the classes of the batch, and so many nearest classes of each, in place of all classes (oasis_embedding): then
    the time of a step does not depend on the number of classes either. Null: with all, exactly."""
    encoder: str | None = None
    """What takes the place of the way down and learns no more (oasis, oasis_embedding): efficientnet_lite0 with its ImageNet weights, or
    the encoder file of a segmentation run. Null: nothing."""
    begin: float = 1.0
    """Share of the steps, 0 to 1, after which the discriminator takes part: before it, the generator learns from the perceptual loss alone,
    which gives better pictures in minutes. 0: from the start, as published, and always so without a perceptual loss; 1: never."""

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= 1:
            raise InputError(f"discriminator.begin is {self.begin}; it must be a share of the steps, 0 to 1")
        if self.num_neighbours is not None and self.num_neighbours < 0:
            raise InputError(f"discriminator.num_neighbours is {self.num_neighbours}; it must be 0 or more, or null for all classes")


@dataclass
class LossConfig:
    """Terms of the generator's loss."""

    gan_mode: Literal["hinge", "ls", "original", "w"] = "hinge"
    """Adversarial loss (multiscale)."""
    feature_weight: float = 10.0
    """Weight of matching the discriminator's features of the real image (multiscale)."""
    label_mix_weight: float = 10.0
    """Weight of LabelMix: mixtures of real and made images must be judged as mixtures (oasis, oasis_embedding); 5 or 10 as published."""
    perceptual: Perceptual = "auto"
    """Network of the perceptual loss, frozen: vgg19, as published, whose weights are downloaded where they are missing;
    efficientnet_lite0, whose weights are installed; none; auto: vgg19 where its weights are at hand, else efficientnet_lite0."""
    vgg_weight: float = 10.0
    """Weight of the perceptual loss, whatever its network; 0: none."""
    vgg_weights: str | None = None
    """File with torchvision's VGG-19 weights. Null: the torch cache, or (perceptual vgg19) download."""
    texture_weight: float = 1.0
    """Weight, within the perceptual loss, of means and deviations of the features in 4 x 4 cells of the image, beside that of the features
    place by place (perceptual efficientnet_lite0): textures as rough as the real ones. 0: none."""
    kl_weight: float = 0.05
    """Weight of the style code's divergence from its prior (with generator.style_dim)."""


@dataclass
class SynthTrainConfig(TrainConfig):
    """Optimisation: Adam with two time scales, constant rate and then linear to zero. The defaults are for a few hundred steps on scenes;
    configs/synth has those of long trainings."""

    steps: int = 300
    """Updates in all."""
    batch_size: int = 4
    """Images per pass and process."""
    learning_rate: float = 4e-3
    """Base rate; with two time scales the generator has half of it and the discriminator twice. 2e-4 in the published trainings, which are
    a thousand times longer."""
    two_time_scales: bool = True
    """TTUR with betas (0, 0.9); otherwise the base rate for both with betas (0.5, 0.999)."""
    fresh_fakes: bool = True
    """Generate again, with the updated generator, for the discriminator's update, as the published loop does; false shows it the images
    of the generator's update, which takes a quarter less time."""
    decay_from: float = 0.5
    """Share of the steps after which the rate falls linearly to zero."""
    clip_norm: float | None = None
    """Largest norm of an update's gradient, for both networks. Null: no limit, as published."""
    recompute: bool = False
    """Compute the features inside the generator's blocks again in the backward pass, in place of keeping them: same results, less memory,
    more time."""
    channels_last: bool = False
    """Keep the images' channels side by side in memory: same results up to rounding; faster on GPUs with tensor cores."""
    compile: bool = False
    """Compile the discriminator with torch.compile: same results up to rounding; a minute more at the start."""
    ema_decay: float | None = 0.98
    """Decay per step of an average of the generator's weights, which is then what generates. Null: no average, as published."""
    sample_every: int = 200
    """Steps between sample pictures in TensorBoard."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"train.clip_norm is {self.clip_norm}; it must be above 0, or null for no limit")


@dataclass
class Protocol:
    """What every arm of a comparison has in common."""

    data: DataConfig = field(default_factory=DataConfig)
    """The data set."""
    input: InputConfig = field(default_factory=InputConfig)
    """Size and augmentation."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminator."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The losses."""
    train: SynthTrainConfig = field(default_factory=SynthTrainConfig)
    """Length and optimisation."""


@dataclass
class SynthConfig(Protocol):
    """Train a SPADE generator whose condition at a pixel is what the chosen semantics say of its class."""

    semantics: str = "onehot"
    """The table that stands for the classes: onehot (without a one-hot tensor), random (unit vectors; random_raw: normal numbers,
    random_orthonormal: unit vectors at right angles), learned (class embeddings), or the path of a class table of any origin: .safetensors,
    .npz, .npy or .csv, rows named like the classes; onehot_dense makes the one-hot tensor and is there for comparison."""
    trainable: bool = False
    """Train the class vectors along with the generator; not for one-hot."""
    embeddings: str | None = None
    """Embedding file (learned; random takes its width). Null: the newest export of a seg.train run on the same data."""
    embedding_dim: int = 8
    """Width of random semantics when there is no embedding file to take it from."""
    run_dir: str | None = None
    """Folder of the run; continues the run that is there. Null: the next free runs/synth.train/<data>-<semantics>-<number>."""
    dry_run: bool = False
    """Resolve, check data and embeddings, print, and stop."""

    def __post_init__(self) -> None:
        require_semantics(self.semantics)


FREE_ON_RESUME = {
    *("run_dir", "dry_run", "embeddings", "data.root", "data.num_workers", "data.max_pixels"),
    *("train.steps", "train.stop_after", "train.save_every", "train.threads", "train.recompute", "train.not_finite"),
    *("train.tf32", "train.deterministic"),
}
"""Settings that a continued training may change."""
