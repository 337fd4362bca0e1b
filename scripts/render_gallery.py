"""Make the pictures of the gallery by the commands on its page, and the row of the README.

python scripts/render_gallery.py [NAME ...]

All of them by default, which takes about twenty minutes on two CPU cores. Each command runs in
`docs/images`, where the photographs and paintings are.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nst import load_image, save_image
from nst.cli import main as cli
from nst.images import resize

DOCS = Path(__file__).parent.parent / "docs"


def read_commands(page: Path = DOCS / "gallery.md") -> Mapping[str, list[str]]:
    """Return the arguments of every `nst` command on a page, by the name of its output file."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("nst ")]
    return {Path(each[each.index("-o") + 1]).stem: each for each in commands if "-o" in each}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures that are named, or all."""
    commands = read_commands()
    parser = argparse.ArgumentParser(description="Make the pictures of the gallery.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(commands))
    options = parser.parse_args(arguments)
    os.chdir(DOCS / "images")
    for name in options.names or commands:
        status = cli.main([*commands[name], "--quiet"])
        if status:
            sys.exit(status)
    save_row(
        "photographs/temple.jpg", "paintings/starry-night.jpg", "gallery/temple-starry-night.jpg"
    )


def save_row(*paths: str, height: int = 300) -> None:
    """Save `hero.jpg`: pictures side by side."""
    images = [load_image(path) for path in paths]
    row = [
        resize(each, (height, round(each.shape[-1] * height / each.shape[-2]))) for each in images
    ]
    save_image(torch.cat(row, dim=-1), "hero.jpg", quality=90)


if __name__ == "__main__":
    main()
