"""How stored samples become what synthesis trains and is tested on, and how layouts come to the size of an image to be made."""

from shared.data.loader import Transform
from shared.data.spec import Sample, SegmentationDataset
from shared.data.transforms import SynthTransform
from shared.errors import InputError
from synth.config import InputConfig
from synth.semantics.edges import NO_INSTANCES


def train_transform(config: InputConfig, *, multiple: int = 32) -> Transform:
    """multiple: sides that the generator can make are multiples of it; modes that neither crop nor fix the size round to it.

    Raises InputError when called with a picture that does not come out at the size of the generator's images.
    """
    return OfOneSize(config, SynthTransform(config.size, mode=config.mode, load_size=config.load_size, flip=config.flip, multiple=multiple))


def eval_transform(config: InputConfig, *, multiple: int = 32) -> Transform:
    """As `train_transform`, but without augmentation: no flip, not enlarged before a crop, which is from the middle."""
    return OfOneSize(config, layout_transform(config, multiple=multiple))


def require_instances(config: InputConfig, dataset: SegmentationDataset) -> None:
    """Raise InputError where borders of instances are wanted and the data set has none."""
    if config.instance_edges and dataset[0].instance_map is None:
        raise InputError(NO_INSTANCES)


def layout_transform(config: InputConfig, *, multiple: int = 32) -> SynthTransform:
    """As `eval_transform`, but pictures may come out at different sizes, in modes that neither crop nor fix the size."""
    return SynthTransform(config.size, mode=config.mode, flip=False, random_crop=False, multiple=multiple)


class OfOneSize:
    """A transform whose results all have the size that the generator is trained to make."""

    def __init__(self, config: InputConfig, transform: SynthTransform) -> None:
        self.size, self.mode, self.transform = tuple(config.size), config.mode, transform

    def __call__(self, sample: Sample) -> Sample:
        result = self.transform(sample)
        (height, width), (made_height, made_width) = self.size, result.image.shape[1:]
        if (made_height, made_width) != self.size:
            raise InputError(
                f"{sample.name} becomes {made_height}x{made_width} in input.mode {self.mode}, but input.size is {height}x{width} "
                "(height x width); use mode fixed, or one that crops"
            )
        return result
