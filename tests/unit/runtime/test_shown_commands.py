"""Commands that octad prints can be pasted into a shell, whatever the paths in them are."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from octad.client.runtime.command import CommandError
from octad.storage_node.dev.dev_copies import way_to_more_copies
from octad.storage_node.dev.dev_directory import DevCluster, DevDirectory
from octad.storage_node.dev.dev_greeting import greeting
from octad.storage_node.dev.dev_options import DevOptions
from octad.storage_node.index.index import IndexDamaged
from octad.storage_node.journal.data_directory import NoPermission, explained
from octad.storage_node.journal.journal_errors import IndexBehind

if TYPE_CHECKING:
    from octad.storage_node.dev.dev_node import NodeProcess

DATA = Path("/srv/it's a disk")
URL = "http://127.0.0.1:9400"
SERVING = cast("list[NodeProcess]", [SimpleNamespace(ready=True, s3="127.0.0.1:9000")])


def cluster(nodes: int = 3, replicas: int = 3) -> DevCluster:
    ports = list(range(nodes))
    return DevCluster(1, "token", "key", "secret", nodes, replicas, (), 1, 2, ports)


def options(
    nodes: int | None = None, replicas: int | None = None, *, tls: bool = False
) -> DevOptions:
    return DevOptions(DATA, nodes, replicas, 9000, None, None, (), False, tls, (), ())


def words_behind(text: str, first: str) -> list[str]:
    """Of the command in `text` that begins so, up to the end of its line or its backquote."""
    _, found, rest = text.partition(first)
    assert found, text
    return shlex.split(rest.splitlines()[0].partition("`")[0].partition("   (")[0])


def test_the_banners_command_names_the_data_directory() -> None:
    told = greeting(options(), cluster(), URL, 1.0, SERVING)
    assert words_behind(told, "status       ")[1:] == ["status", "--data", str(DATA)]


def test_the_line_for_every_client_says_the_region_in_both_names() -> None:
    told = greeting(options(), cluster(), URL, 1.0, SERVING)
    export = words_behind(told, "  export ")
    # SDKs of other languages read the first, awscli and boto3 the second.
    assert {"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1"} <= set(export)


def test_with_tls_every_printed_client_is_told_what_to_trust() -> None:
    told = greeting(options(tls=True), cluster(), URL, 1.0, SERVING)
    authority = str(DATA / "ca.pem")
    assert {f"AWS_CA_BUNDLE={authority}", "AWS_ENDPOINT_URL=https://127.0.0.1:9000"} <= set(
        words_behind(told, "  export ")
    )
    assert words_behind(told, "--ca-cert")[0] == authority
    assert words_behind(told, "curl --cacert")[0].rstrip(";") == authority
    assert f'verify="{authority}")' in told
    assert "http://127.0.0.1:9000" not in told


def test_the_way_to_more_copies_is_shown_to_who_gave_it_nodes() -> None:
    told = "\n".join(way_to_more_copies(cluster(replicas=1), "octad", DATA))
    create = words_behind(told, "octad pool create")
    assert create == ["--replicas", "3", "--data", str(DATA)]
    assert way_to_more_copies(cluster(), "octad", DATA) == []
    grown = greeting(options(nodes=3), cluster(replicas=1), URL, 1.0, SERVING)
    assert "keeps 1 copy: a bucket never changes its pool" in grown
    for same in (options(), options(nodes=3, replicas=1)):
        told = greeting(same, cluster(replicas=1), URL, 1.0, SERVING)
        assert "a bucket never changes its pool" not in told


def test_other_copies_than_the_cluster_keeps_are_another_pools_matter(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    directory = DevDirectory(data, fresh=False)
    directory.cluster(1, None, None, ())
    with pytest.raises(CommandError, match="keeps 1 copy, not 3") as refused:
        directory.cluster(None, 3, None, ())
    directory.close()
    assert f"octad pool create --replicas 3 --data {shlex.quote(str(data))}" in refused.value.fix
    assert "fresh" not in refused.value.fix


@pytest.mark.parametrize(
    "fix", [IndexDamaged(DATA / "index", "why").fix, IndexBehind(DATA, "entries").fix]
)
def test_the_rebuild_of_an_index_names_its_directory(fix: str) -> None:
    assert words_behind(fix, "octad index rebuild") == [str(DATA)]


def test_the_permission_to_repair_is_for_that_directory() -> None:
    told = explained(DATA, PermissionError(errno.EACCES, "no"))
    assert isinstance(told, NoPermission)
    assert words_behind(told.fix, "chown -R $(id -u)") == [str(DATA)]
