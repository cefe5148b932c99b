"""The handler of each operation: all of them, or the node does not start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from octad.storage_node.s3.handlers import buckets, copies, multipart, objects, reads
from octad.storage_node.s3.handlers import object_listings as listings
from octad.storage_node.s3.handlers import upload_listings as upload_listing
from octad.storage_node.s3.handlers.forms import form_upload
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.handlers.settings import access_lists, public_access
from octad.storage_node.s3.handlers.settings import bucket_settings as probes
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
        S3Operation.GET_BUCKET_ACL: access_lists.get_bucket_acl,
        S3Operation.PUT_BUCKET_ACL: access_lists.put_bucket_acl,
        S3Operation.GET_BUCKET_OWNERSHIP_CONTROLS: public_access.get_ownership_controls,
        S3Operation.PUT_BUCKET_OWNERSHIP_CONTROLS: public_access.put_ownership_controls,
        S3Operation.DELETE_BUCKET_OWNERSHIP_CONTROLS: public_access.delete_ownership_controls,
        S3Operation.GET_PUBLIC_ACCESS_BLOCK: public_access.get_public_access_block,
        S3Operation.PUT_PUBLIC_ACCESS_BLOCK: public_access.put_public_access_block,
        S3Operation.DELETE_PUBLIC_ACCESS_BLOCK: public_access.delete_public_access_block,
        S3Operation.GET_BUCKET_POLICY: probes.get_configuration,
        S3Operation.GET_BUCKET_POLICY_STATUS: public_access.get_policy_status,
        S3Operation.GET_BUCKET_TAGGING: probes.get_bucket_tagging,
        S3Operation.PUT_BUCKET_TAGGING: probes.put_bucket_tagging,
        S3Operation.DELETE_BUCKET_TAGGING: probes.delete_bucket_tagging,
        S3Operation.GET_OBJECT_LOCK_CONFIGURATION: probes.get_configuration,
        S3Operation.PUT_OBJECT_LOCK_CONFIGURATION: probes.lock_is_missing,
        S3Operation.GET_BUCKET_CORS: probes.get_bucket_cors,
        S3Operation.PUT_BUCKET_CORS: probes.put_bucket_cors,
        S3Operation.DELETE_BUCKET_CORS: probes.delete_bucket_cors,
        S3Operation.GET_BUCKET_ENCRYPTION: probes.get_configuration,
        S3Operation.GET_BUCKET_LIFECYCLE: probes.get_configuration,
        S3Operation.PUT_OBJECT: objects.put_object,
        S3Operation.POST_OBJECT: form_upload.post_object,
        S3Operation.COPY_OBJECT: copies.copy_object,
        S3Operation.GET_OBJECT: reads.get_object,
        S3Operation.HEAD_OBJECT: reads.head_object,
        S3Operation.DELETE_OBJECT: objects.delete_object,
        S3Operation.GET_OBJECT_ACL: access_lists.get_object_acl,
        S3Operation.PUT_OBJECT_ACL: access_lists.put_object_acl,
        S3Operation.GET_OBJECT_ATTRIBUTES: reads.get_object_attributes,
        S3Operation.GET_OBJECT_TAGGING: objects.get_object_tagging,
        S3Operation.PUT_OBJECT_TAGGING: objects.put_object_tagging,
        S3Operation.DELETE_OBJECT_TAGGING: objects.delete_object_tagging,
        S3Operation.GET_OBJECT_RETENTION: probes.lock_is_missing,
        S3Operation.PUT_OBJECT_RETENTION: probes.lock_is_missing,
        S3Operation.GET_OBJECT_LEGAL_HOLD: probes.lock_is_missing,
        S3Operation.PUT_OBJECT_LEGAL_HOLD: probes.lock_is_missing,
        S3Operation.CREATE_MULTIPART_UPLOAD: multipart.create_upload,
        S3Operation.UPLOAD_PART: multipart.upload_part,
        S3Operation.UPLOAD_PART_COPY: copies.upload_part_copy,
        S3Operation.LIST_PARTS: multipart.list_parts,
        S3Operation.COMPLETE_MULTIPART_UPLOAD: multipart.complete_upload,
        S3Operation.ABORT_MULTIPART_UPLOAD: multipart.abort_upload,
    }
)

assert HANDLERS.keys() == set(S3Operation), "every operation has its handler"
