"""obstore: puts in parts, conditional puts, ranges, listings with a delimiter, copies, deletes."""

import os

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

bucket = os.environ["OCTAD_BUCKET"]
store = S3Store(
    bucket, endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True}
)
body = os.urandom(16 * 1024 * 1024)
obstore.put(store, "obstore/large", body, chunk_size=5 * 1024 * 1024)
assert bytes(obstore.get(store, "obstore/large").bytes()) == body
ranges = obstore.get_ranges(store, "obstore/large", starts=[0, 9_000_000], lengths=[10, 20])
assert [bytes(each) for each in ranges] == [body[:10], body[9_000_000:9_000_020]]

first = obstore.put(store, "obstore/once", b"1", mode="create")
try:
    obstore.put(store, "obstore/once", b"2", mode="create")
except AlreadyExistsError:
    pass
else:
    raise AssertionError("created twice")
second = obstore.put(store, "obstore/once", b"2", mode={"e_tag": first["e_tag"]})
try:
    obstore.put(store, "obstore/once", b"3", mode={"e_tag": first["e_tag"]})
except PreconditionError:
    pass
else:
    raise AssertionError("an update of what was not there any more")
assert second["e_tag"] != first["e_tag"]
assert bytes(obstore.get(store, "obstore/once").bytes()) == b"2"

obstore.copy(store, "obstore/once", "obstore/a/copy")
listed = obstore.list_with_delimiter(store, "obstore/")
assert listed["common_prefixes"] == ["obstore/a"], listed
assert [each["path"] for each in listed["objects"]] == ["obstore/large", "obstore/once"]
obstore.delete(store, ["obstore/large", "obstore/once", "obstore/a/copy"])
assert sum(len(page) for page in obstore.list(store, "obstore/")) == 0
