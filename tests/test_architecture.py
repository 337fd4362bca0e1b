"""The layers of the library: a module imports only from layers below its own, or from its part."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nst

ROOT = Path(nst.__file__).parent
LAYERS = [
    {"_utils"},
    {"functional", "images", "color", "video"},
    {"losses", "extractors", "_network", "callbacks", "optim"},
    {"styles"},
    {"_engine", "result"},
    {"_record"},
    {"presets", "_batch", "estimate", "plotting", "testing"},
    {"transfer", "__init__"},
    {"cli", "__main__"},
]
LAYER = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
# What a part may import of its own layer.
NEIGHBORS = {("extractors", "_network"), ("_engine", "result"), ("__init__", "transfer")}
NEIGHBORS |= {("__main__", "cli"), ("video", "images")}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nst":
            names = (node.module or "").split(".")[1:2] or [alias.name for alias in node.names]
            yield from (name for name in names if name in LAYER)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_import_only_from_lower_layers(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in set(imports(path)) - {part}:
        assert LAYER[other] < LAYER[part] or (part, other) in NEIGHBORS, f"{part} imports {other}"
