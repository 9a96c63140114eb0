"""torchvision's DeepLabV3 with class embeddings in place of its class scores: `python examples/with_torchvision.py`."""

import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50

from seg.model import EmbeddingHead


class DeepLabWithEmbeddings(nn.Module):
    """`model(images)["out"]` would bring the features to the size of the images, 256 numbers a pixel; so its two parts are called here."""

    def __init__(self, num_classes: int, embedding_dim: int = 12) -> None:
        super().__init__()
        # weights_backbone="DEFAULT" starts from ImageNet's, which torchvision downloads
        model = deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=False)
        *layers, scores = model.classifier
        self.backbone, self.classifier = model.backbone, nn.Sequential(*layers)
        self.head = EmbeddingHead(scores.in_channels, num_classes, embedding_dim, ignore_index=255)

    def forward(self, images: torch.Tensor, label_map: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, 3, H, W) and label maps (N, H, W) → the loss; images alone → class ids (N, H, W)."""
        features = self.classifier(self.backbone(images)["out"])
        if label_map is None:
            return self.head.predict(features, images.shape[2:])
        return self.head.loss(features, label_map)


def main(num_classes: int = 1284, steps: int = 2) -> None:
    torch.manual_seed(0)
    model = DeepLabWithEmbeddings(num_classes)
    images, label_map = torch.rand(2, 3, 48, 64), torch.randint(num_classes, (2, 48, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(images, label_map)
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")
    print(f"class ids of the first row: {model.eval()(images)[0, 0, :8].tolist()}")


if __name__ == "__main__":
    main()
