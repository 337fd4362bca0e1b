"""Run candidates for the default on pairs of pictures, and judge the results.

    python benchmarks/candidates.py --images FOLDER --output FOLDER [--size 512]
                                    [--candidates default strokes motifs1@120 ...]
                                    [--pairs town-starry-night ...] [--pairs-file pairs.json]

A candidate is a name of `CANDIDATES`, with `@` and a number of steps if not the usual number;
`motifs1@120` was the default before.
Every picture is saved to the output folder, and every result appended to its `results.jsonl`.
Pairs and candidates that are there already are skipped, so the command resumes after a stop.
`python benchmarks/sheets.py` shows the pictures side by side.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from _machine import describe_machine
from _metrics import load_pair
from _pictures import Pair, find_picture, read_pairs
from judge import Judge, Scores, load_network
from nst import (
    ContentLoss,
    FeatureExtractor,
    Features,
    GramStyleLoss,
    Loss,
    NearestNeighborStyleLoss,
    StyleTransfer,
    TotalVariationLoss,
    WassersteinStyleLoss,
    save_image,
    style_layers,
)
from nst.functional import nearest_neighbor_error, sample_positions
from nst.presets import PRESETS, preset

__all__ = ["CANDIDATES", "REFERENCES", "Result", "picture_path", "read_results"]

REFERENCES = ("photograph", "painting")
"""Names under which the scores of the photograph and the painting themselves are stored."""
_PAIRS = Path(__file__).parent / "pairs.json"


class Result(NamedTuple):
    """A line of `results.jsonl`."""

    pair: str
    candidate: str
    size: int
    seconds: float
    scores: Scores

    @classmethod
    def from_line(cls, line: str) -> Result:
        """Read a line."""
        fields = json.loads(line)
        return cls(**{**fields, "scores": Scores(**fields["scores"])})

    def to_line(self) -> str:
        """Return a line."""
        return json.dumps({**self._asdict(), "scores": self.scores._asdict()}) + "\n"


def changed(
    losses: Callable[[], dict[str, Loss]] = dict,
    network: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Callable[..., StyleTransfer]:
    """Return a function that creates the default with other losses, network or arguments."""

    def create(**options: Any) -> StyleTransfer:
        if network is not None:
            options["extractor"] = FeatureExtractor(**network)
        merged = {**preset("default")["losses"], **losses()}
        return StyleTransfer(losses=merged, **{**changes, **options})

    return create


def motifs(weight: float, preset_name: str = "default") -> Callable[..., StyleTransfer]:
    """Return a function that creates a preset with more or fewer motifs."""
    return partial(StyleTransfer.from_preset, preset_name, motifs=weight)


def content(weight: float) -> Callable[..., StyleTransfer]:
    """Return a function that creates the default with another weight of the content."""
    return changed(lambda: {"content": ContentLoss(weight=weight)})


def both() -> dict[str, Loss]:
    """Return the Gram and the Wasserstein loss of four layers, half and half."""
    return {
        "style": GramStyleLoss(style_layers(0), weight=0.5),
        "distribution": WassersteinStyleLoss(style_layers(0), weight=0.5),
    }


class HypercolumnStyleLoss(Loss):
    """Makes every position similar to one of the style, by the features of all layers joined.

    After Kolkin et al., "Neural Neighbor Style Transfer" (2022): each layer at the resolution of
    relu3_1, divided by its norm; the nearest are searched again in every step.
    """

    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    reference = "style"

    def capture(self, references: Any, blend: Sequence[float] | None = None) -> None:
        """Store 4096 positions of the style."""
        (features,) = [references] if isinstance(references, Mapping) else references
        self.target = sample_positions(self._joined(features), 4096, seed=0)

    def forward(self, features: Features) -> Tensor:
        """Return the mean cosine distance to the nearest position of the style."""
        return nearest_neighbor_error(self._joined(features), self.target).mean()

    def _joined(self, features: Features) -> Tensor:
        height, width = features["relu3_1"].shape[-2:]
        resized = [
            F.adaptive_avg_pool2d(features[name], (height, width)) for name in self.layers[:3]
        ]
        resized.append(F.interpolate(features["relu4_1"], (height, width), mode="bilinear"))
        lengths = [each.square().mean((1, 2, 3), keepdim=True).sqrt() for each in resized]
        pairs = zip(resized, lengths, strict=True)
        return torch.cat([each / (length + 1e-8) for each, length in pairs], 1).flatten(2)


CANDIDATES: Mapping[str, Callable[..., StyleTransfer]] = {
    **{name: partial(StyleTransfer.from_preset, name) for name in PRESETS},
    "motifs0": motifs(0),
    "motifs005": motifs(0.05),
    "motifs02": motifs(0.2),
    "motifs1": motifs(1),  # with @120, the default before
    "content0003": content(0.003),
    "content003": content(0.03),
    "content01": content(0.1),
    "strokes001": motifs(0.01, "strokes"),
    "both": changed(both),
    "neighbors": changed(lambda: {"style": NearestNeighborStyleLoss()}),
    "hypercolumns": changed(lambda: {"style": HypercolumnStyleLoss()}),
    "average-pooling": changed(network={"pooling": "average"}),
    "replicate": changed(network={"padding": "replicate"}),
    "three-scales": changed(num_scales=3),
    "smoothed": changed(lambda: {"smooth": TotalVariationLoss(weight=0.003)}),
    "noise": StyleTransfer,
    "torchvision": changed(network={"weights": "torchvision"}),
    "bfloat16": changed(network={"dtype": torch.bfloat16}),
}
"""Functions by name that take options of `StyleTransfer`, such as `size` and `num_steps`."""
_INITS = {"noise": "noise"}  # of candidates that do not start from the content


def create(candidate: str, **options: Any) -> StyleTransfer:
    """Create the transfer of a candidate such as `motifs02` or `motifs02@80`.

    Raises:
        ValueError: An unknown name, or a number of steps that is none.
    """
    name, at, steps = candidate.partition("@")
    if name not in CANDIDATES or (at and not steps.isdecimal()):
        known = ", ".join(CANDIDATES)
        raise ValueError(f"There is no candidate {candidate!r}: use {known}, or one with @STEPS.")
    if at:
        options["num_steps"] = int(steps)
    return CANDIDATES[name](**options)


def picture_path(output: Path, size: int, pair: str, candidate: str) -> Path:
    """Return where the picture of a result is; the references are saved there too."""
    return output / str(size) / pair / f"{candidate}.png"


def read_results(output: Path) -> dict[tuple[str, str, int], Result]:
    """Read all results of an output folder by pair, candidate and size."""
    path = output / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    results = [Result.from_line(line) for line in lines]
    return {(each.pair, each.candidate, each.size): each for each in results}


def run(
    pairs: Mapping[str, Pair],
    candidates: Sequence[str],
    size: int,
    images: Path,
    output: Path,
) -> Iterator[Result]:
    """Run what is missing; save the pictures, append the results, and yield each.

    Raises:
        KeyboardInterrupt: Ctrl-C during a run, whose result is discarded.
    """
    done = {key for key in read_results(output) if picture_path(output, size, *key[:2]).exists()}
    extractor, network = FeatureExtractor(), load_network()
    for pair, (photo, painting, _) in pairs.items():
        missing = [name for name in (*REFERENCES, *candidates) if (pair, name, size) not in done]
        if not missing:
            continue
        paths = [find_picture(name, images, output / "made") for name in (photo, painting)]
        content, style = load_pair(str(paths[0]), str(paths[1]), size)
        judge = Judge(content, style, size=size, network=network)
        references = judge.score_references() if {*missing} & {*REFERENCES} else {}
        for name in missing:
            if name in REFERENCES:
                image, seconds = (content if name == "photograph" else style), 0.0
                scores = references[name]
            else:
                transfer = create(name, extractor=extractor, size=size)
                started = time.perf_counter()
                init = _INITS.get(name.partition("@")[0], "content")
                repainted = transfer.run(content, paths[1], init=init)
                seconds = time.perf_counter() - started
                if repainted.stop_reason == "interrupted":  # not the picture that was asked for
                    raise KeyboardInterrupt
                image = repainted.image
                scores = judge.score(image)
            path = picture_path(output, size, pair, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(image, path)
            result = Result(pair, name, size, round(seconds, 2), scores)
            with (output / "results.jsonl").open("a") as file:
                file.write(result.to_line())
            yield result


def table(results: Iterable[Result], candidates: Sequence[str]) -> str:
    """Return a Markdown table of pairs and candidates, with the mean of all pairs."""
    by_pair: dict[str, dict[str, Result]] = {}
    for result in results:
        by_pair.setdefault(result.pair, {})[result.candidate] = result
    names = (*REFERENCES, *candidates)
    lines = [
        "| gram / content / leak / edges, seconds | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for pair, found in by_pair.items():
        cells = [_cell([found[name]] if name in found else []) for name in names]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    whole = [found for found in by_pair.values() if all(name in found for name in names)]
    cells = [_cell([found[name] for found in whole]) for name in names]
    lines.append(f"| mean of {len(whole)} pairs | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(results: Sequence[Result]) -> str:
    """Return the mean scores and seconds; the references take no time."""
    if not results:
        return ""
    count = len(results)
    columns = zip(*(each.scores for each in results), strict=True)
    means = "/".join(f"{sum(column) / count:.2f}" for column in columns)
    seconds = sum(each.seconds for each in results) / count
    return re.sub(r"\b0\.", ".", means) + (f", {seconds:.0f} s" if seconds else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), metavar="NAME[@STEPS]")
    parser.add_argument("--pairs", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--pairs-file", type=Path, default=_PAIRS, help="JSON file of pairs")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    known = read_pairs(arguments.pairs_file)
    names = arguments.pairs or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no pair {unknown[0]!r} in {arguments.pairs_file}; it has {', '.join(known)}")
    try:
        for candidate in arguments.candidates:
            create(candidate, size=arguments.size)
    except ValueError as error:
        parser.error(str(error))
    print(describe_machine(), flush=True)
    pairs = {name: known[name] for name in names}
    options = arguments.candidates, arguments.size, arguments.images, arguments.output
    try:
        for result in run(pairs, *options):
            print(f"{result.pair:22} {result.candidate:16} {_cell([result])}", flush=True)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted. Run the same command to resume.") from None
    results = read_results(arguments.output)
    wanted = (*REFERENCES, *arguments.candidates)
    keys = [(pair, name, arguments.size) for pair in pairs for name in wanted]
    print(table([results[key] for key in keys], arguments.candidates))


if __name__ == "__main__":
    main()
