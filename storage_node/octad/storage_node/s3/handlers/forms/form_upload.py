"""PostObject: an object that a browser sends as a form, with a policy that its signer gave it.

A form says who sends it in its own fields, so these are read before anything is known of its
sender: at most 20 KiB, of a bounded number of forms at a time. Its file is taken in like the body
of any PUT.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.checksums import DEFAULT_ALGORITHM, claimed_checksum, parse_content_md5
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4_verify import refuse_two_mechanisms
from octad.sharding.limits import BODY_STEP_S, KIB, PUT_BYTES_MAX
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.memory.body_pace import BodyPace
from octad.storage_node.s3.handlers.authentication import SecretOf, owner_of, secret_in
from octad.storage_node.s3.handlers.bodies import give_back, receive_file
from octad.storage_node.s3.handlers.request import Form, RestOfForm
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer
from octad.storage_node.s3.protocol.forms.form_parts import (
    FIELDS_BYTES_MAX,
    FileDecoder,
    FormHead,
    boundary_of,
    is_form,
    read_form_head,
)
from octad.storage_node.s3.protocol.forms.form_signature import is_of_nobody, verify_form
from octad.storage_node.s3.protocol.forms.post_policy import (
    BUCKET_FIELD,
    POLICY_FIELD,
    PostPolicy,
    read_policy,
)
from octad.storage_node.s3.protocol.object_headers import checksum_lines, written_lines
from octad.storage_node.s3.protocol.requests.names import check_key
from octad.storage_node.s3.protocol.requests.payload import PlannedPayload
from octad.storage_node.s3.protocol.requests.request_headers import (
    ACL_HEADER,
    WRITE_CONDITIONS,
    check_headers,
    stored_headers,
)
from octad.storage_node.s3.protocol.requests.tags import TAGGING_HEADER
from octad.storage_node.s3.protocol.xml.documents import CONTENT_TYPE, post_response_xml
from octad.storage_node.s3.protocol.xml.requests import read_tagging
from octad.storage_node.shards.object_store import StoreError

_STEP_BYTES: Final = 4 * KIB
FORMS_AT_ONCE: Final = 256  # Forms whose fields are being read; some MiB, also from strangers.
_BESIDE_THE_FILE_MAX: Final = FIELDS_BYTES_MAX + 4 * KIB
_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_FILENAME: Final = "${filename}"
_IN_URLS: Final = "%!#$&'()*+,/:;=?@[]~"
_STATUS_FIELD: Final = "success_action_status"
_REDIRECT_FIELDS: Final = ("success_action_redirect", "redirect")
# Fields that are headers of the object, or of the request; conditions are refused as any header
# that is not kept to.
_HEADERS: Final = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
    *WRITE_CONDITIONS,
)
# Of those that begin like headers: they say who signed the form.
_OF_THE_SIGNATURE: Final = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")


class FormReader:
    """Reads forms up to their files. Few at a time, for no one knows who sends them: the one that
    has taken longest makes room, as browsers send all of that at once."""

    def __init__(self, secret_of: SecretOf) -> None:
        self._secret_of = secret_of
        self._reading: dict[asyncio.Timeout, None] = {}  # Oldest first.

    async def read(self, context: RequestContext) -> None:
        """Attribute the request to the signer of the form, if it shows one.

        Raises S3Error where that is no good, or where the signer's policy does not allow it.
        """
        content_type = context.headers.get("content-type", "")
        if not is_form(content_type):
            raise _no_form() if context.owner != ANONYMOUS else S3Error("AccessDenied")
        if context.owner != ANONYMOUS:
            refuse_two_mechanisms()
        boundary = boundary_of(content_type)
        left = _content_length(context.headers)
        came, head = await self._head(context, boundary, left)
        policy = None if is_of_nobody(head.fields) else self._signed_policy(context, head)
        fields = _allowed(context, head, policy)
        context.key = fields["key"].encode()
        context.headers = _as_headers(context, fields)
        left -= head.size
        sizes = (0, PUT_BYTES_MAX) if policy is None else (policy.size_min, policy.size_max)
        context.form = Form(
            fields,
            RestOfForm(context.body, came[head.size :], left),
            FileDecoder(boundary, left, *sizes),
        )

    def _signed_policy(self, context: RequestContext, head: FormHead) -> PostPolicy:
        context.signature = verify_form(
            head.fields,
            now_s=context.now_ms / 1000,
            region=context.region,
            secret_of=secret_in(self._secret_of),
        )
        context.owner = owner_of(context.signature, self._secret_of)
        return read_policy(head.fields[POLICY_FIELD])

    async def _head(
        self, context: RequestContext, boundary: bytes, length: int
    ) -> tuple[bytes, FormHead]:
        """The bytes read so far, and the fields at their beginning."""
        if len(self._reading) >= FORMS_AT_ONCE:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.reschedule(0)
        try:
            async with asyncio.timeout(None) as time_left:
                self._reading[time_left] = None
                try:
                    return await _read_head(context, boundary, length)
                finally:
                    self._reading.pop(time_left, None)
        except TimeoutError:
            raise S3Error("SlowDown") from None


async def _read_head(
    context: RequestContext, boundary: bytes, length: int
) -> tuple[bytes, FormHead]:
    await context.invite_body()
    came, pace = b"", BodyPace()
    while (head := read_form_head(came, boundary)) is None:
        wanted = min(length - len(came), _STEP_BYTES)
        if not wanted or not context.body.left:
            raise S3Error("MalformedPOSTRequest")
        space = memoryview(bytearray(wanted))
        count = await context.body.read_into(space, BODY_STEP_S)
        came += bytes(space[:count])
        if pace.is_over(count, whole=count == wanted, in_the_way=False):
            raise S3Error("RequestTimeout")
    return came, head


async def post_object(context: RequestContext) -> Answer:
    """Store the form's file; nothing of it stays unless all of it came and the policy held."""
    form = context.form
    assert form is not None, "its fields are read before its sender is known"
    headers = stored_headers(context.headers)
    claim = claimed_checksum(context.headers)
    content_md5 = context.headers.get("content-md5")
    md5 = None if content_md5 is None else parse_content_md5(content_md5)
    bucket = await context.bucket()
    extras = context.new_extras(bucket)
    plan = PlannedPayload(form.decoder, md5, claim)
    context.check_quota(bucket, plan.length)  # With the line after the file, of some bytes.
    algorithms = (plan.claimed_algorithm or DEFAULT_ALGORITHM,)
    received = await receive_file(context, form.source, plan, bucket, algorithms)
    row = ObjectRow(
        size=form.decoder.size,
        etag=received.etag,
        modified_ms=context.now_ms,
        headers=headers,
        checksums=received.checksums,
        extents=received.extents,
        extras=extras,
    )
    write_id = context.write_id(row.etag, str(row.size))
    what = bucket, context.key, row, received.data
    try:
        written = await context.store.put_object(*what, *write_id)
    except StoreError as error:
        await give_back(received, error)
        raise
    answer = _answer(context, form.fields, row)
    answer.head += checksum_lines(row.checksums)
    answer.head += written_lines(bucket.id, written, received.degraded)
    return answer


def _answer(context: RequestContext, fields: Mapping[str, str], row: ObjectRow) -> Answer:
    """The answer that the form asks for: a redirection, or a status."""
    key = quote(context.key, safe="/")
    location = (
        f"{context.scheme}://{context.headers.get('host', '')}{context.path.rstrip('/')}/{key}"
    )
    lines = f'ETag: "{row.etag}"\r\n'
    for name in _REDIRECT_FIELDS:
        target = _page_of(fields.get(name, ""))
        if target is not None:
            said = {"bucket": context.bucket_name, "key": context.key, "etag": f'"{row.etag}"'}
            query = "&".join(part for part in (target.query, urlencode(said)) if part)
            url = target._replace(query=query).geturl()
            return Answer(303, f"{lines}Location: {quote(url, safe=_IN_URLS)}\r\n")
    lines += f"Location: {location}\r\n"
    status = fields.get(_STATUS_FIELD, "")
    if status == "201":
        document = post_response_xml(location, context.bucket_name, context.key, row.etag)
        return Answer(201, f"Content-Type: {CONTENT_TYPE}\r\n{lines}", document)
    return Answer(200 if status == "200" else 204, lines)


def _page_of(url: str) -> SplitResult | None:
    """Where a browser can be sent; None for anything else, which S3 takes for no redirection."""
    try:
        target = urlsplit(url)
    except ValueError:  # The host is invalid.
        return None
    return target if target.scheme in ("http", "https") and target.netloc else None


def _allowed(
    context: RequestContext, head: FormHead, policy: PostPolicy | None
) -> Mapping[str, str]:
    """The fields as they are meant; raises S3Error where the policy does not allow them."""
    fields = dict(head.fields)
    if not fields.get("key"):
        raise S3Error("InvalidArgument", "Bucket POST must contain a field named 'key'.")
    fields["key"] = fields["key"].replace(_FILENAME, head.filename)
    if fields.setdefault(BUCKET_FIELD, context.bucket_name) != context.bucket_name:
        raise S3Error("AccessDenied", "The form names another bucket than the request.")
    if policy is not None:
        policy.check(fields, context.now_ms / 1000)
    check_key(fields["key"].encode())
    return fields


def _as_headers(context: RequestContext, fields: Mapping[str, str]) -> dict[str, str]:
    """The headers of the equivalent PUT; raises S3Error for fields that are not honoured."""
    headers = {"host": context.headers.get("host", "")}
    for name, value in fields.items():
        if name == "acl":
            name = ACL_HEADER
        elif name == "tagging":
            name, value = TAGGING_HEADER, urlencode(read_tagging(value.encode()))
        elif name in _OF_THE_SIGNATURE or not (name in _HEADERS or name.startswith("x-amz-")):
            continue
        if _HEADER_NAME.fullmatch(name) is None or _CONTROL.search(value) is not None:
            raise S3Error(
                "InvalidArgument",
                "A form field has characters that no header can have.",
                fields={"ArgumentName": name},
            )
        headers[name] = value.encode().decode("latin-1")
    check_headers(headers, writes=True, copies=False, known=(ACL_HEADER, TAGGING_HEADER))
    return headers


def _no_form() -> S3Error:
    return S3Error(
        "PreconditionFailed",
        fields={"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
    )


def _content_length(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length")
    if length is None:
        raise S3Error("MissingContentLength")
    if not (length.isascii() and length.isdecimal()):
        raise S3Error("BadRequest")
    if int(length[:16]) > PUT_BYTES_MAX + _BESIDE_THE_FILE_MAX:
        fields = {"ProposedSize": length, "MaxSizeAllowed": str(PUT_BYTES_MAX)}
        raise S3Error("EntityTooLarge", fields=fields)
    return int(length)
