"""Reference pages of a third party's package: what they tell, and what happens to the folder they are kept in."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fdf.cli.main import main
from fdf.errors import MissingDependency, PlanError
from fdf.reference import compare, in_words, pages, write

MODULE = r'''
import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

import fdf

LIMIT = 3


@dataclass(frozen=True)
class Span:
    start: int = 0
    end: int = 9


@dataclass(frozen=True, kw_only=True)
class LongFilter(fdf.Filter):
    """Keep texts of at least some characters, list<string> or not.

    Longer than ``min_chars | LIMIT``; see `LengthScore`.

    Source: Doe 2020 (arXiv 2112.11446), section 3. A null text is kept.

    >>> LongFilter(min_chars=LIMIT, in_=("a",)).verdict(pa.record_batch({"text": ["ab", "abc"]})).codes.tolist()
    [1, 0]
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["mild", "strict", "none"] = "mild"
    """Whose threshold holds."""
    min_chars: int | Literal[False] | None = None
    """The fewest characters."""
    in_: tuple[str, ...]
    """Which."""
    span: Span | None = None
    """Where; null: everywhere."""
    max_bytes: int = 1024
    """How much."""
    bounds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Name: bound."""
    inner: Span = dataclasses.field(default_factory=Span)
    """Inside."""

    version = "2.1.0"
    modality = "text"
    extras = ("long", "short")
    reasons = ("too_short",)
    PRESETS: ClassVar = {"mild": {"min_chars": 1000}, "strict": {"min_chars": 2000}, "none": {}}

    def verdict(self, batch):
        return fdf.Verdict.first(too_short=fdf.below(pc.utf8_length(batch.column(self.field)), self.min_chars))


@dataclass(frozen=True, kw_only=True)
class LengthScore(fdf.Score):
    """Add `length`."""

    field: str = "text"

    version = "1.0.0"

    def writes(self, schema):
        """Return ``the length``. Raises nothing."""
        return {"length": pa.int32()}

    def score(self, batch):
        return {"length": pc.utf8_length(batch.column(self.field))}
'''
POINTS = {"fdf.operators": ["LongFilter = long_ops.all:LongFilter", "LengthScore = long_ops.all:LengthScore"]}


@pytest.fixture
def package(install):
    install("long-ops", POINTS, {"long_ops/__init__.py": "", "long_ops/all.py": MODULE})
    return "long-ops"


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n\n")[2].partition("\n\n## ")[0]


def row(page: str, name: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    return [part.strip() for part in line.replace(r"\|", "!").split("|")[1:-1]]


def test_page_tells_what_the_class_declares(package):
    page = pages([package])["LongFilter.md"]
    assert "\n# LongFilter\n\nKeep texts of at least some characters, list&lt;string> or not.\n" in page
    assert row(page, "kind")[1] == "filter"
    assert row(page, "install")[1] == '`pip install "long-ops[long,short]"`'
    assert row(page, "version")[1] == "2.1.0"
    assert row(page, "exactness")[1].startswith("bitwise")
    assert section(page, "Reasons").endswith("- `too_short`")
    reads = "- Reads: the column that `field` names, by default `text`."
    assert section(page, "Columns") == f"{reads}\n- Writes: no columns."


def test_parameters_are_named_and_typed_as_a_recipe_writes_them(package):
    page = pages([package])["LongFilter.md"]
    assert row(page, "`in`")[1:] == ["list of text", "required", "Which."]
    assert row(page, "`preset`")[1:3] == ['`"mild"`, `"strict"` or `"none"`', '`"mild"`']
    assert row(page, "`span`")[1:3] == ["mapping or null", "`null`"]
    assert row(page, "`max_bytes`")[1:3] == ['integer or text such as `"64 MiB"`', "`1024`"]
    assert row(page, "`bounds`")[1:3] == ["mapping of names to number", "`{}`"]
    assert row(page, "`inner`")[1:3] == ["mapping", "its members' own"]


def test_null_shows_what_each_preset_makes_of_it(package):
    page = pages([package])["LongFilter.md"]
    assert row(page, "`min_chars`")[1:3] == [
        "integer, `false` or null",
        "null: 1,000 (`mild`), 2,000 (`strict`), off (`none`)",
    ]


def test_source_stands_apart_from_what_happens_to_nulls(package):
    page = pages([package])["LongFilter.md"]
    assert (
        section(page, "Reference").strip()
        == "Doe 2020 ([arXiv 2112.11446](https://arxiv.org/abs/2112.11446)), section 3."
    )
    assert "\n\nA null text is kept.\n\n## Parameters" in page
    assert "Longer than `min_chars | LIMIT`; see [`LengthScore`](LengthScore.md)." in page


def test_recipe_takes_the_parameters_of_the_example_where_defaults_are_not_enough(package):
    # `min_chars=LIMIT` is no plain value, so no call in the example can be written as YAML.
    assert "## Recipe" not in pages([package])["LongFilter.md"]
    plain = 'op: "LengthScore"\n```'
    assert section(pages([package])["LengthScore.md"], "Recipe").strip().endswith(plain)


def test_example_brings_the_imports_that_it_needs(package):
    example = section(pages([package])["LongFilter.md"], "Example")
    assert (
        ">>> import pyarrow as pa\n>>> from long_ops.all import LIMIT\n>>> from long_ops.all import LongFilter\n"
        in example
    )
    assert "pc" not in example.split()


def test_written_columns_are_told_with_the_types_they_have_by_default(package):
    assert "- Writes: `the length` (by default `length` (int32))." in pages([package])["LengthScore.md"]


def test_a_list_of_hundreds_is_not_told_in_full(install):
    code = MODULE.replace("in_: tuple[str, ...]\n", f"in_: tuple[str, ...] = {tuple(f'w{i:03}' for i in range(300))}\n")
    install("long-ops", POINTS, {"long_ops/__init__.py": "", "long_ops/all.py": code})
    default = row(pages(["long-ops"])["LongFilter.md"], "`in`")[2]
    assert default == '`["w000", "w001", "w002", "w003", "w004", ...]` (300 in all)'


def test_index_lists_by_modality_then_kind(package):
    index = pages([package])["index.md"]
    assert index.index("## Any data") < index.index("(LengthScore.md)") < index.index("## Text")
    assert (
        "| [`LongFilter`](LongFilter.md) | filter | long-ops[long,short] | Keep texts" in index.partition("## Text")[2]
    )


def test_two_packages_with_one_name_get_two_pages(install, package):
    install("other-ops", {"fdf.operators": ["LengthScore = other_ops.all:LengthScore"]},
            {"other_ops/__init__.py": "", "other_ops/all.py": MODULE})  # fmt: skip
    made = pages([package, "other-ops"])
    assert set(made) == {"index.md", "LongFilter.md", "long-ops-LengthScore.md", "other-ops-LengthScore.md"}
    assert 'op: "other-ops:LengthScore"' in made["other-ops-LengthScore.md"]
    assert pages([package, package]) == pages([package])


def test_folder_is_brought_up_to_date_and_nothing_else_in_it_is_touched(package, tmp_path):
    folder = tmp_path / "docs" / "ops"
    wanted = pages([package])
    assert {d.state for d in write(folder, wanted)} == {"missing"}
    assert {p.name: p.read_text() for p in folder.iterdir()} == wanted
    assert write(folder, wanted) == []

    (folder / "LongFilter.md").write_text(wanted["LongFilter.md"] + "more")
    (folder / "Gone.md").write_text(wanted["LengthScore.md"])
    (folder / "by-hand.md").write_text("# Mine\n")
    found = [(d.path.name, d.state) for d in compare(folder, wanted)]
    assert found == [("Gone.md", "left over"), ("LongFilter.md", "stale")]
    write(folder, wanted)
    assert {p.name: p.read_text() for p in folder.iterdir()} == wanted | {"by-hand.md": "# Mine\n"}


def test_page_written_by_hand_is_not_overwritten(package, tmp_path):
    (tmp_path / "index.md").write_text("# My documentation\n")
    with pytest.raises(PlanError, match=r"index\.md was not written by `fdf ops pages`"):
        write(tmp_path, pages([package]))
    assert [p.name for p in tmp_path.glob("*.md")] == ["index.md"]


def test_command_writes_and_checks(package, tmp_path):
    def call(*words):
        return CliRunner().invoke(main, ["ops", "pages", "--out", str(tmp_path / "ops"), *words])

    assert call("--check", package).exit_code == 1
    assert not (tmp_path / "ops").exists()
    assert call(package).stdout.count("wrote ") == 3
    assert call("--check", package).exit_code == 0
    (tmp_path / "ops" / "index.md").unlink()
    stale = call("--check", "--json", package)
    assert stale.exit_code == 1
    assert json.loads(stale.stdout) == [{"path": str(tmp_path / "ops" / "index.md"), "state": "missing"}]
    assert call("absent").exit_code == 4


def test_what_is_announced_and_is_no_operator_is_named(install):
    install("odd-ops", {"fdf.operators": ["Odd = odd_ops:ODD"]}, {"odd_ops.py": "ODD = 1\n"})
    with pytest.raises(MissingDependency, match="`odd_ops:ODD`, which `odd-ops` announces as operator, is none"):
        pages(["odd-ops"])
    code = "import fdf\nclass Plain(fdf.Filter):\n    version = '1'\n    def verdict(self, batch): ...\n"
    install("plain-ops", {"fdf.operators": ["Plain = plain_ops:Plain"]}, {"plain_ops.py": code})
    with pytest.raises(MissingDependency, match="Plain is not a dataclass: decorate it"):
        pages(["plain-ops"])


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "mapping of names to text"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}, "number or null"),
        ({"type": "array", "items": [{"type": "string"}, {"type": "number"}]}, "list of 2: text, number"),
        ({"const": "a"}, '`"a"`'),
        ({"default": {}, "allOf": [{"$ref": "#/definitions/Span"}]}, "mapping"),
        ({}, "any value"),
    ],
)
def test_types_are_told_in_words(schema, words):
    assert in_words(schema) == words
