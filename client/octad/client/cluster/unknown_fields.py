"""A record that is written again keeps what a newer octad has put into it.

Readers pass over fields that they do not know; one that writes a record back must not drop them.
"""

from __future__ import annotations

import msgspec


def with_unknown_fields(before: bytes, record: msgspec.Struct) -> bytes:
    """`record` as one line of JSON, with those fields of `before` that its type does not have.

    Raises msgspec.DecodeError where `before` is no JSON object.
    """
    fields = msgspec.json.decode(before, type=dict[str, msgspec.Raw])
    unknown = {name: fields[name] for name in fields.keys() - set(record.__struct_encode_fields__)}
    if not unknown:
        return msgspec.json.encode(record)
    known = msgspec.json.decode(msgspec.json.encode(record), type=dict[str, msgspec.Raw])
    ordered = {name: unknown[name] for name in fields if name in unknown}
    return msgspec.json.format(msgspec.json.encode({**known, **ordered}), indent=-1)
