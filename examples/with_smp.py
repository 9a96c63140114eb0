"""A model of segmentation_models_pytorch with class embeddings in place of its class scores: `python examples/with_smp.py`."""

import segmentation_models_pytorch as smp
import torch
from torch import nn

from seg.model import EmbeddingHead


class SmpWithEmbeddings(nn.Module):
    """Any model of the library: its encoder and decoder, and our head in the place of its own."""

    def __init__(self, model: nn.Module, num_classes: int, embedding_dim: int = 12) -> None:
        super().__init__()
        channels = model.segmentation_head[0].in_channels
        model.segmentation_head = nn.Identity()
        self.model = model
        self.head = EmbeddingHead(channels, num_classes, embedding_dim, ignore_index=255)

    def forward(self, images: torch.Tensor, label_map: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, 3, H, W) and label maps (N, H, W) → the loss; images alone → class ids (N, H, W)."""
        features = self.model(images)
        if label_map is None:
            return self.head.predict(features, images.shape[2:])
        return self.head.loss(features, label_map)


def main(num_classes: int = 1284, steps: int = 3) -> None:
    torch.manual_seed(0)
    # before: smp.FPN("resnet18", classes=num_classes), with scores (N, C, H, W)
    model = SmpWithEmbeddings(smp.FPN("resnet18", encoder_weights=None), num_classes)
    images, label_map = torch.rand(2, 3, 64, 96), torch.randint(num_classes, (2, 64, 96))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(images, label_map)
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")
    print(f"class ids of the first row: {model.eval()(images)[0, 0, :8].tolist()}")


if __name__ == "__main__":
    main()
