"""Values that every part of the project agrees on."""

IGNORE_INDEX = -1
"""Label of pixels that count in no loss and no metric."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per-channel statistics that the pretrained backbones expect of RGB images in [0, 1]."""
