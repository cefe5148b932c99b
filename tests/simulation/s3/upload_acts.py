"""What clients do to multipart uploads, each to any of those that were begun."""

from __future__ import annotations

from tests.simulation.s3 import uploads as model
from tests.simulation.s3.clients import BUCKET, Clients
from tests.simulation.s3.keys import md5_of, settled
from tests.simulation.s3.model_check import INFINITE, Step
from tests.simulation.s3.requests import (
    Broken,
    Call,
    Refused,
    completion_of,
    etag_in,
    etag_of,
    parts_in,
    upload_id_in,
    uploads_in,
)
from tests.simulation.s3.uploads import Upload

from octad.chaos.check.linearizability import ANY
from octad.client.s3.checksums import multipart_etag

_OPEN_MAX = 4
_NUMBERS = (1, 2, 3)
_RECENT = 6  # Uploads that have ended are asked for, too.


async def upload(clients: Clients) -> None:
    """Begin one, go on with one, end one, or look at one."""
    random, begun = clients.random, clients.uploads.all
    still = sum(each.ended == INFINITE for each in begun)
    if not begun or (still < _OPEN_MAX and random.random() < 0.25):
        await _begin(clients)
        return
    chosen, dice = random.choice(begun[-_RECENT:]), random.random()
    if dice < 0.35:
        await _send_part(clients, chosen)
    elif dice < 0.6:
        await _complete(clients, chosen)
    elif dice < 0.75:
        await _abort(clients, chosen)
    elif dice < 0.9:
        await _list_parts(clients, chosen)
    else:
        await list_uploads(clients)


async def _begin(clients: Clients) -> None:
    key = clients.random.choice(clients.keys.names)
    reply = await clients.ask(Call("POST", BUCKET, key, {"uploads": ""}))
    clients.uploads.begun(key, upload_id_in(reply), clients.now())


async def _send_part(clients: Clients, upload: Upload) -> None:
    number = clients.random.choice(_NUMBERS)
    body = clients.keys.new_body(clients.random.choice(clients.habits.sizes))
    etag = md5_of(body)
    upload.bodies[etag] = body
    step = upload.asked(clients.now(), f"part {number}: {etag}", model.puts(number, etag))
    query = {"partNumber": str(number), "uploadId": upload.id}
    try:
        reply = await clients.ask(Call("PUT", BUCKET, upload.key, query, body=body))
    except Refused as error:
        _found_none(step, error, clients.now())
    else:
        upload.sent[number] = etag_of(reply)
        step.returned = clients.now()


async def _complete(clients: Clients, upload: Upload) -> None:
    """With what is known of its parts, or some; the object appears at its key."""
    random, keys = clients.random, clients.keys
    known = sorted(upload.sent.items())
    parts = tuple(known if random.random() < 0.8 else known[:1])
    if not parts:
        await _send_part(clients, upload)
        return
    body = b"".join(upload.bodies[etag] for _, etag in parts)
    etag = keys.names_body(multipart_etag([tag for _, tag in parts]), body)
    keys.names_body(md5_of(body), body)  # Of a copy.
    headers = {"if-none-match": "*"} if random.random() < 0.2 else {}
    # Where it is there as this makes it, another client has completed the same.
    if_match = etag if headers else ANY
    now = clients.now()
    upload.ends(now)
    step = upload.asked(now, f"complete {parts} {headers}", model.completes(parts))
    done = keys.write(upload.key, now, etag, if_match=if_match, or_absent=True)
    call = Call("POST", BUCKET, upload.key, {"uploadId": upload.id}, headers, completion_of(parts))
    try:
        reply = await clients.ask(call)
    except Refused as error:
        keys.forget(upload.key, done)
        _not_completed(clients, upload, step, parts, error)
        return
    if etag_in(reply) != etag:
        raise Broken(f"upload {upload.id} completed as {etag_in(reply)}, not {etag}")
    step.returned = clients.now()
    upload.gone = min(upload.gone, step.returned)
    settled(done, step.returned)
    clients.counts["completed"] += 1


def _not_completed(
    clients: Clients, upload: Upload, step: Step, parts: model.Parts, error: Refused
) -> None:
    if error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
        upload.history.remove(step)  # The condition is of the key, and it was overtaken there.
        return
    if error.code == "InvalidPart":
        step.effect, step.returned = model.lacks(parts), clients.now()
    else:
        _found_none(step, error, clients.now())


async def _abort(clients: Clients, upload: Upload) -> None:
    now = clients.now()
    upload.ends(now)
    step = upload.asked(now, "abort", model.aborts)
    try:
        await clients.ask(Call("DELETE", BUCKET, upload.key, {"uploadId": upload.id}))
    except Refused as error:
        _found_none(step, error, clients.now())
    else:
        step.returned = clients.now()
    upload.gone = min(upload.gone, clients.now())


async def _list_parts(clients: Clients, upload: Upload) -> None:
    called, query = clients.now(), {"uploadId": upload.id}
    try:
        found = parts_in(await clients.ask(Call("GET", BUCKET, upload.key, query)))
    except Refused as error:
        step = upload.asked(called, "list parts", model.finds_none)
        _found_none(step, error, clients.now())
        return
    for number in _NUMBERS:
        etag = found.get(number)
        step = upload.asked(called, f"list part {number}: {etag}", model.shows(number, etag))
        step.returned = clients.now()


async def list_uploads(clients: Clients) -> None:
    """All of the bucket."""
    called = clients.now()
    reply = await clients.ask(Call("GET", BUCKET, query={"uploads": ""}))
    clients.uploads.listed(called, clients.now(), uploads_in(reply))


def _found_none(step: Step, error: Refused, now: float) -> None:
    """An earlier try may have done it, before the upload was at its end."""
    if error.code != "NoSuchUpload":
        raise Broken(f"{step.what}: {error}") from error
    step.what += ": no such upload"
    if error.is_first:
        step.effect, step.returned = model.finds_none, now
