"""Train a small network to paint in one style, in a single pass per image.

This is the method of Johnson et al. (2016). For real use, replace the noise by photographs and
`painter` by a larger network, and train for an hour instead of 20 steps.
"""

# --8<-- [start:losses]
import torch
from torch import nn

from nst import ContentLoss, FeatureExtractor, GramStyleLoss, load_image

extractor = FeatureExtractor()
content_loss = ContentLoss(["relu2_2"])
style_loss = GramStyleLoss(["relu1_2", "relu2_2", "relu3_3"])
style_loss.capture(extractor(load_image("painting.jpg", size=256), style_loss.layers))
# --8<-- [end:losses]

# --8<-- [start:loop]
painter = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid()
)
optimizer = torch.optim.Adam(painter.parameters(), lr=0.01)

for step in range(20):
    photos = torch.rand(4, 3, 32, 32)
    content_loss.capture(extractor(photos, content_loss.layers))

    features = extractor(painter(photos), [*content_loss.layers, *style_loss.layers])
    loss = 0.1 * content_loss(features) + style_loss(features)

    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, float(loss.detach()))
# --8<-- [end:loop]
