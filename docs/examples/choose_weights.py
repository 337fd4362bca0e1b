"""Stylize one photograph with several content weights, side by side."""

import torch

from nst import FeatureExtractor, StyleTransfer, save_image

extractor = FeatureExtractor()  # loaded once, for all of them
pictures = []
for weight in (0.003, 0.01, 0.03, 0.1):
    transfer = StyleTransfer(extractor, content_weight=weight, size=256, num_steps=60)
    result = transfer.run("photo.jpg", "painting.jpg")
    content, style = (result.history[name][-1] for name in ("content", "style"))
    print(f"{weight}: content {content / weight:.2f}, style {style:.3f}")
    pictures.append(result.image)

save_image(torch.cat(pictures, dim=-1), "weights.png")
