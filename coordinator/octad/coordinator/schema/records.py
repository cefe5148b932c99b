"""The configuration store's records, key by key: `octad/<cluster>/…`, values in JSON.

Who may write what is in the table of `docs/reference/configuration-store.md`. Readers ignore fields
they do not know, so that a newer octad may add some.
"""

from __future__ import annotations

import msgspec

from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.coordinator.store.interface import LeaseId, Revision
from octad.sharding.ids import BucketId, NodeId, PoolId, ShardId, number_of, pool_of, shard_id

ROOT = "octad/"
KV_NAMES = "kv/"  # In backups: of settings.
CLUSTERS = f"{ROOT}clusters"  # A JSON list of the ids of all clusters that this store holds.


class NodeRecord(msgspec.Struct, frozen=True):
    """`nodes/<id>`: written by the node itself under its lease, which is a liveness hint only."""

    id: NodeId
    incarnation: str
    rpc_address: str  # host:port for the other nodes
    s3_address: str  # host:port for clients
    zone: str
    weight: float
    version: str
    boot: str
    admin_address: str = ""  # host:port of its metrics; often one that only its machine reaches
    format_level: int = 1  # The highest that it knows.
    s3_tls: bool = False  # Its clients speak TLS.
    log_address: str = ""  # host:port for clients of the log
    log_tls: bool = False  # These clients speak TLS.


class IdentityRecord(msgspec.Struct, frozen=True):
    """`identities/<id>`: that the id is taken, and by which disk; outlives the node's lease."""

    id: NodeId
    incarnation: str


class PoolRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`pools/<id>`: a replica count with 2^depth shards."""

    id: PoolId
    replicas: int
    depth: int
    min_copies: int = 0  # With how few a write may be acknowledged; 0: one less than `replicas`.

    def fewest_copies(self) -> int:
        """The fewest copies with which a write may be acknowledged."""
        return self.min_copies or max(1, self.replicas - 1)


class FenceRecord(msgspec.Struct, frozen=True):
    """`fence/<id>`: compared in every change a node makes, so that a late one cannot land."""

    boot: str
    counter: int


class DeathRecord(msgspec.Struct, frozen=True):
    """`deaths/<id>`: the process that wrote this fence has ended, as reported by its parent.

    It holds as long as the node's fence key says the same: each process rewrites it first of all.
    """

    fence: FenceRecord


class TurnRecord(msgspec.Struct, frozen=True):
    """`filled-anew`: the one disk whose data is set aside while others fill a node in its place."""

    node: NodeId
    incarnation: str


class FormatLevelRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`format-level`: which kinds of record the nodes may write (`schema/format_level.py`)."""

    level: int = 1  # The level in use; it never decreases.
    known: dict[NodeId, int] = {}  # The highest that each node has said it knows; else 1.


class BucketRecord(BucketSettings, frozen=True):
    """`buckets/<name>`."""

    name: str
    id: BucketId
    pool: PoolId
    owner: str
    created_ms: int
    state: str = "active"
    strict: bool = False  # Writes are refused while a copy is missing.
    location: str = ""  # The pool's name that its creator chose; "": none.
    quota_bytes: int | None = None  # Its quota; None: no limit.


class TopicRecord(BucketRecord, frozen=True, kw_only=True):
    """`topics/<name>`: a bucket of another kind, in a name space of its own; S3 never shows it.

    Its id is a bucket's, so the rows of the two never meet.
    """

    kind: str = "topic"
    uuid: str  # 32 hex digits; a name made again has another.
    partitions: int
    config: dict[str, str] = msgspec.field(default_factory=dict)


class BucketUsageRecord(msgspec.Struct, frozen=True):
    """`bucket-usage/<id>`: what the bucket took when it was last added up; one copy of each."""

    objects: int
    bytes: int  # With the parts of uploads that are open.


class AccessKeyRecord(msgspec.Struct, frozen=True):
    """`keys/<access key>`: the secret is encrypted with the cluster secret."""

    access_key: str
    secret_encrypted: str
    owner: str
    disabled: bool = False
    admin: bool = False  # It may sign requests to the admin API.


class LeaderRecord(msgspec.Struct, frozen=True):
    """`leader`: held under its lease; its mod revision is the fencing token of all it writes."""

    instance: str  # Unique to one election: the candidate that finds its own here has won.
    address: str  # host:port of the coordinator's HTTP.
    version: str


class SessionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`sessions/<lease, in hex>`: a session of services, under its lease."""

    number: int = 0  # The number of its newest write.
    born: Revision = Revision(0)  # When the session that it replaces began; 0: it replaces none.


class KvUsageRecord(msgspec.Struct, frozen=True):
    """`octad/kv-usage/<cluster>`: what all settings take, names included."""

    keys: int = 0
    bytes: int = 0


class StoreKeys:
    """The names of all keys of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.prefix = f"{ROOT}{cluster}/"
        self.kv = f"{ROOT}kv/{cluster}/"  # Not below the prefix: nodes watch all of that.
        self.kv_usage = f"{ROOT}kv-usage/{cluster}"
        self.nodes = f"{self.prefix}nodes/"
        self.identities = f"{self.prefix}identities/"
        self.pools = f"{self.prefix}pools/"
        self.shards = f"{self.prefix}shards/"
        self.buckets = f"{self.prefix}buckets/"
        self.topics = f"{self.prefix}topics/"
        self.usages = f"{self.prefix}bucket-usage/"
        self.access_keys = f"{self.prefix}keys/"
        self.fences = f"{self.prefix}fence/"
        self.deaths = f"{self.prefix}deaths/"
        self.runs = f"{self.prefix}runs/"
        self.reports = f"{self.prefix}reports/"
        self.services = f"{self.prefix}services/"
        self.sessions = f"{self.prefix}sessions/"
        self.claims = f"{self.prefix}claims/"
        self.locks = f"{self.prefix}locks/"
        self.last_bucket_id = f"{self.prefix}last-bucket-id"
        self.leader = f"{self.prefix}leader"
        self.filled_anew = f"{self.prefix}filled-anew"
        self.format_level = f"{self.prefix}format-level"
        self.generation = f"{self.prefix}generation"
        self.life = f"{self.prefix}life"  # Random, of each time that the store was filled.
        self.last_node_id = f"{self.prefix}last-node-id"

    def node(self, node: NodeId) -> str:
        return f"{self.nodes}{node}"

    def identity(self, node: NodeId) -> str:
        return f"{self.identities}{node}"

    def pool(self, pool: PoolId) -> str:
        return f"{self.pools}{pool}"

    def shard(self, shard: ShardId) -> str:
        return f"{self.shards}{pool_of(shard)}/{number_of(shard)}"

    def shard_of_key(self, key: str) -> ShardId:
        """The shard whose configuration is stored under `key`."""
        pool, number = key.removeprefix(self.shards).split("/")
        return shard_id(PoolId(int(pool)), int(number))

    def fence(self, node: NodeId) -> str:
        return f"{self.fences}{node}"

    def death(self, node: NodeId) -> str:
        return f"{self.deaths}{node}"

    def run(self, node: NodeId) -> str:
        return f"{self.runs}{node}"

    def report(self, node: NodeId) -> str:
        return f"{self.reports}{node}"

    def bucket(self, name: str) -> str:
        return f"{self.buckets}{name}"

    def topic(self, name: str) -> str:
        return f"{self.topics}{name}"

    def usage(self, bucket: BucketId) -> str:
        return f"{self.usages}{bucket}"

    def bucket_of_usage(self, key: str) -> BucketId:
        """The bucket whose usage is stored under `key`."""
        return BucketId(int(key.removeprefix(self.usages)))

    def service(self, service: str, instance: str) -> str:
        return f"{self.services}{service}/{instance}"

    def session(self, lease: LeaseId) -> str:
        return f"{self.sessions}{lease:x}"

    def claims_of(self, name: str) -> str:
        """A prefix: of the sessions that had the name (`service/instance`) before."""
        return f"{self.claims}{name}/"

    def claim(self, name: str, lease: LeaseId) -> str:
        return f"{self.claims_of(name)}{lease:x}"

    def queue_of(self, lock: str) -> str:
        """A prefix: of the sessions that hold the lock or wait for it."""
        return f"{self.locks}{lock}/"

    def lock(self, lock: str, lease: LeaseId) -> str:
        return f"{self.queue_of(lock)}{lease:x}"

    def name_of(self, key: str) -> str:
        """A key as backups name it: without the cluster's prefix; settings begin with `kv/`."""
        if key.startswith(self.kv):
            return f"{KV_NAMES}{key.removeprefix(self.kv)}"
        return key.removeprefix(self.prefix)

    def of_name(self, name: str) -> str:
        """The inverse."""
        if name.startswith(KV_NAMES):
            return self.kv + name.removeprefix(KV_NAMES)
        return self.prefix + name

    def access_key(self, access_key: str) -> str:
        return f"{self.access_keys}{access_key}"
