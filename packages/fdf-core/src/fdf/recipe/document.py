"""YAML text into plain data in which every key and value knows where it stands.

Read with PyYAML's parser and our own small set of scalars, those of YAML 1.2: `no`, `1:30` and `2024-01-01` are text,
`1_000_000` and `1e-3` are numbers. Nothing is constructed but mappings, lists and scalars.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeAlias, TypeVar

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from fdf.errors import FdfError, Place, Problem, RecipeError
from fdf.recipe.redact import mask_line

T = TypeVar("T")
Steps: TypeAlias = tuple[str | int, ...]
"""The way from the top of a recipe to one of its values: ``("stages", 0, "name")``."""

_NO_BOUND = "leave the key out, or write null, where there is no bound"
MAX_BYTES = 4 << 20
MAX_VALUES = 100_000
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_TAG = "tag:yaml.org,2002:"


class Marks(NamedTuple):
    """Where a value stands, and its key where it has one."""

    value: Place
    key: Place | None = None


@dataclass(kw_only=True)
class Document:
    """Plain data, the places of its values, and the findings collected so far. `file` None: made in Python."""

    data: Any
    file: str | None = None
    marks: dict[Steps, Marks] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _faulty: set[Steps] = field(default_factory=set)

    def place(self, steps: Steps, *, of: str = "value") -> Place | None:
        """Return where a value (or its `key`) stands; for one without a place of its own, its nearest ancestor's."""
        for end in range(len(steps), -1, -1):
            marks = self.marks.get(steps[:end])
            if marks is not None:
                exact = end == len(steps)
                return marks.key if marks.key is not None and (of == "key" or not exact) else marks.value
        return None

    def add(
        self, steps: Steps, code: str, message: str, *, of: str = "value", hint: str | None = None,
        help: str | None = None,  # noqa: A002 (the word that readers of an error see)
    ) -> None:  # fmt: skip
        """Note a finding at a value, or at its `key`."""
        self._put(steps, Problem(code=code, message=message, hint=hint, help=help), of)

    def attempt(self, steps: Steps, work: Callable[[], T]) -> T | None:
        """Return what `work` returns; what it complains of is noted at this value, and the answer is None."""
        try:
            return work()
        except FdfError as error:
            for problem in error.problems:
                self._put(steps, problem, "value")
        return None

    def _put(self, steps: Steps, problem: Problem, of: str) -> None:
        place = self.place(steps, of=of)
        if place is None and steps:
            problem = replace(problem, message=f"{problem.message} (at `{written(steps)}`)")
        self.note(steps, replace(problem, place=place or problem.place))

    def note(self, steps: Steps, problem: Problem) -> None:
        """Note a finding that already has its place."""
        self._faulty.add(steps)
        if problem not in self.problems:
            self.problems.append(problem)

    def sound(self, *steps: str | int) -> bool:
        """Say whether nothing was found at this value, nor above it, nor below it."""
        return not any(s[: len(steps)] == steps or steps[: len(s)] == s for s in self._faulty)

    def ordered(self) -> list[Problem]:
        """Return the findings as they follow each other in the file; those without a place come first."""
        return sorted(self.problems, key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))


def written(steps: Steps) -> str:
    """Write the way to a value as a reader would: ``stages[0].name``."""
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def read_file(path: Path) -> Document:
    """Read a recipe file. Raises RecipeError where it cannot be read or is no YAML at all."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refuse("FDF103", f"{path} is larger than {MAX_BYTES >> 20} MiB: that is no recipe")
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse("FDF105", f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise _refuse("FDF105", f"cannot read the recipe {path}: {reason}") from None
    return read_text(text, file=str(path))


def read_text(text: str, *, file: str = "<recipe>") -> Document:
    """Read YAML text whose top level is a mapping. Raises RecipeError where it is no YAML, or no mapping."""
    document = read_value(text, file=file)
    if not isinstance(document.data, dict):
        place = document.place(()) or Place(file=file, line=1, column=1)
        found = "empty" if document.data is None else f"a {kind_of(document.data)}"
        raise RecipeError(
            Problem(
                code="FDF112",
                message=f"a recipe is a mapping of keys, but this file is {found}",
                place=place,
                hint="it begins with `name:` and `input:`",
            )
        )
    return document


def read_value(text: str, *, file: str) -> Document:
    """Read YAML text that may be any value, as `--set` has it. Raises RecipeError where it is no YAML."""
    builder = _Builder(text, file)
    try:
        node = _Composer(text).get_single_node()
        if node is not None:
            builder.document.data = builder.build(node, ())
            builder.document.marks[()] = Marks(builder.place(node))
    except yaml.MarkedYAMLError as error:
        raise RecipeError(builder.syntax_problem(error)) from None
    except yaml.reader.ReaderError as error:
        place = builder.place_at(error.position)
        raise RecipeError(Problem(code="FDF101", message=f"not YAML: {error.reason}", place=place)) from None
    except RecursionError:
        raise _refuse("FDF103", f"{file} is nested too deeply to be a recipe") from None
    return builder.document


def from_python(value: dict[str, Any]) -> Document:
    """Return a recipe given as a dict: paths become text and tuples lists; what is no plain data is a finding."""
    document = Document(data=None)
    try:
        document.data = _plain(document, value, ())
    except RecursionError:
        raise _refuse("FDF103", "the recipe is nested too deeply, or holds itself") from None
    return document


def _plain(document: Document, value: Any, steps: Steps) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(document, v, (*steps, str(k))) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(document, v, (*steps, n)) for n, v in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        document.add(steps, "FDF104", f"`{value}` is not a number that JSON knows", hint=_NO_BOUND)
        return None
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    message = f"a {type(value).__module__}.{type(value).__qualname__} is no plain data"
    document.add(steps, "FDF104", message, hint="give text, numbers, booleans, lists and dicts")
    return None


def kind_of(value: object) -> str:
    """Name the type of a YAML value as a user would."""
    names = {dict: "mapping", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _refuse(code: str, message: str) -> RecipeError:
    return RecipeError(Problem(code=code, message=message))


class _Resolver(BaseResolver):
    """The scalars of YAML 1.2's core schema, with `_` allowed between digits."""


_Resolver.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Resolver.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Resolver.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+)$"), list("-+0123456789")
)
_Resolver.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
_FLOAT = re.compile(r".*[.eE]")


class _Composer(Reader, Scanner, Parser, Composer, _Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


class _Builder:
    """Turns composed nodes into data and marks; an alias is expanded where it is used, within a limit."""

    def __init__(self, text: str, file: str) -> None:
        self.document = Document(data=None, file=file)
        self.lines = _LINE_END.split(text)
        self.text = text
        self.file = file
        self.values = 0
        self.open: set[int] = set()

    def build(self, node: yaml.Node, steps: Steps) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            problem = Problem(
                code="FDF103",
                message=f"the recipe expands to more than {MAX_VALUES:,} values",
                place=self.place(node),
                hint="aliases (`*name`) repeat this part too often",
            )
            raise RecipeError(problem)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, steps)
        if id(node) in self.open:
            self._add(node, steps, "FDF104", "an alias inside the value that it stands for")
            return None
        self.open.add(id(node))
        value = self._mapping(node, steps) if isinstance(node, yaml.MappingNode) else self._list(node, steps)
        self.open.discard(id(node))
        return value

    def _list(self, node: yaml.Node, steps: Steps) -> list[Any]:
        self._check_tag(node, steps, "seq")
        out = []
        for number, item in enumerate(node.value):
            self.document.marks[*steps, number] = Marks(self.place(item))
            out.append(self.build(item, (*steps, number)))
        return out

    def _mapping(self, node: yaml.MappingNode, steps: Steps) -> dict[str, Any]:
        self._check_tag(node, steps, "map")
        out: dict[str, Any] = {}
        first: dict[str, yaml.Node] = {}
        merges: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                braces = 'write a template in quotes: "{{name}}"' if isinstance(key_node, yaml.MappingNode) else None
                self._add(key_node, steps, "FDF104", "a key must be plain text", braces)
                continue
            key = key_node.value
            if key == "<<" and not key_node.style:
                merges.append(value_node)
                continue
            if key in first:
                line = first[key].start_mark.line + 1
                self._add(key_node, (*steps, key), "FDF102", f"duplicate key `{key}`", f"first on line {line}")
                continue
            first[key] = key_node
            self.document.marks[*steps, key] = Marks(self.place(value_node), self.place(key_node))
            out[key] = self.build(value_node, (*steps, key))
        for merged in merges:
            self._merge(merged, out, steps)
        return out

    def _merge(self, node: yaml.Node, out: dict[str, Any], steps: Steps) -> None:
        """Add the keys of `<<: *name` that are not there yet."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            if not isinstance(part, yaml.MappingNode) or id(part) in self.open:
                self._add(part, steps, "FDF104", "`<<` takes a mapping, or a list of mappings")
                continue
            for key_node, value_node in part.value:
                key = key_node.value
                if isinstance(key_node, yaml.ScalarNode) and key not in out:
                    self.document.marks[*steps, key] = Marks(self.place(value_node), self.place(key_node))
                    out[key] = self.build(value_node, (*steps, key))

    def _scalar(self, node: yaml.ScalarNode, steps: Steps) -> Any:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text.replace("_", ""), 0)
                case "float":
                    return self._float(node, steps)
                case "str":
                    return text
        except ValueError:
            pass
        self._check_tag(node, steps, "")
        return None

    def _float(self, node: yaml.ScalarNode, steps: Steps) -> Any:
        text = node.value
        if not _FLOAT.match(text):  # digits with leading zeros: an id, not a number
            return text
        value = float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
        if not math.isfinite(value):
            self._add(node, steps, "FDF104", f"`{text}` is not a number that JSON knows", _NO_BOUND)
            return 0.0
        return value

    def _check_tag(self, node: yaml.Node, steps: Steps, expected: str) -> None:
        if node.tag.removeprefix(_TAG) != expected:
            shown = node.tag.replace(_TAG, "!!")
            self._add(node, steps, "FDF104", f"`{shown}` has no place in a recipe", "remove the tag")

    def _add(self, node: yaml.Node, steps: Steps, code: str, message: str, hint: str | None = None) -> None:
        self.document.note(steps, Problem(code=code, message=message, place=self.place(node), hint=hint))

    def place(self, node: yaml.Node) -> Place:
        """Return where a node stands; the marker covers it where it is a scalar on one line."""
        start, end = node.start_mark, node.end_mark
        one_line = isinstance(node, yaml.ScalarNode) and start.line == end.line
        return self._place(start.line, start.column, end.column - start.column if one_line else 1)

    def place_at(self, position: int) -> Place:
        """Return the place of a character of the text."""
        before = _LINE_END.split(self.text[:position])
        return self._place(len(before) - 1, len(before[-1]))

    def _place(self, line: int, column: int, length: int = 1) -> Place:
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(file=self.file, line=line + 1, column=column + 1, text=mask_line(text), length=max(1, length))

    def syntax_problem(self, error: yaml.MarkedYAMLError) -> Problem:
        """Return PyYAML's complaint as a finding."""
        mark = error.problem_mark or error.context_mark
        place = self._place(mark.line, mark.column) if mark is not None else None
        hint = next(self._advice(error, place.text if place else ""), None)
        return Problem(code="FDF101", message=f"not YAML: {error.problem or error.context}", place=place, hint=hint)

    def _advice(self, error: yaml.MarkedYAMLError, line: str) -> Iterator[str]:
        said = error.problem or ""
        begun = error.context_mark
        if re.search(r":\s*\{\{", line):
            yield 'write a template in quotes: "{{name}}"'
        if "\\t" in said:
            yield "indent with spaces, not tabs"
        if "mapping values are not allowed" in said:
            yield "put text that holds `: ` in quotes, and check the indentation"
        if "found undefined alias" in said:
            yield "text that begins with `*` needs quotes"
        if "expected <block end>" in said or "could not find expected ':'" in said:
            yield "check the indentation, and that every quote and bracket is closed"
        if begun is not None and error.problem_mark is not None and begun.line != error.problem_mark.line:
            yield f"it belongs to what begins on line {begun.line + 1}"
