"""What FDF says when something is wrong: every error type, and the shape of every message.

An exception's type decides the exit code and whether a retry helps. A `Problem` is one finding with its place
and its next step; an `FdfError` carries one or many, so that all mistakes of a recipe are told at once.

Codes are stable: 1xx the YAML and its grammar, 2xx operators and their parameters, 3xx inputs, columns and the
plan, 4xx a running stage, 5xx the environment, 6xx other writers, 9xx FDF itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a text file something stands; line and column count from 1."""

    file: str
    line: int
    column: int
    text: str = ""
    length: int = 1


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding: what is wrong, where, and what to do next."""

    code: str
    message: str
    place: Place | None = None
    hint: str | None = None
    help: str | None = None
    warning: bool = False
    about: str | None = None
    """The key of the input that it is about, for a caller who knows where that stands; see `FdfError.placed`."""

    def render(self) -> str:
        """Return the finding as the terminal shows it: code, place, the line with a marker, the next step."""
        out = [f"{'warning' if self.warning else 'error'}[{self.code}]: {self.message}"]
        gutter = ""
        if self.place is not None:
            number = str(self.place.line)
            gutter = " " * len(number)
            out.append(f"{gutter}--> {self.place.file}:{self.place.line}:{self.place.column}")
            if self.place.text:
                marker = " " * (self.place.column - 1) + "^" * max(1, self.place.length)
                out += [f"{gutter} |", f"{number} | {self.place.text}"]
                out.append(f"{gutter} | {marker}" + (f" {self.hint}" if self.hint else ""))
            elif self.hint:
                out.append(f"{gutter} = {self.hint}")
        elif self.hint:
            out.append(f" = {self.hint}")
        if self.help:
            out.append(f"{gutter} = help: {self.help}")
        return "\n".join(out)

    def to_json(self) -> dict[str, object]:
        """Return the finding as plain JSON values, for `--json`."""
        place = self.place
        return {
            "code": self.code,
            "severity": "warning" if self.warning else "error",
            "message": self.message,
            "file": place.file if place else None,
            "line": place.line if place else None,
            "column": place.column if place else None,
            "hint": self.hint,
            "help": self.help,
        }


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """Return ``did you mean `x`?`` for the closest candidate, or None where nothing is close."""
    close = get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


class FdfError(Exception):
    """The base of every error that FDF raises on purpose."""

    exit_code = 70
    default_code = "FDF900"

    def __init__(self, *problems: Problem | str, help: str | None = None) -> None:  # noqa: A002 (the word that users see)
        self.problems = tuple(
            p if isinstance(p, Problem) else Problem(code=self.default_code, message=p, help=help) for p in problems
        )
        super().__init__("\n\n".join(p.render() for p in self.problems))

    def placed(self, places: Mapping[str, Place], *, otherwise: str) -> Self:
        """Return the error with the place of each finding that has none: that of the key which it is about."""
        found = (
            p if p.place else replace(p, place=places.get(p.about or otherwise, places.get(otherwise)))
            for p in self.problems
        )
        return type(self)(*found)

    def __reduce__(self) -> tuple[type[FdfError], tuple[Problem, ...]]:
        return type(self), self.problems


class RecipeError(FdfError):
    """The recipe cannot be used as it is written."""

    exit_code = 2
    default_code = "FDF100"


class PlanError(FdfError):
    """The recipe is well-formed but cannot run on this input."""

    exit_code = 2
    default_code = "FDF300"


class StageFailed(FdfError):
    """A stage could not be committed; what was committed before is safe and the run can be resumed."""

    exit_code = 3
    default_code = "FDF400"


class OperatorMisbehaved(StageFailed):
    """An operator broke its contract: a wrong length, column or type. A fault of its code, not of a row."""

    default_code = "FDF421"


class BadFile(StageFailed):
    """An input file cannot be read as what it should be."""

    default_code = "FDF410"

    def of(self, uri: str) -> BadFile:
        """Return the error with the file's name in it, where it was raised without knowing that."""
        if any(uri in p.message for p in self.problems):
            return self
        return BadFile(*(replace(p, message=f"{uri}: {p.message}") for p in self.problems))


class MissingDependency(FdfError):
    """The environment lacks something: a package, a device, a credential."""

    exit_code = 4
    default_code = "FDF500"


class OtherWriter(FdfError):
    """Another driver committed a different result to the same place."""

    exit_code = 5
    default_code = "FDF600"


class Cancelled(FdfError):
    """The run was interrupted; nothing half-done was committed."""

    exit_code = 130
    default_code = "FDF450"


class TransientError(Exception):
    """Raised by operators, sources and stores for a fault that may pass: retried with back-off, never quarantined."""
