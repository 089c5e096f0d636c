"""Columns of files as `datasets` stores them, written by `datasets` itself: read as bytes by whatever reads them."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import PlanError
from fdf.plan import compile as planning
from fdf.sources.arrow import ArrowSource
from fdf.sources.conform import conform, positions_from
from fdf.sources.huggingface.source import HubSource
from fdf.sources.memory import MemorySource
from fdf.sources.naming import resolve_columns
from fdf.sources.parquet import ParquetSource
from fdf.sources.stored_files import as_read, bytes_of, holds_files
from fdf.testing.hub import hub_stand_in
from fdf.testing.sources import SourceConformance, rows_of

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})
BOTH = "struct<bytes: binary, path: string>"
pytestmark = pytest.mark.usefixtures("home")


def picture(n: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8 + n % 50, 6), (n % 256, n // 256 % 256, 7)).save(file, kind)
    return file.getvalue()


PICTURES = [picture(n) if n % 7 else None for n in range(60)]
FEATURES = {"image": datasets.Image(), "n": datasets.Value("int64"), "word": datasets.Value("string")}


def dataset(pictures: list[bytes | None] = PICTURES, **more: Any) -> Any:
    """Return a dataset of pictures, each with the name that it came under."""
    rows = {
        "image": [None if p is None else {"bytes": p, "path": f"{n}.png"} for n, p in enumerate(pictures)],
        "n": list(range(len(pictures))),
        "word": [f"picture {n}" for n in range(len(pictures))],
    }
    columns = {name: values for name, (values, _) in more.items()}
    features = {name: feature for name, (_, feature) in more.items()}
    return datasets.Dataset.from_dict(rows | columns, features=datasets.Features(FEATURES | features))


def parquet_of(rows: Any, path: Path, **more: Any) -> bytes:
    path.parent.mkdir(exist_ok=True, parents=True)
    rows.to_parquet(path, **more)
    return path.read_bytes()


def images(source: Any) -> list[bytes | None]:
    """Return the images as a recipe's rows hold them, in order."""
    naming = resolve_columns(source.physical_schema(), source.columns, schema=source.schema)
    types = [(old, naming.schema.field(new).type) for new, old in naming.pairs if new == "image"]
    rows, rejects = rows_of(source, pa.schema(types))
    assert not rejects
    return [row[types[0][0]] for _, row in sorted(rows.items())]


def recipe_of(tmp_path: Path, source: dict[str, Any], name: str = "files") -> dict[str, Any]:
    stage = {"name": "one", "materialize": {"path": str(tmp_path / name)}, "operators": []}
    return {"name": name, "input": source, "stages": [stage]}


def made(tmp_path: Path, source: dict[str, Any], name: str = "files", **more: Any) -> tuple[pa.Table, dict[str, Any]]:
    """Run a recipe of one stage without operators; return its rows and its manifest."""
    result = fdf.run(recipe_of(tmp_path, source, name), runner="serial", **more)
    root = Path(result.stages[0].root)
    manifest = json.loads((root / "manifest.json").read_text())
    return pa.concat_tables([pq.read_table(root / f["path"]) for f in manifest["outputs"]]), manifest


def notes_of(tmp_path: Path, source: dict[str, Any]) -> list[str]:
    recipe = fdf.recipe.load(recipe_of(tmp_path, source))
    return list(planning.compile_plan(recipe).notes)


class TestParquetWrittenByDatasets(SourceConformance):
    @pytest.fixture
    def source(self, tmp_path):
        stored = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        rows = dataset(sound=([{"bytes": b"RIFF", "path": "a.wav"}, None] * 30, stored))
        rows = rows.cast_column("sound", datasets.Audio())
        parquet_of(rows, tmp_path / "in" / "a.parquet", batch_size=7)
        parquet_of(rows, tmp_path / "in" / "b.parquet")
        return ParquetSource(path=str(tmp_path / "in"))


class TestStreamedFromTheHub(SourceConformance):
    @pytest.fixture
    def source(self, tmp_path):
        with hub_stand_in(tmp_path / "hub") as hub:
            content = parquet_of(dataset(), tmp_path / "a.parquet", batch_size=7)
            hub.dataset("a/b").commit({f"data/train-0000{i}-of-00002.parquet": content for i in (0, 1)})
            yield HubSource(path="a/b", streaming=True)


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        (STRUCT, True),
        (pa.struct({"path": pa.large_string(), "bytes": pa.large_binary()}), True),
        (pa.struct({"bytes": pa.binary(), "path": pa.null()}), True),
        (pa.struct({"bytes": pa.null(), "path": pa.string()}), False),
        (pa.struct({"bytes": pa.string(), "path": pa.string()}), False),
        (pa.struct({"bytes": pa.binary(), "path": pa.string(), "size": pa.int64()}), False),
        (pa.struct({"bytes": pa.binary()}), False),
        (pa.struct([("bytes", pa.binary()), ("bytes", pa.binary())]), False),
        (pa.list_(STRUCT), False),
        (pa.binary(), False),
    ],
)
def test_only_exactly_these_structs_hold_files(kind, holds):
    assert holds_files(kind) is holds
    assert as_read(pa.schema([("x", kind)])).field("x").type == (kind.field("bytes").type if holds else kind)
    assert as_read(pa.schema([("x", kind)]), {"x"}).field("x").type == kind


def test_what_datasets_wrote_becomes_bytes_and_the_plan_says_so(tmp_path):
    many = ([[PICTURES[1], PICTURES[2]]] * len(PICTURES), datasets.List(datasets.Image()))
    parquet_of(dataset(many=many), tmp_path / "in" / "a.parquet")
    source = {"type": "parquet", "path": str(tmp_path / "in")}
    table, manifest = made(tmp_path, source)
    assert table.schema.field("image").type == pa.binary()
    assert table["image"].to_pylist() == PICTURES
    assert table["many"][0].as_py() == [{"bytes": p, "path": None} for p in PICTURES[1:3]]
    assert manifest["counts"]["rows_quarantined"] == 0
    (note,) = notes_of(tmp_path, source)
    assert note.startswith("column `image` holds files as `datasets` stores them, and their bytes are read")
    # What the note advises is what keeps the paths.
    kept, _ = made(tmp_path, source | {"schema": {"image": BOTH}}, "kept")
    assert kept["image"].to_pylist() == [
        None if p is None else {"bytes": p, "path": f"{n}.png"} for n, p in enumerate(PICTURES)
    ]
    assert notes_of(tmp_path, source | {"schema": {"image": BOTH}}) == []


def test_renamed_and_declared_columns_are_bytes_too(tmp_path):
    parquet_of(dataset().rename_column("image", "img"), tmp_path / "in" / "a.parquet")
    source = {"type": "parquet", "path": str(tmp_path / "in"), "columns": {"image": "img"}}
    table, _ = made(tmp_path, source)
    assert table["image"].to_pylist() == PICTURES
    assert ["`img`" in note for note in notes_of(tmp_path, source)] == [True]
    declared = source | {"schema": {"image": "large_binary"}}
    table, _ = made(tmp_path, declared, "declared")
    assert table.schema.field("image").type == pa.large_binary()
    assert table["image"].to_pylist() == PICTURES
    both = source | {"schema": {"image": BOTH}}
    assert made(tmp_path, both, "both")[0].schema.field("image").type == STRUCT


def test_a_file_that_is_only_pointed_to_is_null_and_footers_tell_how_many(tmp_path):
    rows = [
        {"bytes": b"PNG", "path": "a.png"},
        {"bytes": None, "path": "b.png"},
        {"bytes": None, "path": None},
        {"bytes": b"", "path": None},
        None,
        {"bytes": None, "path": "c.png"},
    ]
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        pq.write_table(pa.table({"image": pa.array(rows, STRUCT)}), tmp_path / "in" / f"{name}.parquet")
    source = {"type": "parquet", "path": str(tmp_path / "in")}
    table, _ = made(tmp_path, source)
    assert table["image"].to_pylist() == [b"PNG", None, None, b"", None, None] * 2
    # Nulls of the path hide two of the four: the footers tell a lower bound.
    assert [n for n in notes_of(tmp_path, source) if "no bytes" in n] == [
        "column `image` has a path and no bytes in at least 2 of 12 rows looked at: these are null"
    ]


def test_footers_without_statistics_tell_nothing(tmp_path):
    rows = pa.table({"image": pa.array([{"bytes": None, "path": "a.png"}] * 5, STRUCT)})
    for name, statistics in (("a", True), ("b", False)):
        pq.write_table(rows, tmp_path / f"{name}.parquet", row_group_size=2, write_statistics=statistics)
    source = ParquetSource(path=[str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")])
    assert source.only_paths(["image"]) == {"image": (5, 5)}
    assert source.only_paths([]) == {}
    # Where one of the two columns tells nothing, all its rows might have a path, or none.
    pq.write_table(rows, tmp_path / "b.parquet", write_statistics=["image.bytes"])
    assert source.only_paths(["image"]) == {"image": (5, 5)}


def test_only_the_bytes_are_taken_and_not_copied():
    table = dataset().data.table.combine_chunks()
    (column,) = table.column("image").chunks
    part = column.slice(3, 40)
    taken = bytes_of(part)
    assert taken.to_pylist() == PICTURES[3:43]
    assert [b.address for b in taken.buffers()[1:]] == [b.address for b in column.field("bytes").buffers()[1:]]


def test_no_python_object_is_made_per_row():
    rows = 100_000
    files = pa.array([{"bytes": b"x" * 20, "path": "x"}, None] * (rows // 2), STRUCT)
    batch, positions = pa.record_batch({"image": files}), positions_from(0, rows)
    wanted = pa.schema([("image", pa.binary())])
    tracemalloc.start()
    try:
        done = conform(batch, schema=wanted, positions=positions)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (done.rows.num_rows, done.rows.column(0).null_count) == (rows, rows // 2)
    # Arrow's own memory is not Python's: what is left is less than a byte for a row.
    assert held < rows / 2


def test_paths_are_not_fetched(tmp_path):
    """A path of the same size as the picture: about half of the file is left alone."""
    dice = np.random.default_rng(3)
    size, count = 4000, 500
    names = [dice.bytes(size // 2).hex() for _ in range(count)]
    blobs = [dice.bytes(size) for _ in range(count)]
    rows = pa.array([{"bytes": b, "path": p} for b, p in zip(blobs, names, strict=True)], STRUCT)
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    content = (tmp_path / "a.parquet").read_bytes()
    with hub_stand_in(tmp_path / "hub") as hub:
        hub.dataset("a/b").commit({"train.parquet": content})

        def fetched(kind: pa.DataType) -> int:
            source = HubSource(path="a/b", streaming=True)
            splits = [s.slices[0] for s in source.splits()]
            hub.forget()
            schema = pa.schema([("image", kind)])
            got = [
                v for piece in splits for b in source.read(piece, schema=schema) for v in b.rows.column(0).to_pylist()
            ]
            assert [v if kind == pa.binary() else v["bytes"] for v in got] == blobs
            ranges = [tuple(map(int, r.range.split("-"))) for r in hub.asked("^GET /objects/") if r.range]
            return sum(stop - start + 1 for start, stop in ranges)

        whole, part = fetched(STRUCT), fetched(pa.binary())
    assert whole >= 2 * size * count
    assert size * count <= part < size * count * 1.1


@pytest.mark.parametrize("first", ["files", "bytes"])
def test_files_and_plain_bytes_meet_as_bytes(tmp_path, first):
    plain = pa.table({"image": pa.array([b"1", None, b"3"]), "n": [1, 2, 3], "word": ["a", "b", "c"]})
    order = ("a", "b") if first == "files" else ("b", "a")
    parquet_of(dataset(), tmp_path / "in" / f"{order[0]}.parquet")
    pq.write_table(plain, tmp_path / "in" / f"{order[1]}.parquet")
    parts = [PICTURES, [b"1", None, b"3"]]
    expected = [p for part in (parts if first == "files" else parts[::-1]) for p in part]
    assert images(ParquetSource(path=str(tmp_path / "in"))) == expected


def test_files_after_the_first_eight_are_read_alike(tmp_path, monkeypatch):
    monkeypatch.setattr("fdf.sources.file_source.SAMPLE_FILES", 1)
    plain = pa.table({"image": pa.array([b"1", None]), "n": [1, 2], "word": ["a", "b"]})
    for number, rows in enumerate((dataset(), plain, dataset())):
        file = tmp_path / "in" / f"{number}.parquet"
        file.parent.mkdir(exist_ok=True)
        rows.to_parquet(file) if rows is not plain else pq.write_table(plain, file)
    assert images(ParquetSource(path=str(tmp_path / "in"))) == [*PICTURES, b"1", None, *PICTURES]
    (tmp_path / "in" / "0.parquet").rename(tmp_path / "in" / "9.parquet")
    assert images(ParquetSource(path=str(tmp_path / "in"))) == [b"1", None, *PICTURES, *PICTURES]


def test_a_mixture_does_not_drop_paths_that_a_dataset_keeps(tmp_path):
    parquet_of(dataset().remove_columns("word"), tmp_path / "files.parquet")
    pq.write_table(pa.table({"image": pa.array([b"1"]), "n": [1]}), tmp_path / "plain.parquet")
    kept = {"type": "parquet", "path": str(tmp_path / "files.parquet"), "schema": {"image": BOTH}}
    plain = {"type": "parquet", "path": str(tmp_path / "plain.parquet")}
    listed = [{"name": n, "weight": 1, "source": s} for n, s in (("kept", kept), ("plain", plain))]
    mixture = {"type": "mixture", "unit": "rows", "datasets": listed}
    with pytest.raises(PlanError, match=r"column `image` is struct<.*in `kept` and binary in `plain`"):
        notes_of(tmp_path, mixture)
    del kept["schema"]
    assert [note.split(" holds files")[0] for note in notes_of(tmp_path, mixture)] == ["`kept`: column `image`"]


def test_what_polars_wrote_again_is_read_alike(tmp_path):
    parquet_of(dataset(), tmp_path / "a.parquet")
    (tmp_path / "in").mkdir()
    frame = pl.read_parquet(tmp_path / "a.parquet")
    frame.write_parquet(tmp_path / "in" / "b.parquet")
    assert pq.ParquetFile(tmp_path / "in" / "b.parquet").schema_arrow.field("image").type != STRUCT
    assert images(ParquetSource(path=str(tmp_path / "in"))) == PICTURES
    frame.write_ipc(tmp_path / "views.arrow")
    assert images(ArrowSource(path=str(tmp_path / "views.arrow"))) == PICTURES
    assert images(MemorySource.of(frame, folder=tmp_path / "spool")) == PICTURES


def test_saved_datasets_and_caches_are_read_alike(tmp_path):
    dataset().save_to_disk(tmp_path / "saved", num_shards=2)
    for source in (HubSource(path=str(tmp_path / "saved")), ArrowSource(path=str(tmp_path / "saved" / "*.arrow"))):
        assert images(source) == PICTURES
    parquet_of(dataset(), tmp_path / "a.parquet")
    cached = datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    assert images(ArrowSource(path=[f["filename"] for f in cached.cache_files])) == PICTURES


@pytest.mark.parametrize("streaming", [True, False])
def test_what_only_datasets_can_load_comes_as_bytes(tmp_path, streaming):
    pictures = {f"train/{n}.png": picture(n) for n in range(5)}
    with hub_stand_in(tmp_path / "hub") as hub:
        hub.dataset("a/b").commit(pictures)
        source = {"type": "huggingface", "path": "a/b", "streaming": streaming}
        table, _ = made(tmp_path, source)
        assert table["image"].to_pylist() == list(pictures.values())
        (note,) = notes_of(tmp_path, source)
        assert "column `image` holds files" in note


def test_a_dataset_given_from_python_has_its_bytes_also_where_it_only_points_to_files(tmp_path):
    files = []
    for n in range(70):
        files.append(str(tmp_path / f"{n}.png"))
        Path(files[-1]).write_bytes(picture(n))
    both = dataset(
        [picture(n) for n in range(70)],
        lies=(files, datasets.Image()),
        some=([files[n] if n % 2 else {"bytes": picture(n), "path": None} for n in range(70)], datasets.Image()),
        many=([[files[n]] for n in range(70)], datasets.List(datasets.Image())),
    )
    source = MemorySource.of(both, folder=tmp_path / "spool")
    assert source.path == MemorySource.of(both, folder=tmp_path / "spool").path
    assert source.path == MemorySource.of(both.to_iterable_dataset(), folder=tmp_path / "spool").path
    rows = rows_of(source, as_read(source.physical_schema()))[0].values()
    for row in rows:
        expected = picture(row["n"])
        assert row["image"] == row["lies"] == row["some"] == row["many"][0]["bytes"] == expected
    assert len(rows) == 70
    Path(files[42]).unlink()
    with pytest.raises(PlanError, match=r"points to cannot be read: .*42\.png"):
        MemorySource.of(both, folder=tmp_path / "spool")


def test_rows_given_as_dicts_are_read_alike(tmp_path):
    rows = [{"image": {"bytes": p, "path": None}} for p in PICTURES]
    assert images(MemorySource.of(rows, folder=tmp_path)) == PICTURES


def test_a_stage_made_before_is_made_anew_once(tmp_path, monkeypatch):
    """Also where the files have not changed, and only where they hold files."""
    parquet_of(dataset(), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "texts.parquet")
    source, texts = ({"type": "parquet", "path": str(tmp_path / p)} for p in ("in", "texts.parquet"))
    with monkeypatch.context() as before:
        # As it was: columns are read in the types that they have, and the fingerprint says so.
        for module in ("fdf.sources.naming.as_read",):
            before.setattr(module, lambda physical, _declared=(): physical)
        old, was = made(tmp_path, source)
        text_was = made(tmp_path, texts, "texts")[1]
    assert old.schema.field("image").type == STRUCT
    started = []

    def watch(event: Any) -> None:
        if event.kind == "split_started":
            started.append(event.stage)

    for times in (1, 1):
        new, now = made(tmp_path, source, on_event=watch)
        assert len(started) == times
        assert now["fingerprint"] != was["fingerprint"]
        assert new["image"].to_pylist() == PICTURES
    # A file more is a split more: the pinned schema holds, and what is there stays.
    parquet_of(dataset(PICTURES[:5]), tmp_path / "in" / "b.parquet")
    new, later = made(tmp_path, source, on_event=watch)
    assert (len(started), later["fingerprint"]) == (2, now["fingerprint"])
    assert new["image"].to_pylist() == PICTURES + PICTURES[:5]
    started.clear()
    assert made(tmp_path, texts, "texts", on_event=watch)[1]["fingerprint"] == text_was["fingerprint"]
    assert started == []


@pytest.mark.parametrize("granularity", ["document", "block"])
@pytest.mark.parametrize("unit", ["images", "bytes"])
def test_mixtures_count_images_and_their_bytes(tmp_path, monkeypatch, unit, granularity):
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    rows = dataset().remove_columns("word")
    parquet_of(rows, tmp_path / "files.parquet", batch_size=6)
    pq.write_table(
        pa.table({"image": pa.array([picture(n) for n in range(400)])}), tmp_path / "plain.parquet", row_group_size=10
    )
    listed = [
        {"name": n, "weight": 1, "source": {"type": "parquet", "path": str(tmp_path / f"{n}.parquet")}, "epochs": 1}
        for n in ("files", "plain")
    ]
    mixture = {"type": "mixture", "unit": unit, "granularity": granularity, "datasets": listed}
    table, manifest = made(tmp_path, mixture)
    assert table.schema.field("image").type == pa.binary()
    of_files = table.filter(pa.compute.equal(table["__fdf__/source"], "files"))
    assert sorted(of_files["image"].to_pylist(), key=str) == sorted(PICTURES, key=str)
    leaf = next(d for d in manifest["mixture"]["leaves"] if d["name"] == "files")
    there = [p for p in PICTURES if p is not None]
    if unit == "images":
        assert leaf["planned"]["units"] == leaf["delivered"]["units"] == len(there)
    elif granularity == "document":
        assert leaf["delivered"]["units"] == sum(map(len, there))
    else:
        footer = pq.ParquetFile(tmp_path / "files.parquet").metadata
        chunks = [footer.row_group(i).column(0) for i in range(footer.num_row_groups)]
        assert {c.path_in_schema for c in chunks} == {"image.bytes"}
        assert leaf["planned"]["units"] == sum(c.total_uncompressed_size for c in chunks)
