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
from octad.client.membership.event_document import EVENTS_PATH, SSE_TYPE, EventsDocument
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

    `for_admins`: an admin's access key must have.
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
_INSTANCE_PATH = f"{SERVICES_PATH}/{{service}}/{{instance}}"


def _view(name: str, path: str, summary: str, answer: type) -> Endpoint:
    """A GET of the coordinator's view, at least as new as the query asks for."""
    query = (_MIN_REVISION,)
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
    _view("services", SERVICES_PATH, "All instances.", ServicesDocument),
    _view(
        "service",
        f"{SERVICES_PATH}/{{service}}",
        "The instances of one service.",
        ServicesDocument,
    ),
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
