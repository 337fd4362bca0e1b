"""Guarantees of every command; commands and options are read from their help."""

import io
import re
from collections import defaultdict
from contextlib import redirect_stdout
from itertools import combinations
from pathlib import Path

import pytest

from nst.cli.main import main, parse
from tests.cli.running import refused
from tests.helpers import names

DOCS = Path(__file__).parents[2] / "docs"
# A command, an argument or an option, and its description; perhaps on the next line.
_ENTRY = re.compile(r"^ {2,4}(\S.*?)\s{2,}(\S.*)$", re.MULTILINE)


def help_of(command: str) -> str:
    """Return the help of a command, or of all where none is named."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as written:
        patch.setenv("COLUMNS", "1000")  # each text in a line
        with pytest.raises(SystemExit) as end:
            main([*command.split(), "--help"])
    assert end.value.code == 0
    return written.getvalue().replace("  COMMAND\n", "")  # a heading


COMMANDS = [name for name, _ in _ENTRY.findall(help_of("")) if re.fullmatch("[a-z]+", name)]
HELP = {command: help_of(command) for command in ["", *COMMANDS]}
ENTRIES = {command: dict(_ENTRY.findall(text)) for command, text in HELP.items()}
OPTIONS = {
    command: set(re.findall(r"(?<!\S)--?[a-z][\w-]*", " ".join(entries)))
    for command, entries in ENTRIES.items()
}
every_command = pytest.mark.parametrize("command", COMMANDS)


def test_there_are_commands_and_options() -> None:
    assert {"stylize", "batch", "capture"} <= set(COMMANDS) and len(COMMANDS) >= 9
    assert all(OPTIONS[command] >= {"-h", "--help"} for command in OPTIONS)
    assert "--version" in OPTIONS[""] and len(OPTIONS["stylize"]) > 30


@pytest.mark.parametrize("command", HELP)
def test_every_line_of_help_has_one_form(command: str) -> None:
    usage, description = HELP[command].split("\n\n")[:2]
    assert usage.startswith(f"usage: nst {command}".rstrip())
    assert description[0].isupper() and description.endswith(".")
    for name, line in ENTRIES[command].items():
        assert re.match(r"[a-z0-9]|MODULE|PICTURE", line), f"{name}: {line}"
        assert not line.endswith("."), f"{name}: {line}"
        assert not re.search("grey|colour|neighbour|(normal|optim|styl|initial)is[eai]", line)
        assert not line.startswith("default"), f"{name}: {line}"
        assert "default:" not in line or re.search(r"\(default: [^()]+\)$", line), line


def test_an_option_means_the_same_in_every_command() -> None:
    meanings: dict[str, set[str]] = defaultdict(set)
    for entries in ENTRIES.values():
        for name, line in entries.items():
            if name.startswith("-"):
                meanings[name.split()[-2 if " " in name else 0]].add(line)
    several = {name for name, lines in meanings.items() if len(lines) > 1}
    # The demo, a texture and a record have defaults of their own.
    assert several == {"--output", "--init", "--weights", "--device", "--tile"}


_GROUP = re.compile(r"^([a-z ]+):\n((?:  .*\n)+)", re.MULTILINE)


def test_every_command_shows_the_same_groups_and_options_in_the_same_order() -> None:
    before = set()
    for command in COMMANDS:
        groups = _GROUP.findall(HELP[command] + "\n")
        assert {"other", "examples"} < {title for title, _ in groups}
        names = [re.findall("^  (?:-., |-o OUT, )?(--[a-z-]+)", text, re.M) for _, text in groups]
        shown = [name for each in names for name in each]
        before |= {
            pair for group in (shown, [g for g, _ in groups]) for pair in combinations(group, 2)
        }
    assert not {(b, a) for a, b in before} & before


@every_command
def test_the_examples_of_every_command_are_valid(command: str) -> None:
    (examples,) = (
        text for title, text in _GROUP.findall(HELP[command] + "\n") if title == "examples"
    )
    assert f"nst {command}" in examples
    for words in map(str.split, examples.splitlines()):
        assert words[0] == "nst" and parse(words[1:]).command == words[1]


def test_the_shell_completes_commands_options_and_files() -> None:
    pytest.importorskip("shtab")
    with redirect_stdout(io.StringIO()) as written, pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    script = written.getvalue()
    assert "_shtab_nst_stylize___preset_choices=(default" in script
    assert "_shtab_nst_stylize_pos_0_COMPGEN=_shtab_compgen_files" in script


def test_first_steps_are_valid_and_unknown_commands_not(capsys: pytest.CaptureFixture[str]) -> None:
    (steps,) = (text for title, text in _GROUP.findall(HELP[""]) if title == "first steps")
    lines = [line.rsplit("  ", 1)[0].split() for line in steps.splitlines()]
    assert [parse(words[1:]).command for words in lines] == ["demo", "stylize", "batch"]
    assert "required: COMMAND; see nst --help" in refused("", capsys)
    assert "'paint'" in refused("paint", capsys)


@every_command
def test_the_documentation_names_every_command_and_option(command: str) -> None:
    pages = [DOCS / "command-line.md", DOCS / "how-to" / "folder.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert f"`nst {command}`" in text
    missing = [
        name
        for name in OPTIONS[command] - {"-h", "--help"}
        if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)
    ]
    assert missing == []


@every_command
@pytest.mark.parametrize("words", ["--brushes=3", "--quiet=yes", "--outptu=a.png"])
def test_every_command_refuses_options_that_it_does_not_have_in_one_line(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"see nst {command} --help" in refused(f"{command} {words}", capsys)


@every_command
def test_every_command_refuses_bad_input_in_one_line_and_writes_nothing(
    command: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    Path("file").touch()
    before = names(folder)
    inputs = [name for name in ENTRIES[command] if re.fullmatch("[A-Z]+", name)]
    line = f"{command} {'file/a.png ' * len(inputs)}"
    lines = [line]
    if "--output" in OPTIONS[command]:
        output = "-o file/out.nst" if command == "capture" else "-o file/out.png"
        lines = [f"{line} {output}", f"{line} {output} --vary seed=1,2"]
    for line in lines:
        assert re.search("`.+'file/|see nst|pip install", refused(line, capsys))
    assert names(folder) == before
