"""The page of one operator."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fdf.recipe import operator_schema
from fdf.recipe.parameters import check
from fdf.reference.columns import reads, reports, writes
from fdf.reference.docstring import Docstring
from fdf.reference.wording import cell, default_in_words, in_words, markdown
from fdf.registry import Entry

MARK = "<!-- Written by `fdf ops pages` from the operator's class: change its docstrings, then run that again. -->"
_EXACTNESS = {
    "bitwise": "the same bits everywhere",
    "numeric": "floats of a model",
    "free": "sampled",
}
_ID = {"score": "score", "evaluator": "eval", "filter": "filter", "refiner": "refine", "generator": "generate"}
_SUFFIX = re.compile(r"(?<=.)(Scorer|Score|Evaluator|Filter|Refiner|Generator)$")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One operator, and the name under which its page is kept."""

    entry: Entry
    declared: Any
    name: str

    @property
    def file(self) -> str:
        """The page's file name."""
        return f"{self.name}.md"

    @property
    def summary(self) -> str:
        """The docstring's first paragraph, as Markdown."""
        return markdown(" ".join(Docstring.of(self.declared).summary.split()))

    def text(self, *, pages: Collection[str]) -> str:
        """Return the page. Names of `pages` become links."""
        doc = Docstring.of(self.declared)
        others = [name for name in pages if name != self.name]
        params = self._params(doc)
        parts = [
            MARK,
            f"# {self.entry.name}",
            markdown(doc.summary, pages=others),
            self._facts(),
            markdown(doc.body, pages=others),
            self._parameters(others),
            self._columns(),
            self._reasons(),
            _section("Recipe", _fence("yaml", self._recipe(params))) if params is not None else "",
            _section("Example", _fence("pycon", doc.example(self.declared, module=self._module))),
            _section("Reference", markdown(doc.sources, pages=others)),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras of its package that the operator needs."""
        return tuple(self.declared.extras)

    @property
    def _module(self) -> str:
        plain = self.entry.value.partition(":")[2].strip() == self.declared.__name__
        return self.entry.module if plain else str(self.declared.__module__)

    def _facts(self) -> str:
        declared = self.declared
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        facts = [
            ("kind", declared.kind),
            ("package", f"`{self.entry.distribution}`"),
            ("extras", ", ".join(f"`{e}`" for e in self.extras) or "none needed"),
            ("install", f'`pip install "{self.entry.distribution}{extras}"`'),
            ("modality", declared.modality),
            ("exactness", f"{declared.exactness}: {_EXACTNESS[declared.exactness]}"),
            ("version", declared.version),
        ]
        return _table(("", ""), facts)

    def _parameters(self, pages: Collection[str]) -> str:
        schema = operator_schema(self.declared)
        properties: dict[str, Any] = schema.get("properties", {})
        if not properties:
            return _section("Parameters", "None.")
        rows = []
        for name, said in properties.items():
            if name in schema.get("required", []):
                default = "required"
            else:
                default = self._default(name, said["default"]) if "default" in said else "its members' own"
            rows.append((f"`{name}`", in_words(said), default, markdown(said.get("description", ""), pages=pages)))
        return _section("Parameters", _table(("name", "type", "default", "what it says"), rows))

    def _default(self, name: str, value: Any) -> str:
        """Return a default; where it is null and presets say what that stands for, their values."""
        presets: dict[str, dict[str, Any]] = getattr(self.declared, "PRESETS", {})
        if value is not None or not any(name in stated for stated in presets.values()):
            return default_in_words(value)
        told = {preset: _threshold(stated.get(name)) for preset, stated in presets.items()}
        if len(set(told.values())) == 1:
            return f"null: {next(iter(told.values()))}"
        return "null: " + ", ".join(f"{value} (`{preset}`)" for preset, value in told.items())

    def _columns(self) -> str:
        instance, _ = check(self.declared, {})
        read, written = reads(self.declared, instance=instance), writes(self.declared, instance=instance)
        lines = [f"- Reads: {read}.", f"- Writes: {written}."]
        if reported := reports(self.declared):
            lines.append(f"- Reports, for the gates of `require:`: {reported}.")
        return _section("Columns", "\n".join(lines))

    def _reasons(self) -> str:
        reasons = getattr(self.declared, "reasons", ())
        if not reasons:
            return ""
        listed = "\n".join(f"- `{reason}`" for reason in reasons)
        return _section("Reasons", f"A dropped row carries the first of these that holds:\n\n{listed}")

    def _params(self, doc: Docstring) -> dict[str, Any] | None:
        """Return parameters that are enough to make the operator: none, else those of a call in the example."""
        for given in ({}, *doc.calls(self.declared)):
            _, findings = check(self.declared, _as_yaml_has_it(given))
            if not findings:
                return _as_yaml_has_it(given)
        return None

    def _recipe(self, params: dict[str, Any]) -> str:
        told = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _SUFFIX.sub("", self.entry.name)).lower()
        lines = [
            f'- id: "{_ID[self.declared.kind]}.{told}"',
            f'  kind: "{self.declared.kind}"',
            f'  op: "{self.entry.name if self.name == self.entry.name else self.entry.qualified}"',
        ]
        if params:
            given = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in params.items())
            lines.append(f"  params: {{ {given} }}")
        return "\n".join(lines)


def _threshold(value: Any) -> str:
    if value is None or value is False:
        return "off"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _as_yaml_has_it(given: dict[str, Any]) -> dict[str, Any]:
    """Return Python's arguments as YAML gives parameters: `in` for `in_`, lists for tuples."""
    loaded: dict[str, Any] = json.loads(json.dumps(given))
    return {name.removesuffix("_"): each for name, each in loaded.items()}


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _fence(info: str, text: str) -> str:
    return f"```{info}\n{text}\n```" if text else ""


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell(each) for each in line)} |" for line in lines)
