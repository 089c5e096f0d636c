"""The published JSON Schema: valid draft-07, complete, and of one mind with the validation itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from jsonschema import Draft7Validator
from pydantic import Field

from fdf import recipe, registry
from fdf.recipe import parameters
from fdf.recipe.grammar import GRAMMAR

SHIPPED = sorted((Path(__file__).parents[3] / "pipelines").glob("*/*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = recipe.recipe_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


VALID = {
    "name": "ok",
    "vars": {"least": 0.5},
    "input": {"type": "parquet", "path": ["a", "b"], "max_row_bytes": "1 MiB", "columns": {"text": "content"}},
    "stages": [
        {
            "name": "s",
            "operators": [
                {"id": "f", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "x", "ge": "{{least}}"}},
                {"id": "g", "kind": "filter", "op": "mine.py:f", "params": {"anything": 1}, "on_error": None},
            ],
        }
    ],
    "output": {"type": "parquet", "path": "o", "shard_size": "{{size}}"},
}


def test_the_schema_of_the_grammar_is_draft_07():
    Draft7Validator.check_schema(GRAMMAR)


def test_every_reference_leads_somewhere(validator):
    def references(part):
        if isinstance(part, dict):
            for key, value in part.items():
                yield from [value] if key == "$ref" and isinstance(value, str) else references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(validator.schema))
    assert found
    assert {r.removeprefix("#/definitions/") for r in found} <= set(validator.schema["definitions"])


def test_a_valid_recipe_passes_templates_included(validator):
    assert list(validator.iter_errors(VALID)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["stages"][0]["operators"][0]["params"].update(fild="x"),
        lambda r: r["stages"][0]["operators"][0]["params"].update(ge=[1]),
        lambda r: r["stages"][0]["operators"][0].update(kind="score"),
        lambda r: r["stages"][0]["operators"][0].pop("params"),
        lambda r: r["input"].update(pth="x"),
        lambda r: r["input"].update(type="parquets"),
        lambda r: r["output"].update(level=[]),
        lambda r: r["output"].pop("path"),
        lambda r: r.update(stage=[]),
        lambda r: r.update(seed="one"),
    ],
)
def test_a_mistake_in_what_packages_define_fails_the_schema(validator, change):
    wrong = yaml.safe_load(yaml.safe_dump(VALID))
    change(wrong)
    assert list(validator.iter_errors(wrong)) != []


def test_every_installed_operator_source_and_sink_is_in_it(validator):
    definitions = validator.schema["definitions"]
    broken = {(b.entry.group, b.entry.name) for b in registry.broken()}
    for operator in registry.operators():
        if ("fdf.operators", operator.name) not in broken:
            assert f"params.{operator.op}" in definitions
    types = {case["if"]["properties"]["type"]["const"] for case in definitions["source"]["allOf"]}
    assert types >= {"parquet", "huggingface"}
    assert [case["if"]["properties"]["type"]["const"] for case in definitions["output"]["allOf"]] == sorted(
        e.name for e in registry.entries("fdf.sinks") if ("fdf.sinks", e.name) not in broken
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_recipes_validate(validator, path):
    data = recipe.loading.read_file(path).data
    assert [e.message for e in validator.iter_errors(data)] == []
    assert [p.render() for p in recipe.check(path)] == []


def test_the_readme_recipe_validates_against_the_schema(validator):
    path = Path(__file__).parents[4] / "shared" / "vlm-recipe-v1.yaml"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert list(validator.iter_errors(recipe.loading.read_file(path).data)) == []


@dataclass(frozen=True, kw_only=True)
class Inner:
    a: int = 1


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All that a parameter can be."""

    needed: str
    """What is needed."""
    schema: dict[str, str] | None = None
    share: float = 1.0
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[str, ...] = ()
    mode: Literal["fast", "exact"] = "fast"
    inner: Inner = field(default_factory=Inner)
    names: frozenset[str] = frozenset()
    bounded: Annotated[int, Field(ge=3)] = 4
    chunk_bytes: int = 1024

    def __post_init__(self):
        if self.bounded > 99:
            raise ValueError("bounded is too large: at most 99")


def test_a_dataclass_becomes_draft_07_with_its_docs_and_defaults():
    schema = parameters.json_schema(Everything)
    Draft7Validator.check_schema(schema)
    properties = schema["properties"]
    assert schema["required"] == ["needed"]
    assert properties["needed"] == {"type": "string", "description": "What is needed."}
    assert properties["pair"]["items"] == [{"type": "integer"}, {"type": "number"}]
    assert properties["pair"]["additionalItems"] is False
    assert properties["inner"] == {"$ref": "#/definitions/Inner"}
    assert properties["bounded"]["minimum"] == 3
    assert properties["mode"]["enum"] == ["fast", "exact"]


def test_yaml_values_fit_the_types_that_python_declares():
    made, findings = parameters.check(
        Everything,
        {
            "needed": "x",
            "share": 2,
            "pair": [3, 4],
            "many": ["a"],
            "inner": {"a": 5},
            "names": ["n"],
            "chunk_bytes": "2 KiB",
        },
    )
    assert findings == []
    assert made == Everything(
        needed="x", share=2.0, pair=(3, 4.0), many=("a",), inner=Inner(a=5), names=frozenset({"n"}), chunk_bytes=2048
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ("missing", ("needed",), "needed")),
        ({"need": "x"}, ("unknown", ("need",), "need")),
        ({"needed": 1}, ("value", ("needed",), "`needed` must be a string")),
        ({"needed": "x", "bounded": "7"}, ("value", ("bounded",), "`bounded` must be an integer")),
        ({"needed": "x", "bounded": True}, ("value", ("bounded",), "`bounded` must be an integer")),
        ({"needed": "x", "bounded": 1}, ("value", ("bounded",), "`bounded` must be greater than or equal to 3")),
        ({"needed": "x", "bounded": 100}, ("refused", (), "bounded is too large: at most 99")),
        ({"needed": "x", "mode": "exat"}, ("value", ("mode",), "`mode` must be `fast` or `exact`")),
        ({"needed": "x", "schema": {"a": 1}}, ("value", ("schema", "a"), "`schema.a` must be a string")),
        ({"needed": "x", "inner": {"b": 1}}, ("unknown", ("inner", "b"), "b")),
        ({"needed": "x", "many": ["a", 2]}, ("value", ("many", 1), "`many.1` must be a string")),
        ({"needed": "x", "schema": []}, ("value", ("schema",), "`schema` must be a mapping")),
    ],
)
def test_a_parameter_that_does_not_fit_is_one_finding_at_its_place(params, expected):
    made, findings = parameters.check(Everything, params)
    assert made is None
    assert [(f.fault, f.at, f.message) for f in findings] == [expected]


def test_a_class_that_is_no_dataclass_cannot_be_described():
    class Plain:
        pass

    with pytest.raises(TypeError, match="not a dataclass"):
        parameters.json_schema(Plain)
