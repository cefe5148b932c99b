"""minio-py: a file of several parts, metadata, a listing, presigned links, removal of many."""

import io
import os
import urllib.request

from minio import Minio
from minio.deleteobjects import DeleteObject

endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
client = Minio(
    endpoint,
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    secure=False,
)
client.make_bucket("minio-py")
body = os.urandom(12 * 1024 * 1024)
client.put_object(
    "minio-py",
    "large ünï.bin",
    io.BytesIO(body),
    -1,
    part_size=5 * 1024 * 1024,
    metadata={"a": "b"},
)
found = client.stat_object("minio-py", "large ünï.bin")
assert found.size == len(body)
assert found.metadata is not None
assert found.metadata["x-amz-meta-a"] == "b"
assert client.get_object("minio-py", "large ünï.bin").read() == body
for number in range(50):
    client.put_object("minio-py", f"many/{number:03}", io.BytesIO(b"x"), 1)
names = [each.object_name for each in client.list_objects("minio-py", prefix="many/")]
assert names == [f"many/{number:03}" for number in range(50)]
with urllib.request.urlopen(client.presigned_get_object("minio-py", "many/007")) as answer:
    assert answer.read() == b"x"
errors = client.remove_objects("minio-py", [DeleteObject(str(name)) for name in names])
assert list(errors) == []
client.remove_object("minio-py", "large ünï.bin")
client.remove_bucket("minio-py")
