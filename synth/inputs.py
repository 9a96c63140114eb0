"""How stored samples become what synthesis trains and is tested on."""

from shared.data.transforms import SynthTransform
from synth.config import InputConfig


def train_transform(config: InputConfig) -> SynthTransform:
    return SynthTransform(config.size, mode=config.mode, load_size=config.load_size, flip=config.flip)


def eval_transform(config: InputConfig) -> SynthTransform:
    """No flip, and crops from the middle."""
    return SynthTransform(config.size, mode=config.mode, load_size=config.load_size, flip=False, random_crop=False)
