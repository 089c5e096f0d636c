"""Functions that recipes of the tests stream from. They stand alone, as a user's file does."""

from __future__ import annotations

import os
import time
from pathlib import Path


def text(n):
    return f"streamed {n} ".ljust(30 + n * 7919 % 150, "x")


def documents(rows, bad=()):
    for n in range(rows):
        yield {"text": text(n), "n": "no number" if n in bad else n}


def seeking(rows, start=0):
    yield from ({"text": text(n), "n": n} for n in range(start, rows))


def tables(rows, size=70):
    import pyarrow as pa

    for first in range(0, rows, size):
        numbers = range(first, min(first + size, rows))
        table = pa.table({"text": [text(n) for n in numbers], "n": list(numbers)})
        yield table if first % 140 else table.to_batches()[0]


def undecoded(rows, size=None):
    """Yield what `cast_column("image", Image(decode=False))` gives: as dicts, or as tables of `size` rows."""
    import pyarrow as pa

    found = [
        {"n": n, "image": {"bytes": b"PNG %d" % n if n % 3 else None, "path": None if n % 5 else f"{n}.png"}}
        for n in range(rows)
    ]
    if size is None:
        yield from found
    else:
        yield from (pa.Table.from_pylist(found[first : first + size]) for first in range(0, rows, size))


def logged(rows, log, size=20):
    """Yield small tables, and note every row that was asked for."""
    import pyarrow as pa

    with Path(log).open("ab", buffering=0) as file:
        for first in range(0, rows, size):
            numbers = range(first, min(first + size, rows))
            file.write(b"." * len(numbers))
            yield pa.table({"text": [text(n) for n in numbers], "n": list(numbers)})


def nothing():
    return iter(())


def faltering(rows, log, every, error):
    """Fail once at each multiple of `every`, as a connection does."""
    for row in documents(rows):
        known = Path(log).read_text().split() if Path(log).exists() else []
        if row["n"] and row["n"] % every == 0 and str(row["n"]) not in known:
            with Path(log).open("a") as file:
                file.write(f"{row['n']} ")
            raise {"ConnectionError": ConnectionError, "TimeoutError": TimeoutError}[error]("gone for a moment")
        yield row


def breaking(rows, of, file):
    """Fail at the record that a file names, as long as it is there."""
    at = int(Path(file).read_text()) if Path(file).exists() else None
    if of == "tables":
        done = 0
        for table in tables(rows):
            if at is not None and done + table.num_rows > at:
                raise ValueError(f"no {at}")
            done += table.num_rows
            yield table
        return
    for row in documents(rows):
        if row["n"] == at:
            raise ValueError(f"no {at}")
        yield row


def fickle(rows, file):
    """Break at record 650; come back whole, shorter, or with another record 599."""
    how = Path(file).read_text()
    for row in documents(rows):
        if how == "breaks" and row["n"] == 650:
            raise ValueError("no more")
        if how == "short" and row["n"] == 500:
            return
        yield {**row, "text": "another"} if how == "other" and row["n"] == 599 else row


def exiting():
    os._exit(9)
    yield {}


def stuck():
    yield {"n": 1}
    time.sleep(600)


def words():
    yield "one"


def number():
    return 1
