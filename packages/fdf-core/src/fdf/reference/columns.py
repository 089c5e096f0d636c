"""Which columns an operator reads and writes, as far as its class tells without data."""

from __future__ import annotations

import inspect
from typing import Any

import pyarrow as pa

from fdf.operator import Evaluator, Operator
from fdf.reference.wording import markdown

# An operator that refuses text may take bytes, or numbers.
_LIKELY = (pa.string(), pa.binary(), pa.float64(), pa.list_(pa.float32()))


def reads(declared: Any, *, instance: Operator | None) -> str:
    """Say which columns the verb looks at: in the docstring's words where the class decides it itself."""
    if declared.reads is Operator.reads:
        if "fields" in declared.__dataclass_fields__:
            return "the columns that `fields` names"
        held = getattr(declared.__dataclass_fields__.get("field"), "default", None)
        return "the column that `field` names" + (f", by default `{held}`" if isinstance(held, str) else "")
    return _both(_said(declared.reads), ", ".join(f"`{name}`" for name in _asked(instance)))


def writes(declared: Any, *, instance: Operator | None) -> str:
    """Say which columns the verb returns; with default parameters also their names and types."""
    if declared.writes is Operator.writes:
        return "no columns"
    return _both(_said(declared.writes), _written(instance) if instance is not None else "")


def reports(declared: Any) -> str:
    """Say what an evaluator reports, which gates may name; nothing for other kinds."""
    return _said(declared.report) if issubclass(declared, Evaluator) else ""


def _both(said: str, by_default: str) -> str:
    if said and by_default:
        return f"{said} (by default {by_default})"
    return said or by_default or "as its parameters say"


def _said(method: Any) -> str:
    """Return what a method's docstring says it returns: its first sentence, without the verb."""
    first = " ".join((inspect.getdoc(method) or "").split()).partition(". ")[0].rstrip(".")
    # The contract's own docstring, inherited, says nothing of this operator.
    own = method.__doc__ is not None and first.startswith("Return ")
    return markdown(first.removeprefix("Return ")) if own else ""


def _asked(instance: Operator | None) -> list[str]:
    if instance is None:
        return []
    try:
        return list(instance.reads(pa.schema([])))
    except Exception:  # noqa: BLE001 (a stranger's code, asked without data: any failure means that it cannot tell)
        return []


def _written(instance: Operator) -> str:
    names = _asked(instance)
    for kind in _LIKELY:
        try:
            written = instance.writes(pa.schema([(name, kind) for name in names]))
        except Exception:  # noqa: BLE001, S112 (as above; the next type may fit)
            continue
        return ", ".join(
            # A column that was there keeps a type that nobody knows here.
            f"`{name}`" if name in names or made is None else f"`{name}` ({made})"
            for name, made in written.items()
        )
    return ""
