"""Read how a picture of the gallery was made."""

from nst.images import read_record

record = read_record("gallery/temple-starry-night.jpg")
print(record["losses"]["content"]["weight"], record["num_steps"], record["inputs"])
