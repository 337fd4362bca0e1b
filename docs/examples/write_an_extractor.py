"""A custom network instead of VGG19."""

# --8<-- [start:network]
from torch import nn


class EdgeNet(nn.Module):
    """Two layers of random filters."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 16, 3, padding=1)
        self.coarse = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.requires_grad_(False)

    def forward(self, images, layers):
        fine = self.fine(images).relu()
        coarse = self.coarse(fine).relu()
        features = {"fine": fine, "coarse": coarse}
        return {name: features[name] for name in layers}


# --8<-- [end:network]


# --8<-- [start:run]
from nst import ContentLoss, GramStyleLoss, StyleTransfer

losses = {
    "content": ContentLoss(["coarse"], weight=0.01),
    "style": GramStyleLoss(["fine", "coarse"]),
}
result = StyleTransfer(EdgeNet(), losses).run("photo.jpg", "painting.jpg")
result.save("edges.png")
# --8<-- [end:run]
