"""SGD as the paper trains: three parameter groups, whose learning rates are functions of the step alone."""


import torch

from seg.model import EmbeddingSegmenter, SoftmaxSegmenter

LEARNING_RATE_FLOOR = 1e-6


def build_optimiser(
    model: EmbeddingSegmenter | SoftmaxSegmenter,
    *,
    lr: float,
    backbone_factor: float = 0.1,
    momentum: float = 0.9,
    embedding_momentum: float = 0.95,
    power: float = 0.9,
    embedding_power: float = 0.95,
    weight_decay: float = 1e-4,
) -> torch.optim.SGD:
    """SGD with the groups "backbone", "head" and, where the model has them, "class_embeddings".

    The class embeddings have a higher momentum and a learning rate that decays faster (ESSNet, section 4.1); the numbers are the
    released code's. Weight decay acts on everything, as there; it does not turn a class embedding, it only changes the length of its raw vector.

    Args:
        model: a segmenter.
        lr: learning rate of head and class embeddings at step 0; the paper's code uses 0.01 for pretrained backbones.
        backbone_factor: learning rate of the backbone, relative to `lr`; 0.1 suits pretrained weights, 1 random ones.
        momentum, embedding_momentum: in [0, 1).
        power, embedding_power: exponents of the decay, see `set_learning_rates`.
        weight_decay: ≥ 0.
    """
