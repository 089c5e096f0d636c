"""Templates: `{{run_id}}`, `{{name}}`, `{{stage}}` and the recipe's own `vars`, and nothing else.

A value that is exactly one template keeps the type of the variable; inside longer text it becomes text. `{{{{` writes
two braces. Keys are never templates.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from typing import Any

from fdf.errors import Problem, did_you_mean
from fdf.recipe.document import Document, Steps

RUN_ID = "{{run_id}}"
BUILT_IN = ("run_id", "name", "stage")
_TEMPLATE = re.compile(r"\{\{\{\{|\{\{\s*(?P<name>[A-Za-z_]\w*)\s*\}\}|\{\{")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


def resolve(document: Document, *, run_id: str = RUN_ID) -> dict[str, Any]:
    """Return the document's data with every template filled in and `vars` gone; findings go to the document.

    With the default `run_id`, that one template stays as it is: so the configuration is hashed.
    """
    data: dict[str, Any] = copy.deepcopy(document.data)
    known: dict[str, Any] = {"run_id": run_id}
    name = data.get("name")
    if isinstance(name, str) and "{{" not in name:
        known["name"] = name
    filler = _Filler(document, known)
    variables = data.pop("vars", None)
    if isinstance(variables, dict):
        for key, value in variables.items():
            if key in BUILT_IN or not _VARIABLE.fullmatch(key):
                why = "is already a template of FDF's own" if key in BUILT_IN else "is no plain word"
                document.add(("vars", key), "FDF122", f"the variable `{key}` {why}", of="key", hint="rename it")
                continue
            known[key] = filler.fill(value, ("vars", key))
    elif variables is not None:
        document.add(("vars",), "FDF112", "`vars` must be a mapping of names to values")
    if "name" in data:
        data["name"] = known["name"] = filler.fill(data["name"], ("name",))
    for key, value in data.items():
        if key == "stages" and isinstance(value, list):
            data[key] = [_stage(filler, stage, number) for number, stage in enumerate(value)]
        elif key != "name":
            data[key] = filler.fill(value, (key,))
    return data


def _stage(filler: _Filler, stage: Any, number: int) -> Any:
    steps: Steps = ("stages", number)
    if not isinstance(stage, dict) or not isinstance(stage.get("name"), str):
        return filler.fill(stage, steps)
    name = filler.fill(stage["name"], (*steps, "name"))
    inner = _Filler(filler.document, {**filler.known, "stage": name})
    return {k: name if k == "name" else inner.fill(v, (*steps, k)) for k, v in stage.items()}


class _Filler:
    def __init__(self, document: Document, known: dict[str, Any]) -> None:
        self.document = document
        self.known = known

    def fill(self, value: Any, steps: Steps) -> Any:
        if isinstance(value, dict):
            return {k: self.fill(v, (*steps, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(v, (*steps, n)) for n, v in enumerate(value)]
        if isinstance(value, str) and "{{" in value:
            return self._text(value, steps)
        return value

    def _text(self, value: str, steps: Steps) -> Any:
        whole = _TEMPLATE.fullmatch(value)
        if whole is not None and whole["name"] in self.known:
            return self.known[whole["name"]]
        return _TEMPLATE.sub(lambda match: self._one(match, steps), value)

    def _one(self, match: re.Match[str], steps: Steps) -> str:
        if match[0] == "{{{{":
            return "{{"
        name = match["name"]
        if name is None:
            self._complain(steps, "{{", "FDF121", "a template is `{{name}}`", "write `{{{{` for two braces")
        elif name in self.known:
            filled = self.known[name]
            return filled if isinstance(filled, str) else json.dumps(filled)
        elif name == "stage":
            self._complain(steps, match[0], "FDF120", "`{{stage}}` has a value only inside a stage")
        else:
            names = ", ".join(sorted({*self.known, *BUILT_IN}))
            there = did_you_mean(name, self.known) or f"there are: {names}; or define it under `vars`"
            self._complain(steps, match[0], "FDF120", f"undefined name `{name}` in `{{{{{name}}}}}`", there)
        return match[0]

    def _complain(self, steps: Steps, template: str, code: str, message: str, hint: str | None = None) -> None:
        place = self.document.place(steps)
        if place is None:
            self.document.add(steps, code, message, hint=hint)
            return
        column = place.text.find(template, place.column - 1)
        if column >= 0:  # a folded text may have it on a later line
            place = replace(place, column=column + 1, length=len(template))
        self.document.note(steps, Problem(code=code, message=message, place=place, hint=hint))
