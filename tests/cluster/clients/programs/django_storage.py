"""django-storages: files saved, found and read, and the links it makes by default."""

import os
import urllib.request

import django
from django.conf import settings

settings.configure(
    STORAGES={
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": os.environ["OCTAD_BUCKET"],
                "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
                "location": "django",
                "file_overwrite": False,
            },
        }
    }
)
django.setup()

from django.core.files.base import ContentFile  # noqa: E402  (after the setup)
from django.core.files.storage import default_storage  # noqa: E402

name = default_storage.save("photos/a photo.jpg", ContentFile(b"first"))
other = default_storage.save("photos/a photo.jpg", ContentFile(b"second"))
assert name != other
assert default_storage.open(name).read() == b"first"
assert default_storage.size(other) == 6
directories, files = default_storage.listdir("photos")
assert directories == []
assert len(files) == 2
with urllib.request.urlopen(default_storage.url(other)) as answer:
    assert answer.read() == b"second"
default_storage.delete(name)
assert not default_storage.exists(name)
assert default_storage.exists(other)
