"""`--set path=value`: change one value of a recipe from the command line.

The path is the way to the value, with dots. An item of a list is named by its `id` or `name`, dots included, or by its
number from 0; the longest name that fits is taken, so nothing needs quoting:

    --set seed=7
    --set vars.min_score=0.7
    --set stages.clean.operators.filter.text_quality.params.ge=0.7
    --set input.datasets.0.weight=0.5
    --set 'input={type: jsonl, path: data/*.jsonl.gz}'

The value is YAML. A key that the recipe does not hold yet is added where its parent is there; a key that the grammar
does not know is an error like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from fdf.errors import Place, Problem, RecipeError, did_you_mean
from fdf.recipe.document import Document, Marks, Steps, kind_of, read_value, written

OPTION = "--set"


def override(document: Document, sets: Sequence[str]) -> None:
    """Apply every `path=value` to the document in turn; findings go to the document."""
    for text in sets:
        path, equals, value = text.partition("=")
        place = Place(file=OPTION, line=1, column=1, text=text, length=max(1, len(path)))
        if not equals or not path.strip():
            _note(document, place, "FDF130", "`--set` takes `path=value`", hint="for example seed=7")
            continue
        _Setter(document, place, path.strip()).set(value)


def _note(document: Document, place: Place, code: str, message: str, hint: str | None = None) -> None:
    document.note((OPTION, place.text), Problem(code=code, message=message, place=place, hint=hint))


class _Setter:
    def __init__(self, document: Document, place: Place, path: str) -> None:
        self.document = document
        self.place = place
        self.path = path

    def set(self, value: str) -> None:
        try:
            # A template needs quotes in YAML, and the shell has eaten one pair already.
            parsed = read_value(json.dumps(value) if value.startswith("{{") else value, file=OPTION)
            steps = self._walk()
        except RecipeError as error:
            for problem in error.problems:
                _note(self.document, self.place, problem.code, problem.message, problem.hint)
            return
        holder: Any = self.document.data
        for step in steps[:-1]:
            holder = holder[step]
        holder[steps[-1]] = parsed.data
        for old in [s for s in self.document.marks if s[: len(steps)] == steps]:
            del self.document.marks[old]
        # A key that was wrong in the file and is set anew is judged anew.
        for below, marks in parsed.marks.items():
            self.document.marks[steps + below] = Marks(self._shift(marks.value), marks.key and self._shift(marks.key))
        top = self._shift(parsed.marks[()].value) if () in parsed.marks else self.place
        self.document.marks[steps] = Marks(top, self.place)
        for problem in parsed.problems:
            self.document.note(steps, replace(problem, place=problem.place and self._shift(problem.place)))

    def _shift(self, place: Place) -> Place:
        offset = self.place.text.index("=") + 1
        if place.line > 1:
            return self.place
        return replace(place, column=place.column + offset, text=self.place.text)

    def _walk(self) -> Steps:
        """Return the way to the value, its last step perhaps a new key. Raises RecipeError where there is no way."""
        here: Any = self.document.data
        steps: Steps = ()
        rest = self.path
        while rest:
            step: str | int
            if isinstance(here, list):
                step, rest = self._item(here, steps, rest)
            elif isinstance(here, dict):
                step, rest = self._key(here, steps, rest)
            else:
                raise _lost(f"a {kind_of(here)} has no `{rest}`", steps, [], rest)
            steps = (*steps, step)
            if rest:
                here = here[step]
        return steps

    def _item(self, items: list[Any], steps: Steps, rest: str) -> tuple[int, str]:
        """Find the item that the path goes on with, by name (the longest) or by number, and what is left then."""
        names = {name: number for number, name in reversed(list(enumerate(map(_name, items)))) if name}
        name = _longest(names, rest)
        if name is not None:
            return names[name], rest[len(name) + 1 :]
        first, _, after = rest.partition(".")
        if first.isdecimal() and int(first) < len(items):
            return int(first), after
        close = [name for name in names if did_you_mean(rest[: len(name) + 1], [name])]
        raise _lost(f"no item `{first if first.isdecimal() else rest}`", steps, close or list(names), first)

    def _key(self, mapping: dict[str, Any], steps: Steps, rest: str) -> tuple[str, str]:
        """Find the key that the path goes on with: the longest that is there, else a new one up to the next dot."""
        key = _longest(mapping, rest)
        if key is not None:
            return key, rest[len(key) + 1 :]
        key, _, after = rest.partition(".")
        if not key or steps == ("vars",):
            raise _lost(f"no variable `{key}`" if key else "an empty key", steps, list(mapping), key)
        if after:
            mapping[key] = {}
            self.document.marks[*steps, key] = Marks(self.place, self.place)
        return key, after


def _longest(names: Iterable[str], rest: str) -> str | None:
    return max((n for n in names if rest == n or rest.startswith(f"{n}.")), key=len, default=None)


def _lost(what: str, steps: Steps, there: list[str], name: str) -> RecipeError:
    where = f"in `{written(steps)}`" if steps else "at the top of the recipe"
    hint = did_you_mean(name, there) or (f"there are: {', '.join(there)}" if there else None)
    return RecipeError(Problem(code="FDF131", message=f"unknown path: {what} {where}", hint=hint))


def _name(item: Any) -> str:
    named = item.get("id", item.get("name")) if isinstance(item, dict) else None
    return named if isinstance(named, str) else ""
