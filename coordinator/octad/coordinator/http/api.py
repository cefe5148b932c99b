"""The coordinator's HTTP endpoints: one table, from which routes and OpenAPI are made.

To add an endpoint, add a line here and a handler under its name; neither can be forgotten,
since the service does not start when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from octad.client.cluster.cluster_documents import (
    MAP_BINARY_TYPE,
    MAP_PATH,
    NODES_PATH,
    PLAN_PATH,
    SHARDS_PATH,
    HealthDocument,
    MapDocument,
    NodesDocument,
    PlanDocument,
    ServicesDocument,
    ShardsDocument,
)
from octad.client.cluster.doctor_document import DOCTOR_PATH, DoctorDocument
from octad.client.cluster.service_records import (
    REGISTRATION_PURPOSE,
    SERVICES_PATH,
    SESSIONS_PATH,
    RegisterAnswer,
    RegisterRequest,
    RenewAnswer,
    RenewRequest,
    SessionAnswer,
    SessionRequest,
    WithdrawRequest,
)
from octad.client.cluster.status_document import STATUS_PATH, ClusterStatus
from octad.client.kv.kv_records import KV_PATH, KvAnswer, KvEntry, KvKeys
from octad.client.membership.event_document import EVENTS_PATH, SSE_TYPE, EventsDocument
from octad.client.membership.lock_records import (
    LOCKS_PATH,
    LockAnswer,
    LockRequest,
    LocksDocument,
    UnlockRequest,
)
from octad.coordinator.schema.admin_messages import (
    ADMIN_BUCKETS_PATH,
    ADMIN_KEY_PATH,
    ADMIN_KEYS_PATH,
    BucketDocument,
    BucketsDocument,
    CreateKeyRequest,
    KeyDocument,
    KeysDocument,
    PublicDocument,
    PublicRequest,
    QuotaRequest,
)
from octad.coordinator.schema.join_messages import (
    AUTH_PURPOSE,
    JOIN_PATH,
    JoinMessage,
    JoinRequest,
)
from octad.coordinator.schema.placement_messages import (
    ACTIONS,
    PLAN_ACTIONS_PATH,
    PLAN_NODES_PATH,
    PLAN_POOLS_PATH,
    PLAN_STATUS_PATH,
    PlacedNodes,
    PlacedPools,
    PlanAnswer,
    PlanRequest,
    PlanStatus,
)
from octad.coordinator.schema.recovery_messages import (
    RECOVER_PATH,
    RecoverAnswer,
    RecoverRequest,
)

HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
CLUSTER_HEALTH_PATH = "/health/cluster"
METRICS_PATH = "/metrics"
PROMETHEUS_PATH = "/cluster/v1/sd/prometheus"
OPENAPI_PATH = "/cluster/v1/openapi.json"

Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query; all are optional."""

    name: str
    kind: Literal["string", "integer", "number", "boolean"]
    meaning: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`answer`: the JSON it returns, None for text. `purpose`: the key that must have signed it.

    `for_admins`: an admin's access key must have. `body`: JSON, or `bytes` as they are.
    """

    name: str
    method: Method
    path: str
    summary: str
    answer: type | None = None
    body: type | None = None
    purpose: str | None = None
    query: tuple[Query, ...] = ()
    other_types: tuple[str, ...] = ()  # Further media types, by Accept.
    refusals: tuple[int, ...] = field(default=())
    for_admins: bool = False


_WAIT = Query("wait", "number", "seconds to wait for something new, up to 60")
_WITHIN = Query("within", "number", "seconds, by the timestamp: later it is not done any more")
_MIN_REVISION = Query(
    "min_revision", "integer", "show nothing older; from the revision of an answer or document"
)
_WANTED = (
    Query("passing", "boolean", "only instances that are well and want work"),
    Query("zone", "string", "only those of this zone"),
    Query("label", "string", "only those with this NAME=VALUE; may be repeated"),
)
_CONSUL_BLOCKING = (
    Query("index", "integer", "wait until something has changed since this X-Consul-Index"),
    Query("wait", "string", "for at most so long, as 30s or 5m, and up to 60 s"),
)
_AFTER = Query("after", "integer", "wait until it has changed since this as_of")
_KV_KEY_PATH = f"{KV_PATH}/{{key}}"  # With slashes in it.
_KV_CHANGES: tuple[tuple[Method, str, type | None], ...] = (
    ("PUT", "Set a key to the body's bytes.", bytes),
    ("DELETE", "Delete a key.", None),
)
_INSTANCE_PATH = f"{SERVICES_PATH}/{{service}}/{{instance}}"


def _consul(name: str, path: str, summary: str, answer: type, *query: Query) -> Endpoint:
    """A read that Consul's clients make."""
    return Endpoint(name, "GET", path, summary, answer, query=query, refusals=(400, 503))


def _view(
    name: str, path: str, summary: str, answer: type, query: tuple[Query, ...] = ()
) -> Endpoint:
    """A GET of the coordinator's view, at least as new as the query asks for."""
    query = (*query, _MIN_REVISION)
    return Endpoint(name, "GET", path, summary, answer, query=query, refusals=(400, 503))


def _admin(
    name: str,
    method: Method,
    path: str,
    summary: str,
    answer: type,
    body: type | None = None,
    refusals: tuple[int, ...] = (),
) -> Endpoint:
    """An endpoint for admins only."""
    refused = (403, 503, *refusals)
    return Endpoint(name, method, path, summary, answer, body, for_admins=True, refusals=refused)


OPERATIONS = (
    Endpoint("health", "GET", HEALTH_PATH, "The process lives."),
    Endpoint("ready", "GET", READY_PATH, "What it shows is current.", refusals=(503,)),
    Endpoint(
        "cluster_health",
        "GET",
        CLUSTER_HEALTH_PATH,
        "All data is served; with maintenance=true: a node may go down now.",
        HealthDocument,
        query=(
            Query("maintenance", "boolean", "ask whether a node may be stopped"),
            Query("node", "string", "which, as in n2; without it: any one of them"),
        ),
        refusals=(400, 412, 503),
    ),
    Endpoint("metrics", "GET", METRICS_PATH, "Metrics, for Prometheus."),
    Endpoint("openapi", "GET", OPENAPI_PATH, "This document.", dict),
    _view("status", STATUS_PATH, "The cluster at a glance.", ClusterStatus),
    _view("doctor", DOCTOR_PATH, "What is wrong, and what to do.", DoctorDocument),
    _view("nodes", NODES_PATH, "Every node that ever joined.", NodesDocument),
    _view("shards", SHARDS_PATH, "Every shard and its state.", ShardsDocument),
    Endpoint(
        "recover",
        "POST",
        RECOVER_PATH,
        "Put older copies in the place of members gone for good, or say what it would lose.",
        RecoverAnswer,
        RecoverRequest,
        AUTH_PURPOSE,
        refusals=(400, 503),
    ),
    _admin("admin-keys", "GET", ADMIN_KEYS_PATH, "All access keys, by owner.", KeysDocument),
    _admin(
        "admin-create-key",
        "PUT",
        ADMIN_KEY_PATH,
        "Make an access key of an owner.",
        KeyDocument,
        CreateKeyRequest,
        (400, 409),
    ),
    _admin(
        "admin-disable-key",
        "POST",
        f"{ADMIN_KEY_PATH}/disable",
        "Let an access key open nothing any more.",
        KeyDocument,
        refusals=(404, 409),
    ),
    _admin(
        "admin-remove-key",
        "DELETE",
        ADMIN_KEY_PATH,
        "Remove an access key.",
        dict,
        refusals=(404, 409),
    ),
    _admin("admin-buckets", "GET", ADMIN_BUCKETS_PATH, "All buckets, by name.", BucketsDocument),
    _admin(
        "admin-set-quota",
        "PUT",
        f"{ADMIN_BUCKETS_PATH}/{{bucket}}/quota",
        "Say how many bytes a bucket may take.",
        BucketDocument,
        QuotaRequest,
        (400, 404),
    ),
    _admin(
        "admin-allow-public",
        "PUT",
        f"{ADMIN_BUCKETS_PATH}/{{bucket}}/public",
        "Let a bucket be opened to the public, or close it.",
        PublicDocument,
        PublicRequest,
        (400, 404),
    ),
    _view("plan", PLAN_PATH, "What shards are to become.", PlanDocument),
    _view("plan-status", PLAN_STATUS_PATH, "How far placement is.", PlanStatus),
    _view("plan-nodes", PLAN_NODES_PATH, "What every node holds.", PlacedNodes),
    _view("plan-pools", PLAN_POOLS_PATH, "The pools.", PlacedPools),
    *(
        Endpoint(
            f"plan-{action}",
            "POST",
            f"{PLAN_ACTIONS_PATH}{action}",
            f"Placement: {action}, or what it would do.",
            PlanAnswer,
            body=PlanRequest,
            purpose=AUTH_PURPOSE,
            refusals=(409,),
        )
        for action in ACTIONS
    ),
    Endpoint(
        "map",
        "GET",
        MAP_PATH,
        "Pools, live nodes and shard configurations. ETag; If-None-Match and wait: a long poll.",
        MapDocument,
        query=(_WAIT, _MIN_REVISION),
        other_types=(MAP_BINARY_TYPE,),
        refusals=(304, 400, 503),
    ),
    Endpoint(
        "events",
        "GET",
        EVENTS_PATH,
        "Changes under a prefix after a revision: a long poll, or a stream of server-sent events.",
        EventsDocument,
        query=(
            Query("prefix", "string", "of the keys, as services/web/; all without it"),
            Query("after", "string", "the resume token; a reset without it"),
            _WAIT,
        ),
        other_types=(SSE_TYPE,),
        refusals=(400, 503),
    ),
    _view("services", SERVICES_PATH, "All instances.", ServicesDocument, _WANTED),
    _view(
        "service",
        f"{SERVICES_PATH}/{{service}}",
        "The instances of one service.",
        ServicesDocument,
        _WANTED,
    ),
    Endpoint(
        "sd-prometheus",
        "GET",
        PROMETHEUS_PATH,
        "What Prometheus is to scrape, for its http_sd: services' instances, and octad's nodes.",
        list,
        query=(Query("service", "string", "this one only"), *_WANTED),
        refusals=(400, 503),
    ),
    _consul(
        "consul-service",
        "/v1/health/service/{service}",
        "The instances of a service, as Consul tells them.",
        list,
        Query("tag", "string", "a label, as NAME=VALUE; may be repeated"),
        Query("passing", "boolean", "only those that are well and want work"),
        *_CONSUL_BLOCKING,
    ),
    _consul(
        "consul-services",
        "/v1/catalog/services",
        "The services' names and tags, as Consul tells them.",
        dict,
        *_CONSUL_BLOCKING,
    ),
    _consul("consul-self", "/v1/agent/self", "Which cluster this is, as Consul tells it.", dict),
    Endpoint(
        "register",
        "PUT",
        _INSTANCE_PATH,
        "Register an instance, or change what it says of itself.",
        RegisterAnswer,
        RegisterRequest,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(400, 409, 410, 503),
    ),
    Endpoint(
        "withdraw",
        "DELETE",
        _INSTANCE_PATH,
        "Take one instance away.",
        dict,
        WithdrawRequest,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(400, 409, 410, 503),
    ),
    Endpoint(
        "open",
        "POST",
        SESSIONS_PATH,
        "Open a session, without instances.",
        SessionAnswer,
        SessionRequest,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(400, 503),
    ),
    Endpoint(
        "renew",
        "POST",
        f"{SESSIONS_PATH}/{{session}}/renew",
        "Keep the session alive for another time to live, and compare its instances.",
        RenewAnswer,
        RenewRequest,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(400, 410, 503),
    ),
    Endpoint(
        "end",
        "DELETE",
        f"{SESSIONS_PATH}/{{session}}",
        "Take all instances of the session away.",
        dict,
        None,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(410, 503),
    ),
    _view("locks", LOCKS_PATH, "The locks that someone holds.", LocksDocument),
    _view("lock-status", f"{LOCKS_PATH}/{{lock}}", "Who holds one lock.", LocksDocument),
    Endpoint(
        "lock",
        "PUT",
        f"{LOCKS_PATH}/{{lock}}",
        "Stand in the lock's queue, whose first holds it.",
        LockAnswer,
        LockRequest,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(400, 409, 410, 503),
    ),
    Endpoint(
        "unlock",
        "DELETE",
        f"{LOCKS_PATH}/{{lock}}",
        "Leave the lock's queue.",
        dict,
        UnlockRequest,
        REGISTRATION_PURPOSE,
        query=(_WITHIN,),
        refusals=(400, 409, 410, 503),
    ),
    Endpoint(
        "kv-keys",
        "GET",
        KV_PATH,
        "The settings' keys. With after and wait: a long poll.",
        KvKeys,
        purpose=REGISTRATION_PURPOSE,
        query=(
            Query("prefix", "string", "of the keys; all without it"),
            _AFTER,
            _WAIT,
            _MIN_REVISION,
        ),
        refusals=(400, 503),
    ),
    Endpoint(
        "kv-get",
        "GET",
        _KV_KEY_PATH,
        "A setting. With after and wait: a long poll.",
        KvEntry,
        purpose=REGISTRATION_PURPOSE,
        query=(_AFTER, _WAIT, _MIN_REVISION),
        refusals=(400, 503),
    ),
    *(
        Endpoint(
            f"kv-{method.lower()}",
            method,
            _KV_KEY_PATH,
            summary,
            KvAnswer,
            body,
            REGISTRATION_PURPOSE,
            query=(
                Query("if_revision", "integer", "only if it is at this one; 0: not there"),
                _WITHIN,
            ),
            refusals=(400, 409, 503),
        )
        for method, summary, body in _KV_CHANGES
    ),
    Endpoint(
        "join",
        "POST",
        JOIN_PATH,
        "Let a node in.",
        JoinMessage,
        JoinRequest,
        AUTH_PURPOSE,
        refusals=(400, 409, 503),
    ),
)
