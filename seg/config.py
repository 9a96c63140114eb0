"""Settings of the segmentation programs."""

from dataclasses import dataclass, field, replace
from typing import Literal

from shared.backbone import LITE0
from shared.config import TrainConfig
from shared.data.config import DataConfig
from shared.errors import InputError

FREQUENCY_RULES = ("median_frequency", "inverse_sqrt")
"""Values of loss.class_weights that need the counts of the training split; any other is a file."""


@dataclass
class ModelConfig:
    """The segmentation network."""

    backbone: str = "auto"
    """Encoder of DeepLabV3+: tiny (for small made scenes on CPUs); efficientnet_lite0, whose ImageNet weights come with the installation;
    mobilenet_v2, resnet50, resnet101 with torchvision's weights; any other encoder of timm by its name there, such as convnext_tiny. Or
    smp/<architecture>/<encoder>, such as smp/segformer/mit_b0: any network of segmentation_models_pytorch, without output_stride, width
    and norm. auto: tiny for the data scenes, efficientnet_lite0 for others."""
    pretrained: bool | None = None
    """Start the encoder from ImageNet weights: of the installed package (efficientnet_lite0), from the cache of torch or of Hugging
    Face, or by download. Null: true for efficientnet_lite0 without model.weights."""
    weights: str | None = None
    """File with the encoder's weights (.pth in the layout of torchvision for its three, of timm for others). The file of a network that
    was trained elsewhere is always given as weights: in the section of the network (model.weights), behind its name (loss.vgg_weights),
    beside --features (--weights)."""
    output_stride: Literal[8, 16, 32] = 16
    """Input size over the size of the encoder's last features; 32 for encoders of timm that cannot dilate."""
    width: int | None = None
    """Channels of the ASPP and the decoder. Null: 64 for tiny, 128 for efficientnet_lite0, otherwise the paper's 256."""
    embedding_dim: int = 12
    """D, channels of the pixel and class embeddings (head embedding)."""
    norm: Literal["batch", "sync", "group"] = "batch"
    """Normalisation of encoder and head; sync shares the statistics of batch between processes, group has 16 channels per group
    (the paper's Table 5 has both)."""
    dropout: float = 0.1
    """Share of the features behind the ASPP that training leaves out at random."""
    normalise: Literal["after_upsampling", "before_upsampling"] = "after_upsampling"
    """Where pixel embeddings get unit norm: the paper's order, or the released code's."""


@dataclass
class LossConfig:
    """The embedding loss (head embedding), and how the loss of either head counts pixels and is computed."""

    candidates: Literal["all", "neighbours"] = "all"
    """Classes that a pixel's softmax runs over: all of them, or its target and the nearest ones (the paper)."""
    num_neighbours: int = 6
    """k, nearest class embeddings that a pixel is compared with, besides its target (candidates neighbours)."""
    temperature: float | Literal["learned"] = "learned"
    """tau; logit = -squared distance / temperature (distance squared). learned: a parameter, which starts soft and is logged. The paper:
    0.05."""
    distance: Literal["squared", "plain"] = "squared"
    """Squared Euclidean distance (the paper) or Euclidean (its released code)."""
    scale: float = 20.0
    """Logit = -scale x distance (distance plain)."""
    margin: float = 0.2
    """Smallest wanted distance between two class embeddings."""
    margin_weight: float = 1.0
    """Weight of the regulariser that keeps class embeddings apart."""
    class_weights: str | None = None
    """What a pixel counts, by its class (both heads): median_frequency or inverse_sqrt, from the frequencies of the training split, or a
    csv file with a line "class name, weight" per class. Null: all pixels alike."""
    hardest: float | None = None
    """Online hard example mining (both heads): share of a batch's valid pixels, those with the largest loss, that count. Null: all."""
    impl: Literal["auto", "reference", "chunked", "numba", "triton"] = "auto"
    """Implementation of the loss: chunked runs everywhere, numba on CPUs, triton on GPUs; auto is the fastest there is."""
    search: Literal["auto", "torch", "faiss", "numba", "triton"] = "auto"
    """Backend of the exact search for the nearest classes, for implementations that do not search themselves."""
    band_rows: int | None = None
    """Rows of the output that are upsampled at a time, so that no full-resolution output is stored (both heads). Null: all."""

    @property
    def fixed_temperature(self) -> float:
        """What the loss divides by: 1 where the class vectors bring a learned temperature (`LearnedTemperature.sharpen`)."""
        return 1.0 if self.temperature == "learned" else self.temperature

    def __post_init__(self) -> None:
        if self.band_rows is not None and self.band_rows < 1:
            raise InputError(f"loss.band_rows is {self.band_rows}; it must be at least 1")
        if self.temperature != "learned" and not self.temperature > 0:
            raise InputError(f"loss.temperature is {self.temperature}; it must be above 0, or learned")
        if self.hardest is not None and not 0 < self.hardest <= 1:
            raise InputError(f"loss.hardest is {self.hardest}; it must be above 0 and at most 1, or null")


@dataclass
class InputConfig:
    """Size and augmentation of the training images."""

    resize: tuple[int, int] | None = None
    """(height, width) in pixels that every image and label map is resized to first, in training and evaluation. Null: as stored."""
    crop: tuple[int, int] | None = None
    """(height, width) in pixels of the training crop. Null: the whole image, of the size of the resized or stored one."""
    scale: tuple[float, float] = (0.75, 1.5)
    """Range of the random factor that training images are scaled with before the crop."""
    flip: bool = True
    """Mirror half of the training images left to right."""
    jitter: float = 0.2
    """Strength of random brightness, contrast and saturation, 0 to 1."""


@dataclass
class SamplingConfig:
    """How training favours rare classes in what it reads; see `statistics` for where their frequencies come from."""

    repeat_threshold: float | None = None
    """Share of the images, 0 to 1: an image is read sqrt(threshold / share) times an epoch where its rarest class is in a smaller share of
    the images than this (LVIS: 0.001). Null: every image once."""
    class_crop: float | None = None
    """Probability, 0 to 1, that a crop is centred at a pixel of a class drawn among those of the image, each with weight
    1 / sqrt(its share of all pixels). Null: crops lie anywhere."""

    def __post_init__(self) -> None:
        for name in ("repeat_threshold", "class_crop"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"sampling.{name} is {value}; it must be above 0 and at most 1, or null")


@dataclass
class SegTrainConfig(TrainConfig):
    """Optimisation, with rates that fall as the paper's."""

    steps: int = 400
    """Optimizer updates in all."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, whose decay leaves out norms, biases and class embeddings; or the paper's sgd, with momentum."""
    learning_rate: float = 2e-3
    """Of the head at the start, after the warm-up. adamw: about 0.002; sgd: 0.1 from random weights, 0.01 from pretrained ones."""
    warmup: float = 0.05
    """Share of the steps, 0 to 1, in which the rates rise from 0. The paper: 0."""
    backbone_factor: float = 1.0
    """The encoder's learning rate over the head's; 0.1 for pretrained encoders."""
    weight_decay: float = 0.01
    """adamw: share of a weight that an update takes away, over the rate; sgd: L2 penalty on every parameter, 0.0001 in the paper."""
    class_turn: float | None = 2.0
    """Degrees that a class embedding turns in a step at most (head embedding), whatever its norm, its size and the optimizer: it moves on
    the sphere. Null: its raw vector is trained as the head's parameters are, as in the paper."""
    clip_norm: float | None = None
    """Largest norm of an update's gradient. The logged gradient_norm is that before, and clipped is the share of updates that were cut:
    where that is not near 0, the limit sets the learning rate. Null: no limit."""
    eval_every: int = 200
    """Steps between evaluations on the validation split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warmup <= 1:
            raise InputError(f"train.warmup is {self.warmup}; it must be a share of the steps, 0 to 1")
        for name in ("clip_norm", "class_turn"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"train.{name} is {value}; it must be above 0, or null")


@dataclass
class ClassesConfig:
    """Where the class embeddings come from (head embedding)."""

    table: str | None = None
    """File with a vector per class, of any origin, such as text embeddings (.safetensors, .npz, .npy, .csv): the network learns to hit
    these, and embedding_dim is their length. Null: random ones, which are learned."""
    trainable: bool = False
    """Learn the vectors of the table too, from where they are."""

    def __post_init__(self) -> None:
        if self.trainable and self.table is None:
            raise InputError("classes.trainable is about classes.table, which is not given; without a table, vectors are always learned")


@dataclass
class SegConfig:
    """Train a segmentation network whose head gives pixel embeddings or, as the baseline, class scores; export its class embeddings."""

    head: Literal["embedding", "softmax"] = "embedding"
    """What the network gives for a pixel: a D-dimensional embedding, or the baseline's C class scores."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data set."""
    input: InputConfig = field(default_factory=InputConfig)
    """Size and augmentation."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Which images and crops are read."""
    statistics: str | None = None
    """File with the counts of the training split, statistics_train.safetensors of python -m shared.data stats -o DIR: what sampling and
    class weights by frequency need. Null: where it is needed, they are counted at the start, and kept in the run directory."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    """The class embeddings."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The embedding loss."""
    train: SegTrainConfig = field(default_factory=SegTrainConfig)
    """Length and optimisation."""
    run_dir: str | None = None
    """Folder of the run; continues the run that is there. Null: the next free runs/seg.train/<data>-<head>-<number>."""
    dry_run: bool = False
    """Resolve, check data and weights, print, and stop."""

    def __post_init__(self) -> None:
        if self.classes.table is not None and self.head == "softmax":
            raise InputError("classes.table gives class embeddings, which head softmax does not have; leave one of them out")
        model = self.model
        backbone = model.backbone
        if backbone == "auto":
            backbone = "tiny" if self.data.name == "scenes" else LITE0
        pretrained = backbone == LITE0 and model.weights is None if model.pretrained is None else model.pretrained
        self.model = replace(model, backbone=backbone, pretrained=pretrained)

    @property
    def learns_temperature(self) -> bool:
        """Whether the loss has a temperature that is trained."""
        return self.head == "embedding" and self.loss.distance == "squared" and self.loss.temperature == "learned"

    @property
    def needs_statistics(self) -> bool:
        """Whether a setting depends on how often the classes occur."""
        sampled = self.sampling.repeat_threshold is not None or self.sampling.class_crop is not None
        return sampled or self.loss.class_weights in FREQUENCY_RULES

    def require_classes(self, num_classes: int) -> None:
        """Refuse settings that the data set's class count makes impossible."""
        searched = self.head == "embedding" and self.loss.candidates == "neighbours"
        if searched and self.loss.num_neighbours > num_classes:
            raise InputError(
                f"loss.num_neighbours is {self.loss.num_neighbours} but {self.data.name} has {num_classes} classes; "
                f"set --loss.num_neighbours to {num_classes} or less, or --loss.candidates all"
            )


FREE_ON_RESUME = {
    "run_dir",
    "dry_run",
    "data.root",
    "data.num_workers",
    "data.max_pixels",
    "train.steps",
    "train.stop_after",
    "train.save_every",
    "train.not_finite",
    "train.device",
    "train.tf32",
    "train.deterministic",
}
"""Settings that a continued run may change."""
