"""The documentation lives: links resolve, examples run, and every command, option, operator and hook is in it."""

from __future__ import annotations

import doctest
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from fdf import registry

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]
    if ".venv" not in page.parts
)
OPERATOR_PAGES = sorted(page for page in ROOT.glob("docs/ops/*.md") if page.name != "index.md")
PROJECTS = [tomllib.loads(path.read_text())["project"] for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
OPERATORS = [(p["name"], name) for p in PROJECTS for name in p.get("entry-points", {}).get("fdf.operators", {})]
"""The operators that the packages of the repository announce, each with its distribution."""
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def fences(info: str) -> list:
    """Return the fenced blocks with this info string, each with the page and line it stands on."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1] == info:
                line = text[: match.start(2)].count("\n") + 1
                found.append(pytest.param(page, line, match[2], id=f"{page_name(page)}:{line}"))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_resolve(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


def test_every_page_is_reached_from_the_index():
    reached: set[Path] = set()
    ahead = [ROOT / "docs" / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        ahead += [(page.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s:]+)\)", page.read_text())]
    assert sorted(set(ROOT.glob("docs/**/*.md")) - reached) == []


@pytest.mark.parametrize(("page", "line", "code"), fences("python run"))
def test_python_example_runs(page, line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # dataclasses look their module up
    # Blank lines before it, so that a traceback names the page's own line.
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), vars(module))


@pytest.mark.parametrize(("page", "line", "code"), fences("python"))
def test_python_example_that_needs_data_is_python(page, line, code):
    compile("\n" * (line - 1) + code, str(page), "exec")


@pytest.mark.parametrize(("page", "line", "code"), fences("yaml recipe"))
def test_recipe_example_is_valid(page, line, code):
    from fdf import recipe

    assert [problem.render() for problem in recipe.check(code)] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("pipelines/*/*.yaml")), ids=page_name)
def test_bundled_recipe_is_valid_and_announced(path):
    from fdf import recipe

    assert [problem.render() for problem in recipe.check(path)] == []
    announced = {entry.resource() for entry in registry.entries("fdf.pipelines")}
    assert path.resolve() in {resource.resolve() for resource in announced if resource}


def commands(command: click.Command, words: tuple[str, ...]) -> dict[tuple[str, ...], click.Command]:
    """Return a command and all below it by the words that call it."""
    found = {words: command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if not below.hidden:
                found |= commands(below, (*words, name))
    return found


def test_every_command_and_option_is_documented():
    from fdf.cli.main import main

    text = (ROOT / "docs" / "cli.md").read_text()
    sections = dict(re.findall(r"^##+ `([^`]+)`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    missing = []
    for words, command in commands(main, ("fdf",)).items():
        title = " ".join(words)
        group = isinstance(command, click.Group)
        if not group and title not in sections:
            missing.append(title)
            continue
        where = text if group else sections[title]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                missing += [f"{title} {name}" for name in option.opts if name not in where and len(name) > 2]
    assert missing == []
    known = {" ".join(words) for words in commands(main, ("fdf",))}
    assert sorted(set(sections) - known) == [], "docs/cli.md describes what is not there"


def test_operator_pages_are_as_the_classes_have_them():
    from fdf.reference import compare, pages

    ours = sorted({name for name, _ in OPERATORS})
    differences = [f"{page_name(d.path)} is {d.state}" for d in compare(ROOT / "docs" / "ops", pages(ours))]
    assert differences == [], "to mend it: make pages"


def test_every_operator_of_the_repository_has_a_page_in_the_index():
    index = (ROOT / "docs" / "ops" / "index.md").read_text()
    linked = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.md\) \|", index, re.MULTILINE)
    assert sorted(linked) == sorted((name, name) for _, name in OPERATORS)
    assert {page.stem for page in OPERATOR_PAGES} == {name for _, name in OPERATORS}


@pytest.mark.parametrize("page", OPERATOR_PAGES, ids=page_name)
def test_operator_page_tells_reasons_extras_and_what_null_stands_for(page):
    text = page.read_text()
    declared = registry.load("fdf.operators", page.stem)
    reasons = re.findall(r"^- `(\S+)`$", text.partition("\n## Reasons\n")[2].partition("\n## ")[0], re.MULTILINE)
    assert reasons == list(getattr(declared, "reasons", ()))
    distribution = registry.find("fdf.operators", page.stem).distribution
    assert set(declared.extras) <= set(metadata.metadata(distribution).get_all("Provides-Extra") or ())
    rows = re.findall(r"^\| `(\w+)` \| .* \| `null` \| (.*) \|$", text, re.MULTILINE)
    assert [name for name, meaning in rows if not re.search("null|by default", meaning)] == []


@pytest.mark.parametrize("page", OPERATOR_PAGES, ids=page_name)
def test_recipe_on_an_operator_page_is_valid(page):
    from fdf import recipe

    (snippet,) = [code for info, code in FENCE.findall(page.read_text()) if info == "yaml"]
    stage = {"name": "one", "operators": yaml.safe_load(snippet)}
    whole = {"name": "page", "input": {"type": "parquet", "path": "in"}, "stages": [stage]}
    assert [problem.render() for problem in recipe.check(whole)] == []


@pytest.mark.parametrize("page", OPERATOR_PAGES, ids=page_name)
def test_example_on_an_operator_page_gives_what_it_says(page):
    (code,) = [code for info, code in FENCE.findall(page.read_text()) if info == "pycon"]
    example = doctest.DocTestParser().get_doctest(code, {}, page.stem, str(page), 0)
    told: list[str] = []
    result = doctest.DocTestRunner().run(example, out=told.append)
    assert (result.failed, "".join(told)) == (0, "")
    assert result.attempted > 0


@pytest.mark.parametrize("group", ["fdf.sources", "fdf.sinks"])
def test_every_type_of_source_and_sink_is_documented(group):
    text = (ROOT / "docs" / "recipe.md").read_text()
    assert [entry.name for entry in registry.entries(group) if f"`{entry.name}`" not in text] == []


def test_every_hook_is_documented():
    from fdf import hooks

    text = (ROOT / "docs" / "operators.md").read_text()
    named = [name for name in vars(hooks.Specification) if name.startswith("fdf_")]
    assert named
    assert [name for name in named if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/adr/0*.md")), ids=page_name)
def test_decision_has_number_title_status_and_the_parts_of_the_template(page):
    text = page.read_text()
    title = re.match(r"# (\d{4}): (\S.*)", text)
    assert title
    assert page.name.startswith(title[1])
    assert f"| {title[1]} | [{title[2]}]({page.name}) |" in (page.parent / "index.md").read_text()
    assert re.search(r"^Status: (accepted|superseded by \d{4})\. Date: \d{4}-\d\d-\d\d\.", text, re.MULTILINE)
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [part for part in parts if part in ("Question", "Decision", "What it costs")] == [
        "Question",
        "Decision",
        "What it costs",
    ]
