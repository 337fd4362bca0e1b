"""The table of rooms: which module may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nst

ROOT = Path(nst.__file__).parent
ALL = {path.stem for path in ROOT.glob("*.py")}

# Features, losses and callbacks do not know each other; nobody imports the loop but those who
# start it.
MAY_IMPORT: dict[str, set[str]] = {
    "_checks": set(),
    "_device": set(),
    "_covariance": set(),
    "_matching": set(),
    "functional": {"_covariance", "_matching"},
    "_weights": {"_checks"},
    "_workspace": set(),
    "_winograd": {"_workspace"},
    "_convolution": {"_winograd", "_workspace"},
    "_stage": {"_convolution", "_workspace"},
    "_shards": {"_stage"},
    "_segment": {"_stage", "_workspace"},
    "_sweep": {"_segment", "_shards", "_stage", "_workspace"},
    "_pass": {"_stage", "_sweep", "_workspace"},
    "_features": {
        "_checks",
        "_convolution",
        "_device",
        "_pass",
        "_shards",
        "_stage",
        "_sweep",
        "_weights",
        "_workspace",
    },
    "_backbone": {"_checks"},
    "_base_loss": {"_checks"},
    "_losses": {"_base_loss", "_checks", "functional"},
    "_content_losses": {"_checks", "_losses", "functional"},
    "_style_losses": {"_checks", "_losses", "functional"},
    "_matching_losses": {"_checks", "_losses", "_style_losses", "functional"},
    "_catalog": {"_content_losses", "_losses", "_matching_losses", "_style_losses"},
    "_pillow": {"_checks"},
    "_decode": {"_checks", "_memory", "_pillow"},
    "_json_ready": set(),
    "_writing": {"_checks"},
    "images": {"_checks", "_decode", "_json_ready", "_pillow", "_writing"},
    "_hashes": set(),
    "_noise": {"_covariance"},
    "_statistics": {"_archive", "_checks", "_hashes", "_losses", "_writing"},
    "_record": {
        "_callbacks",
        "_catalog",
        "_checks",
        "_device",
        "_features",
        "_hashes",
        "_losses",
        "_optimizers",
        "_reader",
        "_recipe",
        "_record_files",
        "_record_values",
        "_style",
        "_weights",
    },
    "_record_files": {"_checks", "_hashes", "_record_values"},
    "_record_values": set(),
    "_settings": {
        "_backbone",
        "_features",
        "_hashes",
        "_job",
        "_json_ready",
        "_losses",
        "_optimizers",
        "_recipe",
        "_statistics",
        "_style",
        "images",
    },
    "_style": {"_checks", "_statistics", "images"},
    "_reader": {"_noise", "_statistics", "_style", "images"},
    "_readable": set(),
    "_callbacks": {"_checks"},
    "_progress": {"_callbacks", "_checks", "_readable", "_writing", "images"},
    "_page_server": set(),
    "_page_html": {"_callbacks"},
    "_live_page": {"_callbacks", "_checks", "_page_html", "_page_server", "images"},
    "_tally": {"_losses", "functional"},
    "_terms": {"_losses", "_references", "_segment", "_shards", "_tally"},
    "_malloc": set(),
    "_memory": set(),
    "_tiles": {"_checks", "_losses", "_memory", "_readable", "_terms"},
    "_references": {"_losses"},
    "_view": {"_losses", "_segment", "_shards", "_sweep"},
    "_objective": {
        "_losses",
        "_memory",
        "_references",
        "_shards",
        "_sweep",
        "_tally",
        "_terms",
        "_view",
    },
    "_archive": set(),
    "_checkpoint": {"_archive", "_callbacks", "_checks", "_memory", "_writing"},
    "_snapshot": {
        "_callbacks",
        "_canvas",
        "_checks",
        "_job",
        "_reader",
        "_recipe",
        "_scales",
        "_settings",
        "_shards",
        "_statistics",
        "_style",
        "_tiles",
        "images",
    },
    "_lbfgs": {"_checks", "_shards"},
    "_optimizers": {"_lbfgs"},
    "_scales": set(),
    "_canvas": {"_lbfgs", "_objective", "_optimizers", "_shards", "images"},
    "_loop": {"_callbacks", "_canvas", "_shards"},
    "_recipe": {
        "_checks",
        "_losses",
        "_optimizers",
        "_reader",
        "_scales",
        "_tiles",
        "color",
        "images",
    },
    "_plan": {
        "_features",
        "_hashes",
        "_losses",
        "_reader",
        "_recipe",
        "_scales",
        "_statistics",
        "_style",
        "images",
    },
    "_job": {
        "_callbacks",
        "_canvas",
        "_checks",
        "_losses",
        "_plan",
        "_reader",
        "_recipe",
        "_references",
        "_scales",
        "_statistics",
        "_style",
        "_tiles",
        "color",
        "images",
    },
    "_capture": {
        "_checks",
        "_features",
        "_hashes",
        "_losses",
        "_noise",
        "_objective",
        "_recipe",
        "_references",
        "_scales",
        "_statistics",
        "_style",
        "_tiles",
    },
    "_shared_styles": {
        "_capture",
        "_decode",
        "_device",
        "_plan",
        "_recipe",
        "_result",
        "_settings",
        "_statistics",
        "_style",
        "images",
    },
    "_worker": {"_features", "_hashes", "_result", "_weights", "images"},
    "_map": {
        "_callbacks",
        "_checks",
        "_reader",
        "_recipe",
        "_result",
        "_shared_styles",
        "_style",
        "_worker",
        "images",
    },
    "_allocations": set(),
    "_estimate": {
        "_allocations",
        "_job",
        "_malloc",
        "_objective",
        "_optimizers",
        "_readable",
        "_recipe",
        "_scales",
        "_style",
        "images",
    },
    "_presets": {"_checks", "_content_losses", "_style_losses"},
    "_result": {"images"},
    "_run": {
        "_callbacks",
        "_job",
        "_loop",
        "_malloc",
        "_objective",
        "_optimizers",
        "_recipe",
        "_result",
        "_scales",
        "_settings",
        "_shards",
        "_snapshot",
        "_style",
        "_tiles",
        "images",
    },
    "_transfer": {
        "_backbone",
        "_callbacks",
        "_capture",
        "_checkpoint",
        "_checks",
        "_device",
        "_estimate",
        "_features",
        "_job",
        "_losses",
        "_map",
        "_optimizers",
        "_presets",
        "_recipe",
        "_record",
        "_result",
        "_run",
        "_scales",
        "_settings",
        "_snapshot",
        "_style",
        "_tiles",
        "images",
        "testing",
    },
    "_painting": set(),
    "_prints": set(),
    "_samples": {"_painting", "_prints"},
    "color": {"_checks"},
    "plotting": {"_callbacks", "_checks", "_result", "images"},
    "testing": {"_features", "_losses", "_weights"},
    "_style_spec": {"_statistics", "_style", "images"},
    "_config": {"_options", "images"},
    "_sheet": {"images"},
    "_options": {
        "_catalog",
        "_content_losses",
        "_losses",
        "_presets",
        "_reader",
        "_weights",
        "color",
    },
    "_rehearsal": {"_callbacks", "_features", "_hashes", "_statistics", "_style"},
    "_files": {"_checkpoint", "_hashes", "_options", "_style_spec", "_writing", "images"},
    "_folder": {"_files", "images"},
    "_demo": {"_callbacks", "_options", "_shards", "_style", "_transfer", "images"},
    "_delivery": {"_readable", "_result", "_shards"},
    "_parts": {
        "_callbacks",
        "_checkpoint",
        "_commands",
        "_features",
        "_files",
        "_live_page",
        "_progress",
        "_style",
        "_style_spec",
    },
    "_batch": {"_checks", "_folder", "_map", "_readable"},
    "_commands": {"_options", "_reader", "_style_spec"},
    "_parser": {"_commands", "_config"},
    "_cells": {"_commands", "_options"},
    "cli": ALL,
    "__main__": {"cli"},
    "__init__": ALL,
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports name the whole path"
            if node.module == "nst":
                found |= {alias.name for alias in node.names if alias.name in ALL}
            elif node.module.startswith("nst."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("nst") for alias in node.names)
    return found


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_module_imports_only_what_its_room_allows(name: str) -> None:
    assert name in MAY_IMPORT, "a new module belongs into the table"
    assert imports(ROOT / f"{name}.py") <= MAY_IMPORT[name]


def test_the_table_has_no_rooms_that_do_not_exist() -> None:
    assert set(MAY_IMPORT) == ALL


@pytest.mark.parametrize("name", sorted(ALL - {"plotting"}))
def test_only_plotting_names_matplotlib(name: str) -> None:
    assert "matplotlib" not in (ROOT / f"{name}.py").read_text()


@pytest.mark.parametrize("name", sorted(ALL - {"_shards"}))
def test_only_one_module_talks_to_other_processes(name: str) -> None:
    assert "import torch.distributed" not in (ROOT / f"{name}.py").read_text()
