"""The files of `octad dev` in its data directory, beside the nodes' own directories.

cluster.json   the cluster: join token, keys, shape, ports (readable by its owner only)
store.sqlite   the embedded configuration store
n1, n2, …      one directory a node
n1.log, …      what its process printed, and n1.log.1 to 3 before that
s3-tls.pem     with --tls: the key and certificate that the nodes show S3 clients
ca.pem         with --tls: who signed it, for clients to trust
dev.json       what runs now: process ids and addresses; there only while it runs
LOCK           held by the running supervisor
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from octad.client.cli.format_units import counted, shown_copies
from octad.client.cluster.join_token import encode_join_token
from octad.client.runtime.command import CommandError
from octad.client.runtime.private_files import close_to_others
from octad.client.runtime.shown_command import shown_path
from octad.coordinator.recovery.create_cluster import new_access_key, new_join_token
from octad.storage_node.dev.dev_certificate import issue, kept
from octad.storage_node.journal.data_directory import (
    SUPERBLOCK_NAME,
    DataDirectoryError,
    explained,
)

FORMAT_VERSION = 1
CLUSTER_FILE = "cluster.json"
RUNNING_FILE = "dev.json"
LOCK_FILE = "LOCK"
PAIR_FILE = "s3-tls.pem"
AUTHORITY_FILE = "ca.pem"
NODES_DEFAULT = 3
REPLICAS_DEFAULT = 3
NODES_MIN = 1
_PORTS = range(10_000, 20_000)


class DevCluster(msgspec.Struct):
    """`cluster.json`. Ports are kept so that a restarted node is found where it was."""

    format: int
    join_token: str
    access_key: str
    secret_key: str
    nodes: int
    replicas: int
    etcd: tuple[str, ...]
    coordinator_port: int
    store_port: int
    rpc_ports: list[int]
    node_ids: list[int] = []  # The id of the node that each place had last; 0 before the first one.


class RunningDevNode(msgspec.Struct):
    """A node in `dev.json`; addresses are host:port."""

    id: int
    pid: int
    s3: str
    rpc: str


class RunningDev(msgspec.Struct):
    """`dev.json`."""

    supervisor_pid: int
    coordinator: str
    store: str
    store_url: str  # The embedded store's; else empty.
    access_key: str
    nodes: list[RunningDevNode]
    authority: str = ""  # The file of who signed the S3 certificate; without TLS empty.


class DevDirectory:
    """The data directory, locked. Raises CommandError with what is wrong and how to go on."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        try:
            self._check(fresh)  # A refused directory is left unchanged.
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refusal(path, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise CommandError(
                f"another octad dev runs on {path}", "stop it, or choose another --data DIR"
            ) from error
        if fresh:
            self._empty()
        close_to_others(path)

    def close(self) -> None:
        """Let go of the directory."""
        (self.path / RUNNING_FILE).unlink(missing_ok=True)
        os.close(self._lock)

    def cluster(
        self,
        nodes: int | None,
        replicas: int | None,
        keys: tuple[str, str] | None,
        etcd: Sequence[str],
    ) -> DevCluster:
        """The cluster that is here, or a new one of this shape; written back either way."""
        known = self._read()
        if known is None:
            known = _new_cluster(nodes, replicas, keys, etcd)
        else:
            _check_same(known, self.path, nodes, replicas, etcd)
            if keys is not None:
                known.access_key, known.secret_key = keys
        missing = known.nodes - len(known.rpc_ports)
        others = [known.coordinator_port, known.store_port, *known.rpc_ports]
        known.rpc_ports += free_ports(missing, others)
        known.node_ids += [0] * (known.nodes - len(known.node_ids))
        self.write_cluster(known)
        if etcd:
            known.etcd = tuple(etcd)  # Kept once it has turned out to hold the cluster.
        return known

    def holds_data(self) -> bool:
        """Whether a node ever ran here."""
        return any(self.path.glob(f"n*/{SUPERBLOCK_NAME}"))

    def keep_certificate(self, domains: Sequence[str], now: datetime) -> None:
        """The certificate of an earlier run if it covers `domains`, or a new one."""
        file = self.path / PAIR_FILE
        try:
            before = file.read_bytes() if file.exists() else b""
            certificate = kept(before, domains, now) or issue(domains, now)
            self._write(PAIR_FILE, certificate.pair.rstrip())
            self._write(AUTHORITY_FILE, certificate.authority.rstrip())
        except OSError as error:
            raise CommandError(
                f"cannot keep a certificate in {file}: {error.strerror}; no data is concerned",
                "mend its permissions, or its disk",
            ) from error

    def write_cluster(self, cluster: DevCluster) -> None:
        """Keep it for the next run."""
        self._write(CLUSTER_FILE, msgspec.json.format(msgspec.json.encode(cluster)))

    def write_running(self, running: RunningDev) -> None:
        """Tell others (`octad status`, scripts) what runs."""
        self._write(RUNNING_FILE, msgspec.json.format(msgspec.json.encode(running)))

    def _read(self) -> DevCluster | None:
        file = self.path / CLUSTER_FILE
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CommandError(
                f"cannot read {file}: {error.strerror}", "fix its permissions, or its disk"
            ) from error
        try:
            version = msgspec.json.decode(data, type=dict[str, msgspec.Raw])["format"]
            if int(bytes(version)) > FORMAT_VERSION:
                raise CommandError(
                    f"{file} has format {int(bytes(version))}, this octad knows {FORMAT_VERSION}",
                    "use the octad that wrote it, or another --data DIR",
                )
            return msgspec.json.decode(data, type=DevCluster)
        except (msgspec.DecodeError, KeyError, ValueError) as error:
            raise CommandError(
                f"{file} makes no sense ({error}); the data beside it is intact",
                "put back what it was: it has the cluster's join token and keys",
            ) from error

    def _check(self, fresh: bool) -> None:
        """Check that it is ours, empty, or absent. Raises OSError, CommandError."""
        if not self.path.is_dir():
            return  # It will be created, or that reports why not.
        if not fresh:
            self._read()
        others = sorted(entry.name for entry in self.path.iterdir() if entry.name != LOCK_FILE)
        if others and CLUSTER_FILE not in others:
            raise CommandError(
                f"{self.path} is not empty ({', '.join(others[:3])}) and no octad dev made it",
                "choose another --data DIR",
            )

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE:
                entry.unlink()

    def _write(self, name: str, data: bytes) -> None:
        """Complete or not at all, and on disk when this returns."""
        temporary = self.path / f"{name}.new"
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as new:
            new.write(data + b"\n")
            new.flush()
            os.fsync(descriptor)
        temporary.replace(self.path / name)
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _refusal(path: Path, error: OSError) -> CommandError:
    told = explained(path, error)
    if isinstance(told, DataDirectoryError):
        return CommandError(told.what, told.fix)
    return CommandError(f"cannot use {path}: {error.strerror}", "choose another --data DIR")


def free_ports(count: int, others: Collection[int] = ()) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on now, and none of the cluster's `others`.

    They are kept, so they are below those that the system gives to outgoing connections: one of
    these could hold a node's port by the time it starts, now or next time.
    """
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(ports) == count:
            return ports
        if port in others:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    raise CommandError("no ports of 127.0.0.1 are free", "stop what listens there", 1)


def check_shape(nodes: int | None, replicas: int | None) -> tuple[int, int]:
    """The shape of a new cluster; raises CommandError for one that cannot be."""
    nodes = NODES_DEFAULT if nodes is None else nodes
    if nodes < NODES_MIN:
        raise CommandError(
            f"{nodes} nodes cannot hold a copy", f"give --nodes {NODES_MIN} or more", 2
        )
    replicas = min(REPLICAS_DEFAULT, nodes) if replicas is None else replicas
    if nodes < replicas:
        raise CommandError(
            f"{counted(nodes, 'node')} cannot hold {replicas} copies",
            f"give --nodes {replicas} or more, or --replicas {nodes}",
            2,
        )
    return nodes, replicas


def _new_cluster(
    nodes: int | None, replicas: int | None, keys: tuple[str, str] | None, etcd: Sequence[str]
) -> DevCluster:
    nodes, replicas = check_shape(nodes, replicas)
    access_key, secret_key = keys or new_access_key()
    coordinator_port, store_port = free_ports(2)
    return DevCluster(
        format=FORMAT_VERSION,
        join_token=encode_join_token(new_join_token()),
        access_key=access_key,
        secret_key=secret_key,
        nodes=nodes,
        replicas=replicas,
        etcd=tuple(etcd),
        coordinator_port=coordinator_port,
        store_port=store_port,
        rpc_ports=[],
    )


def _check_same(
    known: DevCluster, path: Path, nodes: int | None, replicas: int | None, etcd: Sequence[str]
) -> None:
    """Choices are permanent: only nodes may be added, and an etcd may have another address."""
    if replicas not in (None, known.replicas):
        raise CommandError(
            f"the cluster in {path} keeps {shown_copies(known.replicas)}, not {replicas}",
            "leave --replicas out; what a bucket keeps is its pool's matter: start it, then octad"
            f" pool create --replicas {replicas} --data {shown_path(path)}, a new bucket, copy",
        )
    if etcd and not known.etcd:
        raise CommandError(f"the cluster in {path} has a store of its own", "leave --etcd out")
    if nodes is not None and nodes < known.nodes:
        raise CommandError(
            f"the cluster in {path} has {known.nodes} nodes and needs them",
            f"give --nodes {known.nodes} or more",
        )
    known.nodes = nodes or known.nodes
