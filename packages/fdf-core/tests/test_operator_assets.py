"""What an operator reads beside its rows belongs to the fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pytest

import fdf


@dataclass(frozen=True, kw_only=True)
class Listed(fdf.Filter):
    """Keeps everything, and says that it read a list."""

    field: str = "n"
    version = "1.0.0"
    reasons = ("listed",)
    digest: ClassVar[str | None] = None

    def assets(self) -> dict[str, str]:
        return {"list": self.digest} if self.digest else {}

    def verdict(self, batch: pa.RecordBatch) -> fdf.Verdict:
        return fdf.Verdict.keep_all(batch.num_rows)


def test_other_content_of_a_file_is_another_fingerprint(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))

    def fingerprint(digest: str | None) -> str:
        monkeypatch.setattr(Listed, "digest", digest)
        pipeline = fdf.Pipeline("assets").read(pa.table({"n": [1]})).stage("s", [Listed()], path=str(tmp_path / "s"))
        return fdf.run(pipeline, runner="serial").stages[0].manifest["fingerprint"]

    one, other, none = fingerprint("a"), fingerprint("b"), fingerprint(None)
    assert len({one, other, none}) == 3
    assert fingerprint("a") == one
