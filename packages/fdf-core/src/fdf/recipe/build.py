"""From a checked structure to a `Recipe`: operators, sources and sinks are looked up and made, and what only they can
judge is judged. Every mistake is noted; nothing stops at the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fdf.errors import Place
from fdf.models.contract import ModelOperator
from fdf.operator import KINDS, Operator, Resources
from fdf.recipe import lookup, parameters
from fdf.recipe.conditions import check_condition, parse_gate
from fdf.recipe.document import Document, Steps
from fdf.recipe.lookup import Found
from fdf.recipe.mixture import check_buckets, check_mixture
from fdf.recipe.model import (
    SHARD_SIZE,
    DatasetUse,
    Gate,
    Materialize,
    MixtureUse,
    OperatorUse,
    OutputUse,
    SourceUse,
    StageUse,
)
from fdf.recipe.sizes import parse_size

RESERVED_STAGES = ("input", "output")
SOURCE_KEYS = ("type", "name")
OUTPUT_KEYS = ("type", "path", "mode", "shard_size")


class Builder:
    """Builds the parts of one recipe. A part that cannot be built is None, and the document says why.

    `objects` are ready operators from Python by their place in the data.
    """

    def __init__(self, document: Document, base_dir: Path, objects: Mapping[Steps, Any]) -> None:
        self.document = document
        self.base_dir = base_dir
        self.objects = objects
        self._ids: dict[str, int] = {}

    def input(self, data: dict[str, Any]) -> SourceUse | MixtureUse | None:
        """Build the recipe's input."""
        given, steps = data.get("input"), ("input",)
        if not isinstance(given, dict) or not isinstance(given.get("type"), str):
            return None
        if given["type"] == "mixture":
            return self._mixture(given, steps)
        source = self._source(given, steps)
        if source is None:
            return None
        places = self._places(given, steps)
        place = self.document.place(steps, of="key")
        return SourceUse(name=given.get("name", "input"), source=source, place=place, places=places)

    def stages(self, data: dict[str, Any]) -> tuple[StageUse, ...]:
        """Build the stages, as far as they can be."""
        given = data.get("stages") or []
        if not isinstance(given, list):
            return ()
        seen: set[str] = set()
        built = []
        for number, stage in enumerate(given):
            if not isinstance(stage, dict):
                continue
            self._stage_name(stage.get("name"), ("stages", number, "name"), seen)
            built.append(self._stage(stage, ("stages", number)))
        return tuple(stage for stage in built if stage is not None)

    def output(self, data: dict[str, Any]) -> OutputUse | None:
        """Build the output, if there is one."""
        given, steps = data.get("output"), ("output",)
        if not isinstance(given, dict) or not isinstance(given.get("type"), str):
            return None
        found = self.document.attempt((*steps, "type"), lambda: lookup.sink(given["type"]))
        if found is None:
            return None
        noted = len(self.document.problems)
        sink = self._made(found, given, steps, f"`{given['type']}` output", beside=OUTPUT_KEYS)
        misspelt = any(p.hint == "did you mean `path`?" for p in self.document.problems[noted:])
        if "path" not in given and not misspelt:
            self.document.add((*steps, "path"), "FDF111", "missing key `path` in `output`")
        if sink is None or not self.document.sound(*steps):
            return None
        return OutputUse(
            sink=sink,
            path=given["path"],
            mode=given.get("mode", "incremental"),
            shard_size=_bytes(given.get("shard_size", SHARD_SIZE)),
            place=self.document.place(steps, of="key"),
        )

    def _stage_name(self, name: Any, steps: Steps, seen: set[str]) -> None:
        if not isinstance(name, str):
            return
        if name in seen:
            self.document.add(steps, "FDF140", f"two stages are named `{name}`", hint="rename one")
        elif name in RESERVED_STAGES:
            self.document.add(
                steps, "FDF140", f"a stage cannot be named `{name}`: the recipe's own {name} is", hint="rename it"
            )
        seen.add(name)

    def _stage(self, given: dict[str, Any], steps: Steps) -> StageUse | None:
        listed = given.get("operators") or []
        if "operators" in given and "mixture" in given:
            self.document.add((*steps, "mixture"), "FDF142", "a stage has operators or a mixture, not both", of="key",
                              hint="make it a stage of its own")  # fmt: skip
        elif "operators" not in given and "mixture" not in given and self.document.sound(*steps):
            self.document.add(steps, "FDF111", "missing key `operators` in a stage")
        operators = []
        if isinstance(listed, list):
            operators = [
                self._operator(o, (*steps, "operators", n)) for n, o in enumerate(listed) if isinstance(o, dict)
            ]
        mixture = given.get("mixture")
        if isinstance(mixture, dict):
            check_buckets(self.document, mixture, (*steps, "mixture"))
        if not self.document.sound(*steps):
            return None
        return StageUse(
            name=given["name"],
            operators=tuple(o for o in operators if o is not None),
            mixture=mixture,
            materialize=Materialize(**given.get("materialize", {})),
            min_errors=given.get("min_errors", 10),
            max_error_rate=given.get("max_error_rate", 0.001),
            place=self.document.place(steps),
        )

    def _operator(self, given: dict[str, Any], steps: Steps) -> OperatorUse | None:
        self._unique_id(given.get("id"), (*steps, "id"))
        found = self._operator_class(given, steps)
        operator: Operator | None = None
        if found is not None:
            self._kind(given, found, steps)
            operator = self._ready(given, steps) or self._parametrized(given, found, steps)
            self._batch_size(given, found, steps)
        when = given.get("when")
        if isinstance(when, str):
            check_condition(self.document, (*steps, "when"), when)
        require = self._gates(given, found, steps)
        resources = self._resources(given.get("resources"), found, (*steps, "resources"))
        if found is None or operator is None or not self.document.sound(*steps):
            return None
        fields = given.get("write_fields")
        return OperatorUse(
            id=given["id"],
            kind=given["kind"],
            op=given["op"],
            operator=operator,
            distribution=found.distribution,
            distribution_version=found.version,
            resources=resources,
            batch_size=given.get("batch_size", operator.batch_rows),
            write_fields=None if fields is None else tuple(fields),
            on_error=given.get("on_error", "quarantine") or "null",
            when=when,
            require=require,
            place=self.document.place(steps),
        )

    def _unique_id(self, name: Any, steps: Steps) -> None:
        if not isinstance(name, str):
            return
        if name in self._ids:
            first = self.document.place(("stages", self._ids[name]))
            where = f"also in the stage on line {first.line}" if first else "also used before"
            self.document.add(steps, "FDF204", f"two operators have the id `{name}`", hint=f"{where}; rename one")
        else:
            self._ids[name] = int(steps[1])

    def _operator_class(self, given: dict[str, Any], steps: Steps) -> Found | None:
        ready = self.objects.get(steps)
        if ready is not None and given.get("op") == lookup.name_of(type(ready)):
            distribution, version = lookup.distribution_of(type(ready).__module__)
            return Found(declared=type(ready), distribution=distribution, version=version)
        op, kind = given.get("op"), given.get("kind")
        if not isinstance(op, str):
            return None
        return self.document.attempt(
            (*steps, "op"),
            lambda: lookup.operator(
                op, kind=kind if isinstance(kind, str) and kind in KINDS else None, base_dir=self.base_dir
            ),
        )

    def _ready(self, given: dict[str, Any], steps: Steps) -> Operator | None:
        """Return the instance that Python handed in, unless an override changed what it is made from."""
        ready: Operator | None = self.objects.get(steps)
        if ready is None or given.get("op") != lookup.name_of(type(ready)):
            return None
        return ready if given.get("params", {}) == parameters.stated(ready) else None

    def _kind(self, given: dict[str, Any], found: Found, steps: Steps) -> None:
        kind, actual = given.get("kind"), found.kind
        if isinstance(kind, str) and kind != actual and self.document.sound(*steps, "kind"):
            message = f"`{given.get('op')}` is not of kind `{kind}`"
            self.document.add((*steps, "kind"), "FDF205", message, hint=f"it is of kind `{actual}`")

    def _batch_size(self, given: dict[str, Any], found: Found, steps: Steps) -> None:
        if given.get("batch_size") == "auto" and not issubclass(found.declared, ModelOperator):
            message = f"`batch_size: auto` is for operators that run a model, and `{given.get('op')}` runs none"
            self.document.add((*steps, "batch_size"), "FDF217", message, hint="give a number of rows, or leave it out")

    def _parametrized(self, given: dict[str, Any], found: Found, steps: Steps) -> Operator | None:
        params = given.get("params") or {}
        if not isinstance(params, dict):
            return None
        operator, findings = parameters.check(found.declared, params)
        name, base = found.declared.__name__, (*steps, "params")
        show = f"fdf ops show {given['op']}"
        for finding in findings:
            at = base + finding.at
            if finding.fault == "value" and not self.document.sound(*at):
                continue  # a template or a number that was complained of already
            match finding.fault:
                case "unknown":
                    self.document.add(at, "FDF213", f"unknown parameter `{finding.message}` for {name}",
                                      of="key", hint=finding.hint, help=show)  # fmt: skip
                case "missing":
                    at = at if "params" in given else steps
                    self.document.add(at, "FDF210", f"{name} needs the parameter `{finding.message}`", help=show)
                case "value":
                    self.document.add(at, "FDF211", f"{finding.message} in {name}", hint=finding.hint, help=show)
                case "refused":
                    at = base if "params" in given else steps
                    self.document.add(
                        at, "FDF212", f"{name}: {finding.message}", of="key", hint=finding.hint, help=show
                    )
                case _:
                    self.document.add((*steps, "op"), "FDF214", finding.message)
        return operator  # type: ignore[no-any-return]  # an instance of the class that lookup checked

    def _gates(self, given: dict[str, Any], found: Found | None, steps: Steps) -> tuple[Gate, ...]:
        listed = given.get("require")
        if not isinstance(listed, list):
            return ()
        steps = (*steps, "require")
        if found is not None and found.kind != "evaluator":
            self.document.add(
                steps, "FDF207", f"`require` belongs to evaluators, and {found.declared.__name__} is none", of="key"
            )
        gates = [
            self.document.attempt((*steps, n), partial(parse_gate, text))
            for n, text in enumerate(listed)
            if isinstance(text, str)
        ]
        return tuple(gate for gate in gates if gate is not None)

    def _resources(self, given: Any, found: Found | None, steps: Steps) -> Resources:
        default: Resources = getattr(found.declared, "resources", Resources()) if found else Resources()
        if not isinstance(given, dict) or not self.document.sound(*steps):
            return default
        asked = {k: _bytes(v) if k == "memory" else v for k, v in given.items()}
        return replace(default, **asked)

    def _source(self, given: dict[str, Any], steps: Steps) -> Any:
        """Build a source, or None where it cannot be."""
        kind = given["type"]
        found = self.document.attempt((*steps, "type"), lambda: lookup.source(kind))
        if found is None:
            return None
        made = self._made(found, given, steps, f"`{kind}` source", beside=SOURCE_KEYS)
        # A source of code is found beside the recipe, as an operator's file is.
        return made.beside(self.base_dir) if hasattr(made, "beside") else made

    def _made(self, found: Found, given: dict[str, Any], steps: Steps, what: str, *, beside: tuple[str, ...]) -> Any:
        """Make a source or sink from its options; findings say `key`, since that is what options are in a recipe."""
        options = {k: v for k, v in given.items() if k not in beside}
        made, findings = parameters.check(found.declared, options, beside=beside)
        for finding in findings:
            at = steps + finding.at
            if finding.fault == "value" and not self.document.sound(*at):
                continue  # as above
            match finding.fault:
                case "unknown":
                    message = f"unknown key `{finding.message}` for the {what}"
                    self.document.add(at, "FDF110", message, of="key", hint=finding.hint)
                case "missing":
                    self.document.add(at, "FDF111", f"missing key `{finding.message}` for the {what}")
                case "value":
                    self.document.add(at, "FDF113", f"{finding.message} in the {what}", hint=finding.hint)
                case _:
                    self.document.add(at, "FDF113", f"the {what}: {finding.message}", hint=finding.hint)
        return made

    def _datasets(self, listed: Any, steps: Steps) -> tuple[DatasetUse, ...]:
        """Build the datasets of a mixture or of a group, as far as they can be."""
        built = []
        for number, given in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(given, dict):
                dataset = self._dataset(given, (*steps, number))
                built += [] if dataset is None else [dataset]
        return tuple(built)

    def _dataset(self, given: dict[str, Any], steps: Steps) -> DatasetUse | None:
        if ("source" in given) == ("datasets" in given):
            if self.document.sound(*steps):
                self.document.add(steps, "FDF111", "a dataset of a mixture needs `source` or `datasets`, one of them")
            return None
        inner = self._datasets(given["datasets"], (*steps, "datasets")) if "datasets" in given else ()
        source = given.get("source")
        made = None
        if isinstance(source, dict) and isinstance(source.get("type"), str):
            if source["type"] == "mixture":
                self.document.add((*steps, "source", "type"), "FDF242", "a mixture inside a mixture",
                                  hint="give the dataset `datasets:` in place of `source:`")  # fmt: skip
                return None
            made = self._source(source, (*steps, "source"))
        if (made is None and not inner) or not self.document.sound(*steps):
            return None
        return DatasetUse(
            name=given["name"],
            source=made,
            weight=given.get("weight"),
            cap=given.get("cap"),
            epochs=given.get("epochs"),
            datasets=inner,
            place=self.document.place(steps),
        )

    def _places(self, given: dict[str, Any], steps: Steps) -> dict[str, Place]:
        return {key: place for key in given if (place := self.document.place((*steps, key), of="key")) is not None}

    def _mixture(self, given: dict[str, Any], steps: Steps) -> MixtureUse | None:
        datasets = self._datasets(given.get("datasets"), (*steps, "datasets"))
        check_mixture(self.document, given, steps)
        if not self.document.sound(*steps):
            return None
        return MixtureUse(
            name=given.get("name", "input"),
            datasets=datasets,
            settings={k: v for k, v in given.items() if k not in ("type", "name", "datasets")},
            place=self.document.place(steps, of="key"),
            places=self._places(given, steps),
        )


def _bytes(size: int | str) -> int:
    return size if isinstance(size, int) else parse_size(size) or 0
