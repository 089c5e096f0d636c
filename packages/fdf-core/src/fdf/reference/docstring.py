"""A docstring of an operator, cut into what a page shows in different places."""

from __future__ import annotations

import ast
import builtins
import doctest
import inspect
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_SOURCE = re.compile(r"^Sources?: ", re.MULTILINE)
# What happens to nulls is often told in the source's paragraph, as its last sentence.
_NULLS = re.compile(r"\sA null [^.]*\.(?: .*)?$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Docstring:
    """The first paragraph, what follows, the sources (without the word), and the lines of the doctest."""

    summary: str
    body: str
    sources: str
    examples: tuple[doctest.Example, ...]

    @classmethod
    def of(cls, declared: Any) -> Docstring:
        """Read the class's own docstring; every part may be empty."""
        text = inspect.cleandoc(declared.__doc__ or "")
        parts = doctest.DocTestParser().parse(text)
        prose = "\n\n".join(part.strip("\n") for part in parts if isinstance(part, str))
        paragraphs = [p.rstrip() for p in re.split(r"\n\s*\n", prose) if p.strip()]
        summary, rest = (paragraphs[0], paragraphs[1:]) if paragraphs else ("", [])
        body, sources = [], []
        for paragraph in rest:
            if not _SOURCE.match(paragraph):
                body.append(paragraph)
                continue
            told = _SOURCE.sub("", paragraph, count=1)
            nulls = _NULLS.search(told)
            sources.append(told[: nulls.start()] if nulls else told)
            body += [nulls[0].strip()] if nulls else []
        return cls(
            summary=summary,
            body="\n\n".join(body),
            sources="\n\n".join(sources),
            examples=tuple(part for part in parts if isinstance(part, doctest.Example)),
        )

    def example(self, declared: Any, *, module: str) -> str:
        """Return the doctest with the imports that it needs, so that it runs as it stands; empty where there is none.

        `module` is where a reader would import the operator from.
        """
        if not self.examples:
            return ""
        lines = [f">>> {line}" for line in _imports(declared, self._code(), module=module)]
        for example in self.examples:
            first, *more = example.source.splitlines()
            lines += [f">>> {first}", *(f"... {line}".rstrip() for line in more)]
            lines += example.want.splitlines()
        return "\n".join(lines)

    def calls(self, declared: Any) -> list[dict[str, Any]]:
        """Return the arguments of each call of the class in the doctest, as far as they are plain values."""
        found = []
        for node in ast.walk(ast.parse(self._code())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == declared.__name__:
                try:
                    found.append({k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None})
                except ValueError:  # an argument that only Python can write
                    continue
        return found

    def _code(self) -> str:
        return "".join(example.source for example in self.examples)


def _imports(declared: Any, code: str, *, module: str) -> list[str]:
    """Return imports of the names that an example uses and its module has."""
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(_imported(code))
    used = {node.id for node in names} - made - set(vars(builtins))
    there = vars(sys.modules[declared.__module__])
    lines = set()
    for name in used & set(there):
        value = there[name]
        if isinstance(value, ModuleType):
            alias = "" if value.__name__ == name else f" as {name}"
            lines.add(f"import {value.__name__}{alias}")
        else:
            lines.add(f"from {module if value is declared else declared.__module__} import {name}")
    return sorted(lines, key=lambda line: (line.startswith("from"), line))


def _imported(code: str) -> list[str]:
    imports = (node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return [(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names]
