"""Which function answers which operation: all of them, or the node does not start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from octad.storage_node.s3.handlers import bucket_settings as probes
from octad.storage_node.s3.handlers import buckets, copies, multipart, objects, reads
from octad.storage_node.s3.handlers import object_listings as listings
from octad.storage_node.s3.handlers import upload_listings as upload_listing
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer
from octad.storage_node.s3.protocol.requests.s3_operations import Operation

Handler = Callable[[RequestContext], Awaitable[Answer]]

HANDLERS: Final[Mapping[Operation, Handler]] = MappingProxyType(
    {
        Operation.LIST_BUCKETS: buckets.list_buckets,
        Operation.CREATE_BUCKET: buckets.create_bucket,
        Operation.HEAD_BUCKET: buckets.head_bucket,
        Operation.DELETE_BUCKET: buckets.delete_bucket,
        Operation.GET_BUCKET_LOCATION: probes.get_bucket_location,
        Operation.LIST_OBJECTS: listings.list_objects,
        Operation.LIST_OBJECTS_V2: listings.list_objects_v2,
        Operation.LIST_OBJECT_VERSIONS: listings.list_object_versions,
        Operation.LIST_MULTIPART_UPLOADS: upload_listing.list_uploads,
        Operation.DELETE_OBJECTS: objects.delete_objects,
        Operation.GET_BUCKET_VERSIONING: probes.get_bucket_versioning,
        Operation.GET_BUCKET_ACL: probes.get_bucket_acl,
        Operation.GET_BUCKET_POLICY: probes.get_configuration,
        Operation.GET_BUCKET_TAGGING: probes.get_configuration,
        Operation.GET_OBJECT_LOCK_CONFIGURATION: probes.get_configuration,
        Operation.GET_BUCKET_CORS: probes.get_configuration,
        Operation.GET_BUCKET_ENCRYPTION: probes.get_configuration,
        Operation.GET_BUCKET_LIFECYCLE: probes.get_configuration,
        Operation.PUT_OBJECT: objects.put_object,
        Operation.COPY_OBJECT: copies.copy_object,
        Operation.GET_OBJECT: reads.get_object,
        Operation.HEAD_OBJECT: reads.head_object,
        Operation.DELETE_OBJECT: objects.delete_object,
        Operation.GET_OBJECT_ACL: probes.get_object_acl,
        Operation.GET_OBJECT_TAGGING: probes.get_object_tagging,
        Operation.CREATE_MULTIPART_UPLOAD: multipart.create_upload,
        Operation.UPLOAD_PART: multipart.upload_part,
        Operation.UPLOAD_PART_COPY: copies.upload_part_copy,
        Operation.LIST_PARTS: multipart.list_parts,
        Operation.COMPLETE_MULTIPART_UPLOAD: multipart.complete_upload,
        Operation.ABORT_MULTIPART_UPLOAD: multipart.abort_upload,
    }
)

assert HANDLERS.keys() == set(Operation), "every operation has its handler"
