"""The suite that every store passes.

A package subclasses it with a fixture that opens an empty store:

```python
class TestLocalStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path / "stage"))
```
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from fdf.storage.base import Store


class StoreConformance:
    """Subclass it as `Test...`, with a fixture `store`."""

    @pytest.fixture
    def store(self) -> Store:
        """Give an empty store."""
        raise NotImplementedError("define a fixture `store` that opens an empty store")

    def test_absent_file_is_not_found(self, store: Store) -> None:
        """A read says so; a tagged read gives None."""
        with pytest.raises(FileNotFoundError):
            store.read("no/such.json")
        with pytest.raises(FileNotFoundError):
            store.open("no/such.json")
        assert store.read_tagged("no/such.json") is None

    def test_second_put_if_absent_loses(self, store: Store) -> None:
        """The first bytes stay."""
        assert store.put_if_absent("_receipts/a/b.json", b"first")
        assert not store.put_if_absent("_receipts/a/b.json", b"second")
        assert store.read("_receipts/a/b.json") == b"first"

    def test_one_of_many_puts_wins(self, store: Store) -> None:
        """Whoever was told to have won is who is there."""
        if store.exclusive:
            pytest.skip("this store is for one writer")
        texts = [f"writer {i}".encode() for i in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda text: store.put_if_absent("r.json", text), texts))
        assert sum(won) == 1
        assert store.read("r.json") == texts[won.index(True)]

    def test_swap_needs_the_tag_that_is_there(self, store: Store) -> None:
        """None means still absent; a stale tag changes nothing."""
        assert not store.swap("manifest.json", b"0", "no-such-tag")
        assert store.swap("manifest.json", b"1", None)
        assert not store.swap("manifest.json", b"2", None)
        found = store.read_tagged("manifest.json")
        assert found is not None
        assert found[0] == b"1"
        assert store.swap("manifest.json", b"2", found[1])
        assert not store.swap("manifest.json", b"3", found[1])
        assert store.read("manifest.json") == b"2"

    def test_no_swap_is_lost(self, store: Store) -> None:
        """Writers that add one each, and try again when they lose, end at their number."""
        if store.exclusive:
            pytest.skip("this store is for one writer")

        def add_one(writer: int) -> None:
            while True:
                found = store.read_tagged("count")
                lines = found[0] if found else b""
                if store.swap("count", lines + b"%d\n" % writer, found[1] if found else None):
                    return

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add_one, range(8)))
        assert sorted(store.read("count").split()) == sorted(b"%d" % i for i in range(8))

    def test_placed_file_moves_and_is_never_overwritten(self, store: Store) -> None:
        """A file of that name and size is left as it is; the scratch file is gone either way."""
        for text in (b"first", b"other"):
            file = store.scratch() / "part"
            file.write_bytes(text)
            store.place(file, "data/part-1.parquet")
            assert not file.exists()
        assert store.read("data/part-1.parquet") == b"first"

    def test_scratch_is_local_and_not_listed(self, store: Store) -> None:
        """Unfinished files are nobody's business."""
        (store.scratch() / "unfinished").write_bytes(b"x")
        assert list(store.list()) == []

    def test_list_is_recursive_and_by_folder(self, store: Store) -> None:
        """`data` lists what is below data/, not data-2/."""
        for path in ("a.json", "data/b", "data/deep/er/c", "data-2/d"):
            store.put_if_absent(path, path.encode())
        assert {e.path: e.size for e in store.list()} == {
            p: len(p) for p in ("a.json", "data/b", "data/deep/er/c", "data-2/d")
        }
        assert {e.path for e in store.list("data")} == {"data/b", "data/deep/er/c"}
        assert {e.path for e in store.list("data/")} == {"data/b", "data/deep/er/c"}
        assert list(store.list("nothing")) == []
        assert all(e.mtime > 1.6e9 for e in store.list())

    def test_listing_sees_what_was_just_written(self, store: Store) -> None:
        """Nothing is cached."""
        for i in range(3):
            store.put_if_absent(f"_receipts/{i}", b"x")
            assert len(list(store.list("_receipts"))) == i + 1
        store.delete(["_receipts/0", "_receipts/1"])
        assert [e.path for e in store.list("_receipts")] == ["_receipts/2"]

    def test_delete_of_what_is_gone_is_no_error(self, store: Store) -> None:
        """Deleting is done twice when a run is resumed."""
        store.put_if_absent("x", b"x")
        store.delete(["x", "y"])
        store.delete(["x"])
        assert store.read_tagged("x") is None

    def test_open_reads_anywhere(self, store: Store) -> None:
        """Parquet footers are at the end."""
        store.put_if_absent("data/f", bytes(range(200)))
        with store.open("data/f") as file:
            assert file.size() == 200
            file.seek(150)
            assert file.read(3) == bytes([150, 151, 152])

    def test_pickled_store_is_the_same_place(self, store: Store) -> None:
        """Worker processes open it anew."""
        store.put_if_absent("x", b"x")
        again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
        assert again.read("x") == b"x"
        assert (again.root, again.exclusive) == (store.root, store.exclusive)

    def test_probe_leaves_nothing_behind(self, store: Store) -> None:
        """What it found is what `exclusive` says."""
        assert store.probe() is not store.exclusive
        assert list(store.list()) == []

    @pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "data/../../outside"])
    def test_path_outside_is_refused(self, store: Store, path: str) -> None:
        """A manifest of someone else must not reach other files."""
        with pytest.raises(ValueError, match="below the store's root"):
            store.read(path)
