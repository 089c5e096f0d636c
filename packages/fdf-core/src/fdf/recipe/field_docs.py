"""What a dataclass says of its fields: the text under each, which Python itself does not keep."""

from __future__ import annotations

import ast
import inspect
import textwrap


def field_docs(declared: type) -> dict[str, str]:
    """Return the docstring below each field of a class and its bases; none where the source is not at hand."""
    docs: dict[str, str] = {}
    for base in reversed(declared.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):  # made at a prompt, or by exec
            continue
        body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
        named: str | None = None
        for statement in body:
            match statement:
                case ast.AnnAssign(target=ast.Name(id=named)):
                    continue
                case ast.Expr(value=ast.Constant(value=str(text))) if named is not None:
                    docs[named] = " ".join(text.split())
            named = None
    return docs
