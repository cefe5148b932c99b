"""What only tests call is either wired or gone: the product or its tools have to reach every name.

By names alone, so a name that means two things may hide one of them, but nothing that is called is
ever reported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.unit.tidy.code_base import modules, product, tree_of

# Called by libraries, by their names; and what waits for its user.
BY_LIBRARIES = {
    "_fetch_range", "_initiate_upload", "_rm", "_upload_chunk", "datagram_received", "handle_error",
    "on_body", "on_headers_complete", "on_message_complete", "on_url",
}  # fmt: skip
FOR_THE_SDK = {"ChunkedEncoder", "encoded_length", "is_held"}
# The SDK and its fixtures: what applications call, and look at.
FOR_APPLICATIONS = {
    *(
        f"octad.client.adapters.{name}"
        for name in (
            "files",
            "fsspec_files",
            "fsspec_filesystem",
            "obspec_results",
            "obspec_store",
            "other_clients",
        )
    ),
    "octad.client.resilience.breaker",
    "octad.storage_node.dev.pytest_plugin",
    *(
        f"octad.client.checkpoints.{name}"
        for name in ("async_checkpoint", "async_checkpoints", "async_writer", "checkpoints")
    ),
    "octad.client.checkpoints.rules.key_values",
    *(
        f"octad.client.objects.{name}"
        for name in ("async_bucket", "async_client", "bucket", "client", "results", "streams")
    ),
}
FOR_CHAOS_TESTS = {"longest_read", "longest_write"}


def test_every_name_of_the_product_is_used_by_it() -> None:
    defined = {name for module in product() for name in definitions(tree_of(module))}
    everything = [*product(), *(name for name in modules() if name.startswith("tools."))]
    used = {name for module in everything for name in uses(tree_of(module))}
    for_applications = {
        name
        for module in FOR_APPLICATIONS
        for name in definitions(tree_of(module))
        if not name.startswith("_")
    }
    defined -= for_applications
    only_tests = {name for name in defined - used if not name.startswith("__")}
    assert only_tests == BY_LIBRARIES | FOR_THE_SDK | FOR_CHAOS_TESTS


def definitions(tree: ast.Module) -> Iterator[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return (node.name for node in ast.walk(tree) if isinstance(node, kinds))


def uses(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # By getattr, or in a registry of names.
