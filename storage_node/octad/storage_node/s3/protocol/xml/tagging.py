"""Tags as the document that clients are sent."""

from __future__ import annotations

from collections.abc import Mapping

from octad.storage_node.s3.protocol.xml.documents import DECLARATION, NAMESPACE, escape


def tagging_xml(tags: Mapping[str, str]) -> bytes:
    """`Tagging`."""
    shown = "".join(
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
        for name, value in tags.items()
    )
    return (
        f'{DECLARATION}<Tagging xmlns="{NAMESPACE}"><TagSet>{shown}</TagSet></Tagging>'
    ).encode()
