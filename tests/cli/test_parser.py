"""The words of the command line, and what each command accepts."""

import itertools
from pathlib import Path

import pytest

from nst.cli.main import parse
from tests.cli.running import refused

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
OF_A_PHOTOGRAPH = ["--strength 0.5", "--preserve-color pca", "--color-when both", "--where alpha"]
OF_A_PHOTOGRAPH += ["--content-loss laplacian", "--content-weight 1", "--content-layers relu1_1"]
OF_A_RUN = ["--init noise", "--seed 1", "--style-weight 1", "--tv 1", "--steps 1", "--upscale"]
OF_A_RUN += ["--optimizer adam", "--learning-rate 0.1", "--average 0.9", "--normalize-gradients"]
OF_A_NETWORK = ["--size 64", "--scales 1", "--preset gatys", "--style-loss gram"]
OF_A_NETWORK += ["--style-layers relu1_1", "--network vgg16", "--pooling average"]
OF_A_NETWORK += ["--padding replicate", "--dtype bfloat16"]
OF_A_RESULT = ["--page 0", "--save-every 2"]
OF_ALL = ["--weights auto", "--device cpu", "--tile 64"]
OF_A_BATCH = [*OF_A_PHOTOGRAPH, *OF_A_RUN, *OF_A_NETWORK, *OF_ALL]
SUPPORTED = {
    "stylize": [*OF_A_BATCH, *OF_A_RESULT, "--checkpoint a.ckpt"],
    "batch": OF_A_BATCH,
    "sheet": OF_A_BATCH,
    "demo": [*OF_A_BATCH, *OF_A_RESULT],
    "synthesize": [*OF_A_RUN, *OF_A_NETWORK, *OF_A_RESULT, *OF_ALL, "--checkpoint a.ckpt"],
    "capture": [*OF_A_NETWORK, *OF_ALL],
    "rerun": OF_ALL,
    "resume": [*OF_A_RESULT, *OF_ALL],
}


@pytest.mark.parametrize("option", SUPPORTED["stylize"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_accepts_the_options_that_it_supports_and_no_others(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if option in SUPPORTED[command]:
        parse(f"{COMMANDS[command]} {option}".split())
        return
    option = option.replace(" ", "=")  # else Python 3.13 takes the value for a picture
    said = f"unrecognized arguments: {option}; see nst {command} --help"
    assert said in refused(f"{COMMANDS[command]} {option}", capsys)


@pytest.mark.parametrize("command", ["stylize", "synthesize", "resume", "demo"])
def test_a_run_can_be_shown_on_a_page(command: str) -> None:
    for words, port in (("", None), ("--page", 8765), ("--page 9000", 9000), ("--page=0", 0)):
        assert parse(f"{COMMANDS[command]} {words}".split()).page == port
    options = parse(["stylize", "--page", "photo.png", "a.png", "-o", "out.png"])
    assert (options.page, options.content, options.styles) == (8765, "photo.png", ["a.png"])


def test_options_may_stand_anywhere_among_the_pictures() -> None:
    words = ["photo.png", "a.png", "b.png", "-o out.png", "--size 64", "--normalize-gradients"]
    readings = {
        str(sorted(vars(parse(["stylize", *" ".join(order).split()])).items()))
        for order in itertools.permutations(words)
        if [word for word in order if word in words[:3]] == words[:3]
    }
    assert len(readings) == 1


@pytest.mark.parametrize(
    ("line", "name", "expected"),
    [
        ("stylize --size 9 p.png -o o.png a.png", "styles", ["a.png"]),
        ("stylize p.png --style b.png -o o.png a.png", "styles", ["a.png", "b.png"]),
        ("sheet p -o o --vary seed=1,2 a.png --vary size=8 b.png", "styles", ["a.png", "b.png"]),
        ("sheet p.png -o o.png --vary seed=1,2 --vary style=a.png,b.png", "styles", []),
        ("synthesize a.png -o o.png b.png --seed 1 c.png", "styles", ["a.png", "b.png", "c.png"]),
        ("capture -o o.nst a.png --quiet", "styles", ["a.png"]),
        ("rerun -o o.png --inputs there a.png --inputs here", "inputs", ["there", "here"]),
        ("rerun -o o.png --inputs there a.png", "picture", "a.png"),
        ("demo --quiet -o o.png", "output", "o.png"),
        ("stylize -o o.png -- -photo.png a.png --style", "content", "./-photo.png"),
        ("stylize -o o.png -- -photo.png a.png --style", "styles", ["a.png", "./--style"]),
    ],
)
def test_every_command_takes_options_in_any_place(line: str, name: str, expected: object) -> None:
    assert getattr(parse(line.split()), name) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stylize photo.png -o out.png", "required: STYLE; see nst stylize --help"),
        ("stylize -o out.png", "required: CONTENT, STYLE; see"),
        ("stylize photo.png a.png", "required: -o/--output; see"),
        ("sheet -o out.png photo.png --vary seed=1,2", "required: STYLE; see nst sheet --help"),
        ("capture -o out.nst a.png b.png", "unrecognized arguments: b.png"),
        ("capture -o out.nst", "required: STYLE"),
        ("rerun -o out.png", "required: PICTURE"),
        ("batch photos -o out", "required: --style"),
        ("batch photos --style a.png", "required: -o/--output"),
        ("demo photo.png", "unrecognized arguments: photo.png"),
        ("--quiet stylize", "unrecognized arguments: --quiet"),
        (f"{COMMANDS['stylize']} --checkpoint-every 5", "no effect without `--checkpoint`"),
        (f"{COMMANDS['stylize']} --estimate --quiet", "`--quiet` would suppress the estimate"),
        (f"{COMMANDS['synthesize']} --size 64 --height 32 --width 32", "`--size`"),
        (f"{COMMANDS['synthesize']} --height 32", "`--width`"),
        (f"{COMMANDS['synthesize']} --width 32", "`--height`"),
        (f"{COMMANDS['capture']} --sizes 64,128 --size 64", "`--size`"),
        (f"{COMMANDS['capture']} --sizes 64,128 --scales 2", "`--scales`"),
        (f"{COMMANDS['capture']} --sizes many", "'many'"),
        (f"{COMMANDS['batch']} --workers 2 --dask x", "not allowed with argument"),
        (f"{COMMANDS['batch']} --format gif", "invalid choice: 'gif'"),
        ("demo --steps many", "--steps: invalid int value: 'many'"),
        ("demo --preset monet", "invalid choice: 'monet' (choose from"),
        ("demo --tile many", "'many' is invalid; use a whole number, or auto or none"),
    ],
)
def test_a_mistake_costs_one_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(line, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", None),
        ("other.png", None),
        ("other.png c.png", ["c.png"]),
        ("other.png c.png d.png", ["c.png", "d.png"]),
        ("--style c.png", ["c.png"]),
        ("other.png c.png --style d.png", ["c.png", "d.png"]),
    ],
)
def test_styles_on_the_command_line_replace_those_of_the_file_however_they_are_given(
    words: str, expected: list[str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('content = "p.png"\noutput = "o.png"\nstyle = ["a.png", "b.png"]\nsize = 64\n')
    options = parse(["stylize", *words.split(), "--config", str(path)])
    of_the_file = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert options.styles == (of_the_file if expected is None else expected)
    assert options.content == ("other.png" if "other" in words else str(tmp_path / "p.png"))
    assert options.size == 64
