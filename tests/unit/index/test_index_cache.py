"""The index's cache is as large as the index needs, also when the index was there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from octad.storage_node.index import rocksdb
from octad.storage_node.index.index import Index
from octad.storage_node.index.rocksdb import INDEX_CACHE_BYTES_MIN, INDEX_CACHE_SHARE, RocksDB


def capacity(index: Index) -> int:
    assert isinstance(index._database, RocksDB)
    return index._database.figure("block-cache-capacity")


def cached(index: Index) -> int:
    assert isinstance(index._database, RocksDB)
    return index._database.cache.get_usage()


def test_an_index_that_is_opened_again_has_the_cache_that_a_new_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cache_bytes in (INDEX_CACHE_BYTES_MIN, 3 * INDEX_CACHE_BYTES_MIN):
        monkeypatch.setattr(rocksdb, "INDEX_CACHE_BYTES_MIN", cache_bytes)
        index = Index(tmp_path / "index")
        assert capacity(index) == cache_bytes
        index.write([(b"key", b"value")])
        index.close()


def test_the_cache_grows_with_what_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocksdb, "INDEX_CACHE_BYTES_MIN", 1024)
    index = Index(tmp_path / "index")
    index.write([(b"%08d" % number, bytes(100)) for number in range(10_000)])
    index.flush()
    stored = sum(path.stat().st_size for path in (tmp_path / "index").glob("*.sst"))
    assert capacity(index) == int(stored * INDEX_CACHE_SHARE)
    index.close()


def stored_index(directory: Path) -> Index:
    index = Index(directory / "index")
    index.write([(b"%08d" % number, bytes(100)) for number in range(10_000)])
    index.flush()
    return index


def test_what_fits_into_the_cache_is_in_it_after_one_get(tmp_path: Path) -> None:
    index = stored_index(tmp_path)
    before = cached(index)
    index.get(b"%08d" % 5000)
    assert cached(index) > before
    index.close()


def test_a_get_of_what_does_not_fit_leaves_the_cache_alone_until_it_is_asked_for_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocksdb, "INDEX_CACHE_BYTES_MIN", 16 * 1024)
    index = stored_index(tmp_path)
    index.get(b"%08d" % 5000)  # The first of all fills, as every sixteenth does.
    filled = cached(index)
    for number in range(15):
        assert index.get(b"%08d" % (number * 500)) == bytes(100)
        assert cached(index) == filled
    index.get(b"%08d" % 9000)
    assert cached(index) > filled
    index.close()
