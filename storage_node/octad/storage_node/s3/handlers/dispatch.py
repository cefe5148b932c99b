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
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation

Handler = Callable[[RequestContext], Awaitable[Answer]]

HANDLERS: Final[Mapping[S3Operation, Handler]] = MappingProxyType(
    {
        S3Operation.LIST_BUCKETS: buckets.list_buckets,
        S3Operation.CREATE_BUCKET: buckets.create_bucket,
        S3Operation.HEAD_BUCKET: buckets.head_bucket,
        S3Operation.DELETE_BUCKET: buckets.delete_bucket,
        S3Operation.GET_BUCKET_LOCATION: probes.get_bucket_location,
        S3Operation.LIST_OBJECTS: listings.list_objects,
        S3Operation.LIST_OBJECTS_V2: listings.list_objects_v2,
        S3Operation.LIST_OBJECT_VERSIONS: listings.list_object_versions,
        S3Operation.LIST_MULTIPART_UPLOADS: upload_listing.list_uploads,
        S3Operation.DELETE_OBJECTS: objects.delete_objects,
        S3Operation.GET_BUCKET_VERSIONING: probes.get_bucket_versioning,
        S3Operation.GET_BUCKET_ACL: probes.get_bucket_acl,
        S3Operation.GET_BUCKET_POLICY: probes.get_configuration,
        S3Operation.GET_BUCKET_TAGGING: probes.get_configuration,
        S3Operation.GET_OBJECT_LOCK_CONFIGURATION: probes.get_configuration,
        S3Operation.GET_BUCKET_CORS: probes.get_configuration,
        S3Operation.GET_BUCKET_ENCRYPTION: probes.get_configuration,
        S3Operation.GET_BUCKET_LIFECYCLE: probes.get_configuration,
        S3Operation.PUT_OBJECT: objects.put_object,
        S3Operation.COPY_OBJECT: copies.copy_object,
        S3Operation.GET_OBJECT: reads.get_object,
        S3Operation.HEAD_OBJECT: reads.head_object,
        S3Operation.DELETE_OBJECT: objects.delete_object,
        S3Operation.GET_OBJECT_ACL: probes.get_object_acl,
        S3Operation.GET_OBJECT_ATTRIBUTES: reads.get_object_attributes,
        S3Operation.GET_OBJECT_TAGGING: objects.get_object_tagging,
        S3Operation.PUT_OBJECT_TAGGING: objects.put_object_tagging,
        S3Operation.DELETE_OBJECT_TAGGING: objects.delete_object_tagging,
        S3Operation.CREATE_MULTIPART_UPLOAD: multipart.create_upload,
        S3Operation.UPLOAD_PART: multipart.upload_part,
        S3Operation.UPLOAD_PART_COPY: copies.upload_part_copy,
        S3Operation.LIST_PARTS: multipart.list_parts,
        S3Operation.COMPLETE_MULTIPART_UPLOAD: multipart.complete_upload,
        S3Operation.ABORT_MULTIPART_UPLOAD: multipart.abort_upload,
    }
)

assert HANDLERS.keys() == set(S3Operation), "every operation has its handler"
