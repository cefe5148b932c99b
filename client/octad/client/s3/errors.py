"""S3's error answers: one exception, and one table of every code with its status.

A code stands for one HTTP status everywhere; the caller may give a more exact message.
`fields` become elements of the error document beside Code and Message (`Region`, `BucketName`, …).
This file knows no request and no document: the handler adds resource, request id and host id.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_NO_FIELDS: Final[Mapping[str, str]] = MappingProxyType({})


class S3Error(Exception):
    """A refusal that the client sees: code, status, message and further elements."""

    def __init__(
        self, code: str, message: str | None = None, *, fields: Mapping[str, str] = _NO_FIELDS
    ) -> None:
        self.http_status, default = S3_ERRORS[code]
        self.code = code
        self.message = default if message is None else message
        self.fields = fields
        super().__init__(f"{code}: {self.message}")


# code: (HTTP status, message when no one knows better).
S3_ERRORS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "AccessControlListNotSupported": (400, "The bucket does not allow ACLs"),
        "AccessDenied": (403, "Access Denied"),
        "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
        "AuthorizationHeaderMalformed": (
            400,
            "The authorization header that you provided is not valid.",
        ),
        "AuthorizationQueryParametersError": (400, "Error parsing the X-Amz-Credential parameter."),
        "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
        "BadRequest": (400, "The request is not one that can be understood."),
        "BucketAlreadyExists": (
            409,
            (
                "The requested bucket name is not available. The bucket namespace is shared by "
                "all users of the system. Please select a different name and try again."
            ),
        ),
        "BucketAlreadyOwnedByYou": (
            409,
            "Your previous request to create the named bucket succeeded and you already own it.",
        ),
        "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
        "ConditionalRequestConflict": (
            409,
            (
                "The conditional request cannot succeed due to a conflicting operation against "
                "this resource."
            ),
        ),
        "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
        "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
        "IllegalLocationConstraintException": (
            400,
            (
                "The specified location constraint is incompatible for the region specific "
                "endpoint this request was sent to."
            ),
        ),
        "IncompleteBody": (400, "The request body terminated unexpectedly"),
        "InsufficientStorage": (507, "There is no room left to store what you sent."),
        "InternalError": (500, "We encountered an internal error. Please try again."),
        "InvalidAccessKeyId": (
            403,
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        "InvalidArgument": (400, "Invalid Argument"),
        "InvalidBucketAclWithBlockPublicAccessError": (
            400,
            "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
        ),
        "InvalidBucketAclWithObjectOwnership": (
            400,
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        ),
        "InvalidBucketName": (400, "The specified bucket is not valid."),
        "InvalidBucketOwnerAWSAccountID": (
            400,
            "The value of the expected bucket owner parameter must be an AWS account ID.",
        ),
        "InvalidBucketState": (
            409,
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
        ),
        "InvalidChunkSizeError": (
            403,
            "Only the last chunk is allowed to have a size less than 8192 bytes",
        ),
        "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
        "InvalidLocationConstraint": (400, "The specified location-constraint is not valid"),
        "InvalidObjectState": (
            403,
            "The operation is not valid for the current state of the object.",
        ),
        "InvalidPart": (
            400,
            (
                "One or more of the specified parts could not be found.  The part may not have "
                "been uploaded, or the specified entity tag may not match the part's entity tag."
            ),
        ),
        "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
        "InvalidPartOrder": (
            400,
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        ),
        "InvalidPolicyDocument": (400, "Invalid Policy: Invalid JSON."),
        "InvalidRange": (416, "The requested range is not satisfiable"),
        "InvalidRequest": (400, "Invalid Request"),
        "InvalidStorageClass": (400, "The storage class you specified is not valid"),
        "InvalidTag": (400, "The tag provided was not a valid tag."),
        "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
        "InvalidURI": (400, "Couldn't parse the specified URI."),
        "InvalidWriteOffset": (
            400,
            "The write offset value that you specified does not match the current object size.",
        ),
        "KeyTooLongError": (400, "Your key is too long"),
        "MalformedACLError": (
            400,
            (
                "The XML you provided was not well-formed or did not validate against our "
                "published schema"
            ),
        ),
        "MalformedPOSTRequest": (
            400,
            "The body of your POST request is not well-formed multipart/form-data.",
        ),
        "MalformedTrailerError": (
            400,
            (
                "The request contained trailing data that was not well-formed or did not conform "
                "to our published schema."
            ),
        ),
        "MalformedXML": (
            400,
            (
                "The XML you provided was not well-formed or did not validate against our "
                "published schema"
            ),
        ),
        "MaxPostPreDataLengthExceededError": (
            400,
            "Your POST request fields preceding the upload file were too large.",
        ),
        "MaxMessageLengthExceeded": (400, "Your request was too big."),
        "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
        "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
        "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
        "MissingRequestBodyError": (400, "Request Body is empty"),
        "NoSuchBucket": (404, "The specified bucket does not exist"),
        "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
        "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
        "NoSuchKey": (404, "The specified key does not exist."),
        "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
        "NoSuchObjectLockConfiguration": (
            404,
            "The specified object does not have a ObjectLock configuration",
        ),
        "NoSuchPublicAccessBlockConfiguration": (
            404,
            "The public access block configuration was not found",
        ),
        "NoSuchTagSet": (404, "The TagSet does not exist"),
        "NoSuchUpload": (
            404,
            (
                "The specified upload does not exist. The upload ID may be invalid, or the upload"
                " may have been aborted or completed."
            ),
        ),
        "NoSuchVersion": (404, "The specified version does not exist."),
        "NoSuchWebsiteConfiguration": (
            404,
            "The specified bucket does not have a website configuration",
        ),
        "NotImplemented": (
            501,
            "A header or query you provided requested a function that is not implemented.",
        ),
        "ObjectLockConfigurationNotFoundError": (
            404,
            "Object Lock configuration does not exist for this bucket",
        ),
        "OperationAborted": (
            409,
            (
                "A conflicting conditional operation is currently in progress against this "
                "resource. Please try again."
            ),
        ),
        "OwnershipControlsNotFoundError": (404, "The bucket ownership controls were not found"),
        "PreconditionFailed": (
            412,
            "At least one of the pre-conditions you specified did not hold",
        ),
        "QuotaExceeded": (403, "The bucket's quota does not allow so many bytes more."),
        "ReplicationConfigurationNotFoundError": (
            404,
            "The replication configuration was not found",
        ),
        "RequestHeaderSectionTooLarge": (
            400,
            "Your request header and query string parameters exceed the maximum allowed size.",
        ),
        "RequestTimeTooSkewed": (
            403,
            "The difference between the request time and the current time is too large.",
        ),
        "RequestTimeout": (
            400,
            (
                "Your socket connection to the server was not read from or written to within the "
                "timeout period."
            ),
        ),
        "ServerSideEncryptionConfigurationNotFoundError": (
            404,
            "The server side encryption configuration was not found",
        ),
        "ServiceUnavailable": (503, "Service is unable to handle request."),
        "SignatureDoesNotMatch": (
            403,
            (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            ),
        ),
        "SlowDown": (503, "Please reduce your request rate."),
        "TooManyBuckets": (400, "You have attempted to create more buckets than allowed"),
        "TooManyParts": (400, "You have attempted to upload more parts than allowed"),
        "UnexpectedContent": (400, "This request does not support content"),
        "UnresolvableGrantByEmailAddress": (
            400,
            "The e-mail address you provided does not match any account on record.",
        ),
        "XAmzContentChecksumMismatch": (
            400,
            "The provided 'x-amz-checksum' header does not match what was computed.",
        ),
        "XAmzContentSHA256Mismatch": (
            400,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
    }
)
