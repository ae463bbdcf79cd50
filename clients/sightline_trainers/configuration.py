"""Reads a run's configuration from a YAML or TOML file and flags. Knows dataclasses; no method.

A configuration is a frozen dataclass whose fields may be dataclasses in turn. A flag names a field
by its path: `--learning_rate 1e-5`, `--data.limit 100`. Dashes and underscores are the same.
"""

import ast
import difflib
import inspect
import textwrap
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml  # type: ignore[import-untyped]  # ships no types

C = TypeVar("C")

_READERS: dict[str, Callable[[str], Any]] = {
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
    ".toml": tomllib.loads,
}


def read_config(kind: type[C], path: Path | None, flags: Sequence[str]) -> C:
    """The configuration of a file, with the flags laid over it.

    Raises:
        ValueError: a field is unknown, missing, or of another type; the message names it.
        OSError: the file cannot be read.
    """
    content = {} if path is None else read_file(path)
    for name, value in _flags(flags):
        _lay_over(content, name.split("."), value)
    return build(kind, content, origin=str(path) if path else "the flags")


def read_file(path: Path) -> dict[str, Any]:
    """The mapping of a .yaml, .yml or .toml file.

    Raises:
        ValueError: another suffix, or no mapping; the message names file and place.
    """
    try:
        read = _READERS[path.suffix]
    except KeyError:
        raise ValueError(f"{path}: a configuration ends in {', '.join(_READERS)}") from None
    try:
        content = read(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is not a mapping of fields to values")
    return content


def build(kind: type[C], content: Mapping[str, Any], *, origin: str, prefix: str = "") -> C:
    """The dataclass of a mapping.

    Raises:
        ValueError: as `read_config`.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type] # kind is a dataclass
    for name in content:
        if name not in known:
            raise ValueError(f"{origin}: unknown field {prefix}{name}{_nearest(str(name), known)}")
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], f"{prefix}{name}", origin)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{origin}: {prefix}{name} is missing: give it a value")
    return kind(**values)


def describe(kind: type[Any], prefix: str = "") -> Iterator[str]:
    """One line per field for `--help`: flag, default, and the text below the field."""
    texts = _field_texts(kind)
    hints = get_type_hints(kind)
    for field in fields(kind):
        flag = f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from describe(hints[field.name], f"{flag}.")
            continue
        default = "required" if field.default is MISSING else f"default: {field.default}"
        yield f"  --{flag} ({default})"
        if text := texts.get(field.name):
            yield textwrap.indent(textwrap.fill(" ".join(text.split()), 92), " " * 6)


def plain(value: Any) -> Any:  # noqa: ANN401 - any configuration value
    """A configuration as JSON values."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = iter(arguments)
    for word in words:
        if not word.startswith("--"):
            raise ValueError(f"{word!r} is no flag: write --field value")
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            following = next(words, None)
            if following is None:
                raise ValueError(f"--{name} has no value: write --{name} VALUE")
            value = following
        yield name.replace("-", "_"), value


def _lay_over(content: dict[str, Any], path: Sequence[str], value: str) -> None:
    for part in path[:-1]:
        inner = content.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--{'.'.join(path)}: {part} is no section")
        content = inner
    content[path[-1]] = value


def _value(hint: Any, given: Any, name: str, origin: str) -> Any:  # noqa: ANN401 - any annotation
    """The given value as its annotation wants it; texts from flags are read."""
    if is_dataclass(hint):
        if not isinstance(given, dict):
            raise ValueError(f"{origin}: {name} is {given!r}: give a section of fields")
        return build(hint, given, origin=origin, prefix=f"{name}.")  # type: ignore[arg-type] # a class
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(each for each in get_args(hint) if each is not types.NoneType)
        if given is None or given in ("none", "null"):
            return None
        return _value(inner, given, name, origin)
    if get_origin(hint) is tuple:
        listed = given.split(",") if isinstance(given, str) else given
        if not isinstance(listed, list | tuple):
            raise ValueError(f"{origin}: {name} is {given!r}: give a list")
        return tuple(_value(get_args(hint)[0], each, name, origin) for each in listed if each != "")
    if get_origin(hint) is Literal:
        if given not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise ValueError(f"{origin}: {name} is {given!r}: choose one of {choices}")
        return given
    return _scalar(hint, given, name, origin)


_TRUTHS = {"true": True, "false": False, True: True, False: False}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _scalar(hint: Any, given: Any, name: str, origin: str) -> Any:  # noqa: ANN401
    try:
        if hint is bool:
            return _TRUTHS[given]
        if isinstance(given, bool | list | dict) or given is None:
            raise ValueError  # noqa: TRY301 - said below for all
        if hint is int and isinstance(given, float) and not given.is_integer():
            raise ValueError  # noqa: TRY301
        return hint(given)
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{origin}: {name} is {given!r}: give {_KINDS.get(hint, 'a path')}"
        ) from None


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f": did you mean {close[0]}?" if close else f": there are {', '.join(known)}"


def _field_texts(kind: type[Any]) -> dict[str, str]:
    """The string below each field, parents' fields included."""
    texts: dict[str, str] = {}
    for parent in reversed(kind.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(parent))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        texts[field.target.id] = text
                    case _:
                        pass
    return texts
