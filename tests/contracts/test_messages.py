"""The form of error messages: the argument in backticks, its value, the rule, and the remedy."""

import ast
import re
from pathlib import Path

import pytest

import nst

ROOT = Path(nst.__file__).parent

# Reasons told within a message that has the form, and what argparse puts an option's name before.
OTHERWISE = (
    "it has a ",
    "a tensor has another s",
    "it is compressed",
    "its parts",
    "{name!r} has another shape than the scale",
    "{name!r} is no text",
    "version ",
    "{image.width} x {image.height} pixels > {limit}",
    "{what} {err}",
    "{what} {_CLOSED}",
    "it holds no values",
    "its network ",
    "it has the loss ",
    "`steps_done` is ",
    "`inputs` has {argument!r}, which is no argument of a run.",
    "it has ",
    "`record` cannot be used: ",
    "it is at a scale",
    "a picture has another shape",
    "an array ",
    "a part is missing",
    "its ",
    "{type(error).__name__}: {error}",
    "{text!r} is not made of whole numbers, such as 256,512",
    "{text!r}",
    "the module {module!r} cannot be imported: ",
    "{type(loss).__name__}: {promise}",
)
# What may stand for the name in backticks: a part that begins with it, and the class of a loss.
NAMED = re.compile(
    r"`[^`]+`|^\{(what|refusal|error)\}|^(LivePage|\{name\}|\{type\(self\).__name__\}) "
)
# A rule, or what to do: an imperative that begins a sentence or a clause.
VERBS = (
    "add ask call capture check choose close compute convert create derive did divide download "
    "give leave let lower make name pass put reduce rename replace resize run save say set shrink "
    "take try use write"
)
DIRECTION = re.compile(
    rf"\b(must|needed)\b|takes a single one|\{{(remedy|hint)\}}"
    rf"|([.;:,)] |\b(or|Or|to) )({VERBS.replace(' ', '|')})\b",
    re.IGNORECASE,
)
BRITISH = re.compile(
    r"grey|colour|behaviour|favour|neighbour|centre|catalogue|"
    r"(normal|optim|styl|recogn|initial|summar)is[eai]"
)


def text_of(node: ast.expr) -> str | None:
    """Return a string as it stands in the source, with what is filled in between braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (
            str(part.value)
            if isinstance(part, ast.Constant)
            else "{" + ast.unparse(part.value) + ("!r" if part.conversion == 114 else "") + "}"
            for part in node.values
            if isinstance(part, (ast.Constant, ast.FormattedValue))
        )
        return "".join(parts)
    return None


def messages() -> list[tuple[str, int, str]]:
    """Find what every error of the library says: module, line, text."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and node.args
                and ast.unparse(node.func).endswith("Error")
            ):
                text = text_of(node.args[0])
                if text is not None:
                    found.append((path.stem, node.lineno, text))
    return found


MESSAGES = [each for each in messages() if not each[2].startswith(OTHERWISE)]


@pytest.mark.parametrize(
    ("module", "line", "text"), MESSAGES, ids=[f"{each[0]}-{each[1]}" for each in MESSAGES]
)
def test_a_message_names_argument_rule_and_what_to_do(module: str, line: int, text: str) -> None:
    assert NAMED.search(text), f"names nothing: {text}"
    assert DIRECTION.search(text), f"has no rule, and does not say what to do: {text}"
    assert text[-1] in ".?}", f"does not end: {text}"
    assert "  " not in text and not re.search(r"\bplease\b|!(?!r)", text, re.IGNORECASE)


def test_most_error_messages_are_examined_and_spelling_is_american() -> None:
    assert len(MESSAGES) > 150
    for _, _, text in messages():
        assert not BRITISH.search(text), text


def test_no_error_is_raised_without_a_message() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, (ast.Call, ast.Name)):
                name = ast.unparse(node.exc).split("(")[0]
                if name in dir(__builtins__) and name.endswith("Error"):
                    assert isinstance(node.exc, ast.Call) and node.exc.args, f"{path}:{node.lineno}"
