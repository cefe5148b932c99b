"""The OpenAPI document of the log's HTTP."""

from __future__ import annotations

import re
from typing import Any, Final  # An OpenAPI document is JSON of any shape.

import msgspec

from octad.client.log.log_documents import (
    BATCHES_TYPE,
    EVENTS_TYPE,
    FENCES,
    JSON_TYPE,
    PINS,
    TOPICS_PATH,
    AlterRequest,
    AppendedDocument,
    AppendRequest,
    FenceDocument,
    FenceRequest,
    FencesDocument,
    FetchedDocument,
    OffsetDocument,
    PartitionDocument,
    PinDocument,
    PinRequest,
    PinsDocument,
    ProducerDocument,
    RecordDocument,
    RefusalDocument,
    TopicDocument,
    TopicRequest,
    TopicsDocument,
    TrimRequest,
    WhyDocument,
)
from octad.client.s3.sigv4 import ALGORITHM

_TOPIC: Final = TOPICS_PATH + "/{topic}"
_PARTITION: Final = _TOPIC + "/partitions/{partition}"
_SECURITY: Final = "access-key"
_Type = type[msgspec.Struct] | None

# (method, path, what it does, what is sent, what is answered, parameters of the query)
_OPERATIONS: Final[tuple[tuple[str, str, str, _Type, _Type, tuple[str, ...]], ...]] = (
    ("get", TOPICS_PATH, "List topics", None, TopicsDocument, ()),
    ("put", _TOPIC, "Make a topic", TopicRequest, TopicDocument, ()),
    ("get", _TOPIC, "Describe a topic, with its offsets", None, TopicDocument, ()),
    ("patch", _TOPIC, "Change a topic's settings", AlterRequest, TopicDocument, ()),
    ("get", f"{_TOPIC}/why", "Say what keeps the first records", None, WhyDocument, ()),
    ("delete", _TOPIC, "Delete a topic with all records", None, None, ("force",)),
    ("post", f"{_TOPIC}/producers", "Get a producer id", None, ProducerDocument, ()),
    (
        "post",
        f"{_PARTITION}/records",
        "Append records as one batch, or batches as they are",
        AppendRequest,
        AppendedDocument,
        ("expect_offset", "job", "token"),
    ),
    (
        "get",
        f"{_PARTITION}/records",
        "Fetch records, or wait for them",
        None,
        FetchedDocument,
        ("offset", "timestamp_ms", "max_bytes", "wait_ms", "seen"),
    ),
    (
        "get",
        f"{_PARTITION}/offsets",
        "Find the first record of a time",
        None,
        OffsetDocument,
        ("timestamp_ms",),
    ),
    ("post", f"{_PARTITION}/trim", "Give up old records", TrimRequest, PartitionDocument, ()),
    ("post", f"{_PARTITION}/{FENCES}", "Raise a job's token", FenceRequest, FenceDocument, ()),
    ("get", f"{_PARTITION}/{FENCES}", "List the tokens of jobs", None, FencesDocument, ()),
    ("post", f"{_PARTITION}/{PINS}", "Keep records for someone", PinRequest, PinDocument, ()),
    ("delete", f"{_PARTITION}/{PINS}", "Let go of them", None, None, ("owner", "id")),
    ("get", f"{_PARTITION}/{PINS}", "List what is kept for whom", None, PinsDocument, ()),
)


def openapi_document(version: str) -> dict[str, Any]:
    """All operations, with the schemas of what they take and answer."""
    types = {each for operation in _OPERATIONS for each in operation[3:5] if each is not None}
    types |= {RefusalDocument, RecordDocument}
    _, components = msgspec.json.schema_components(
        sorted(types, key=lambda each: each.__name__),
        ref_template="#/components/schemas/{name}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, sent, answered, query in _OPERATIONS:
        streams = path.endswith("/records")
        paths.setdefault(path, {})[method] = {
            "summary": summary,
            "security": [{_SECURITY: []}],
            "parameters": [_parameter(name, "path") for name in re.findall(r"{(\w+)}", path)]
            + [_parameter(name, "query") for name in query],
            **({} if sent is None else {"requestBody": _body(sent, batches=streams)}),
            "responses": {
                "2XX": {"description": "done"}
                | ({} if answered is None else _body(answered, batches=streams and not sent)),
                "default": {"description": "refused"} | _body(RefusalDocument),
            },
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "octad log", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                _SECURITY: {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": f"{ALGORITHM}, as for S3: service s3, any access key",
                }
            },
        },
    }


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


def _body(kind: type[msgspec.Struct], *, batches: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {
        JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}
    }
    if batches:
        content[BATCHES_TYPE] = {"schema": {"type": "string", "format": "binary"}}
        if kind is FetchedDocument:
            content[EVENTS_TYPE] = {"schema": {"type": "string"}}
    return {"content": content}
