"""Save a picture, then make it again from the record in the file."""

# --8<-- [start:save]
from nst import StyleTransfer

transfer = StyleTransfer(size=256)
transfer.run("photo.jpg", "painting.jpg", strength=0.8).save("kept.png")
# --8<-- [end:save]

# --8<-- [start:read]
from nst.images import read_record

record = read_record("kept.png")
print(record["num_steps"], record["strength"], record["inputs"]["content"]["name"])
# --8<-- [end:read]

# --8<-- [start:again]
import torch

from nst import load_image

again = StyleTransfer.rerun("kept.png", extractor=transfer.extractor)
again.save("again.png")
print(torch.equal(load_image("kept.png"), load_image("again.png")))  # True
# --8<-- [end:again]

# --8<-- [start:change]
longer = StyleTransfer.rerun("kept.png", extractor=transfer.extractor, num_steps=200)
# --8<-- [end:change]
