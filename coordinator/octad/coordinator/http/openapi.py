"""The OpenAPI document of the coordinator's HTTP, made from the table in `api.py`."""

from __future__ import annotations

import re
from typing import Any  # An OpenAPI document is JSON of any shape.

import msgspec

from octad.client.cluster.internal_auth import SCHEME
from octad.client.s3.sigv4 import ALGORITHM
from octad.coordinator.http.api import OPERATIONS, Endpoint
from octad.coordinator.schema.join_messages import RefusalMessage

_MEANINGS = {
    304: "unchanged",
    400: "not understood",
    401: "not signed with the cluster's key",
    403: "not signed by the access key of an admin",
    404: "there is none",
    409: "refused; the reason says why and what would do",
    410: "the session has ended, or has lost what the answer names: register again",
    412: "it may not go down now",
    503: "the configuration store does not answer, or what is asked for is not so",
}
_SECURITY = "cluster-key"
_ADMIN_SECURITY = "admin-access-key"


def openapi_document(version: str) -> dict[str, Any]:
    """All of `OPERATIONS`, with the schemas of their requests and answers."""
    types = sorted(
        {
            t
            for op in OPERATIONS
            for t in (op.answer, op.body)
            if t not in (None, dict, list, bytes)
        },
        key=lambda t: t.__name__ if t else "",
    )
    _, components = msgspec.json.schema_components(
        [*types, RefusalMessage], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "octad coordinator", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": "Authorization"}
                for name in (_SECURITY, _ADMIN_SECURITY)
            },
        },
    }


def _operation(operation: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    if operation.purpose is not None:
        described["security"] = [{_SECURITY: []}]
        described["description"] = f"Signed ({SCHEME}) with the key for {operation.purpose!r}."
    if operation.for_admins:
        described["security"] = [{_ADMIN_SECURITY: []}]
        described["description"] = f"Signed ({ALGORITHM}) with an admin's access key."
    return described


def _content(body: type) -> dict[str, Any]:
    if body is bytes:
        return {"application/octet-stream": {}}
    return {"application/json": {"schema": _reference(body)}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(operation: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": query.name,
            "in": "query",
            "required": False,
            "description": query.meaning,
            "schema": {"type": query.kind},
        }
        for query in operation.query
    ]


def _responses(operation: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {
        kind: {"schema": {"type": "string"}} for kind in operation.other_types
    }
    if operation.answer is None:
        content["text/plain"] = {"schema": {"type": "string"}}
    else:
        content["application/json"] = {"schema": _reference(operation.answer)}
    responses: dict[str, Any] = {"200": {"description": "done", "content": content}}
    codes = {*operation.refusals, *((401,) if operation.purpose else ())}
    for code in sorted(codes):
        responses[str(code)] = {"description": _MEANINGS[code]}
        if code >= 400:
            refusal = operation.answer if code in (412, 503) and _says_why(operation) else None
            schema = _reference(refusal or RefusalMessage)
            responses[str(code)]["content"] = {"application/json": {"schema": schema}}
    return responses


def _says_why(operation: Endpoint) -> bool:
    """Health checks return the same document for failure as for success."""
    return operation.name == "cluster_health"


def _reference(kind: type) -> dict[str, Any]:
    if kind is list:
        return {"type": "array"}
    return {"type": "object"} if kind is dict else {"$ref": f"#/components/schemas/{kind.__name__}"}
