"""What each command offers."""

from __future__ import annotations

import pytest

from nst.cli.main import make_parsers, parse

COMMANDS = {
    "stylize": "stylize photo.png a.png -o out.png",
    "batch": "batch photos --style a.png -o out",
    "sheet": "sheet photo.png a.png -o out.png --vary seed=1,2",
    "synthesize": "synthesize a.png -o out.png",
    "capture": "capture a.png -o out.nst",
    "rerun": "rerun a.png -o out.png",
    "resume": "resume a.ckpt -o out.png",
    "demo": "demo -o out.png",
}
OF_A_PHOTOGRAPH = [
    "--strength 0.5",
    "--preserve-color pca",
    "--color-when both",
    "--where alpha",
    "--content-loss laplacian",
    "--content-weight 1",
    "--content-layers relu1_1",
]
OF_A_RUN = [
    "--init noise",
    "--seed 1",
    "--style-weight 1",
    "--tv 1",
    "--steps 1",
    "--optimizer adam",
    "--average 0.9",
    "--normalize-gradients",
]
OF_A_NETWORK = [
    "--size 64",
    "--scales 1",
    "--preset gatys",
    "--style-loss gram",
    "--style-layers relu1_1",
    "--pooling average",
    "--padding replicate",
]
OF_A_RESULT = ["--page 0", "--save-every 2"]
HEEDED = {
    command: [*options, "--weights auto", "--device cpu", "--tile 64"]
    for command, options in {
        "stylize": [
            *OF_A_PHOTOGRAPH,
            *OF_A_RUN,
            *OF_A_NETWORK,
            *OF_A_RESULT,
            "--checkpoint a.ckpt",
        ],
        "batch": [*OF_A_PHOTOGRAPH, *OF_A_RUN, *OF_A_NETWORK],
        "sheet": [*OF_A_PHOTOGRAPH, *OF_A_RUN, *OF_A_NETWORK],
        "demo": [*OF_A_PHOTOGRAPH, *OF_A_RUN, *OF_A_NETWORK, *OF_A_RESULT],
        "synthesize": [*OF_A_RUN, *OF_A_NETWORK, *OF_A_RESULT, "--checkpoint a.ckpt"],
        "capture": OF_A_NETWORK,
        "rerun": [],
        "resume": OF_A_RESULT,
    }.items()
}


@pytest.mark.parametrize("option", HEEDED["stylize"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_offers_the_options_that_it_heeds_and_no_others(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if option in HEEDED[command]:
        parse(f"{COMMANDS[command]} {option}".split())
        return
    option = option.replace(" ", "=")  # else Python 3.13 takes the value for a picture
    with pytest.raises(SystemExit):
        parse(f"{COMMANDS[command]} {option}".split())
    assert f"unrecognized arguments: {option}; see nst {command} --help" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["stylize", "synthesize", "resume", "demo"])
@pytest.mark.parametrize(
    ("words", "port"), [("", None), ("--page", 8765), ("--page 9000", 9000), ("--page=0", 0)]
)
def test_a_run_can_be_shown_on_a_page(command: str, words: str, port: int | None) -> None:
    assert parse(f"{COMMANDS[command]} {words}".split()).page == port


def test_a_picture_after_page_is_no_port() -> None:
    options = parse(["stylize", "--page", "photo.png", "a.png", "-o", "out.png"])
    assert (options.page, options.content, options.styles) == (8765, "photo.png", ["a.png"])


def test_how_often_a_run_is_kept_says_nothing_by_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(f"{COMMANDS['stylize']} --checkpoint-every 5".split())
    assert "`--checkpoint-every` has no effect without `--checkpoint`" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_one_form(command: str) -> None:
    _, commands = make_parsers()
    parser = commands[command]
    assert parser.description is not None
    assert parser.description[0].isupper() and parser.description.endswith(".")
    shown = [action for action in parser._actions if action.help != "==SUPPRESS=="]
    for action in shown:
        assert action.help and not action.help.endswith("."), action
    names = {name for action in shown for name in action.option_strings}
    assert names >= {"-h", "--help", "-o", "--output", "--quiet"}


def test_an_option_has_the_same_help_in_every_command() -> None:
    _, commands = make_parsers()
    helps: dict[str, set[str | None]] = {}
    for parser in commands.values():
        for action in parser._actions:
            helps.setdefault(" ".join(action.option_strings), set()).add(action.help)
    several = {name for name, found in helps.items() if name and len(found) > 1}
    # Of the demo, a texture, a record.
    assert several == {"-o --output", "--init", "--weights", "--device", "--tile"}


@pytest.mark.parametrize("command", ["stylize", "resume"])
def test_a_tile_is_a_number_of_rows_or_a_word(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, tile in (("64", 64), ("none", None), ("auto", "auto")):
        assert parse(f"{COMMANDS[command]} --tile {word}".split()).tile == tile
    with pytest.raises(SystemExit):
        parse(f"{COMMANDS[command]} --tile many".split())
    assert "'many' is invalid; use a whole number, or auto or none" in (capsys.readouterr().err)
