"""Check an untrusted value against a schema, which is a rule.

- a type: `str`, `bool`, `int` (of 64 bits), `float` (any finite number), or `Tensor`;
- a function of a name and a value that raises, such as `nst._utils.checks.non_negative`;
- `[rule]`: a list or tuple whose items follow the rule;
- `{"name": rule}`: a mapping with these names, and possibly others; `"name?"` is optional;
- `{str: rule}`: a mapping from any names;
- `(constant, ..., rule)`: one of the constants, or a value that follows the rule.
"""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from nst._utils.checks import at_least, one_of

Rule: TypeAlias = Any

_TYPES: dict[type, tuple[Any, str]] = {
    str: (str, "a string"),
    bool: (bool, "True or False"),
    int: (int, "a whole number of 64 bits"),
    float: ((int, float), "a finite number"),
    Tensor: (Tensor, "a tensor"),
}


def check(value: Any, rule: Rule, where: str = "") -> None:
    """Raise `TypeError` or `ValueError` for the first part of a value that breaks the rule."""
    if isinstance(rule, tuple):
        *constants, rule = rule
        if not any(type(value) is type(each) and value == each for each in constants):
            check(value, rule, where)
    elif isinstance(rule, list):
        _expect(isinstance(value, (list, tuple)), where, value, "a list")
        for i, each in enumerate(value):
            check(each, rule[0], f"{where}[{i}]")
    elif isinstance(rule, dict):
        _expect(isinstance(value, Mapping), where, value, "a mapping from names to values")
        if str in rule:
            for key, each in value.items():
                check(key, str, f"a name in {where}")
                check(each, rule[str], f"{where}[{key!r}]")
            return
        for name, own in rule.items():
            optional, name = name.endswith("?"), name.removesuffix("?")
            if name in value:
                check(value[name], own, f"{where}.{name}" if where else name)
            elif not optional:
                what = f"`{where}`" if where else "it"
                raise ValueError(f"{what} lacks {name!r}, which is needed.")
    elif rule in _TYPES:
        kind, noun = _TYPES[rule]
        right = isinstance(value, kind) and (rule is bool or not isinstance(value, bool))
        right = right and (rule is not int or -(2**63) <= value < 2**64)
        _expect(right and (rule is not float or math.isfinite(value)), where, value, noun)
    else:
        rule(where, value)


def _expect(right: bool, where: str, value: Any, noun: str) -> None:
    if not right:
        raise TypeError(f"`{where}` is {value!r}; it must be {noun}.")


def whole(name: str, value: Any, lowest: int = 1) -> None:
    """Check for a whole number of at least `lowest`."""
    check(value, int, name)
    at_least(name, value, lowest)


def choice(choices: Iterable[Any]) -> Rule:
    """Return the rule for one of the choices."""
    return partial(one_of, choices=tuple(choices))
