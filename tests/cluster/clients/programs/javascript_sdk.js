// AWS SDK for JavaScript 3: objects, streams, parts, conditions, listings, presigned links, errors.

const assert = require("node:assert/strict");
const { randomBytes } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { Readable } = require("node:stream");
const s3 = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const Bucket = "javascript-sdk";
const client = new s3.S3Client();
const body = randomBytes(12 * 1024 * 1024);

const send = (Command, parameters) => client.send(new Command({ Bucket, ...parameters }));
const refused = (name, status, Command, parameters) =>
  assert.rejects(send(Command, parameters), (error) => {
    assert.deepEqual([error.name, error.$metadata.httpStatusCode], [name, status]);
    return true;
  });
const read = async (Key, parameters) => {
  const answer = await send(s3.GetObjectCommand, { Key, ...parameters });
  return Buffer.from(await answer.Body.transformToByteArray());
};

async function bytesAndStreams(directory) {
  const Key = "large ünï+%.bin";
  await send(s3.PutObjectCommand, { Key, Body: body, ContentType: "image/x-own" });
  assert.ok((await read(Key)).equals(body));
  const head = await send(s3.HeadObjectCommand, { Key, ChecksumMode: "ENABLED" });
  assert.equal(head.ContentLength, body.length);
  assert.equal(head.ContentType, "image/x-own");
  assert.ok(head.ChecksumCRC32);

  const file = path.join(directory, "large.bin");
  fs.writeFileSync(file, body);
  await send(s3.PutObjectCommand, { Key: "stream", Body: fs.createReadStream(file) });
  for (const ChecksumAlgorithm of ["CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
    const Body = fs.createReadStream(file);
    await send(s3.PutObjectCommand, { Key: ChecksumAlgorithm, Body, ChecksumAlgorithm });
    assert.ok((await read(ChecksumAlgorithm, { ChecksumMode: "ENABLED" })).equals(body));
  }
  const answer = await send(s3.GetObjectCommand, { Key: "stream" });
  const pieces = [];
  for await (const piece of answer.Body) pieces.push(piece);
  assert.ok(Buffer.concat(pieces).equals(body));

  assert.ok((await read(Key, { Range: "bytes=1000000-1000099" })).equals(body.subarray(1e6, 1e6 + 100)));
  assert.ok((await read(Key, { Range: "bytes=-7" })).equals(body.subarray(-7)));
  await refused("InvalidRange", 416, s3.GetObjectCommand, { Key, Range: "bytes=99999999-" });
  await send(s3.PutObjectCommand, { Key: "empty" });
  assert.equal((await read("empty")).length, 0);
}

async function parts() {
  const Key = "parts";
  const Body = Readable.from((function* () {
    for (let at = 0; at < body.length; at += 1_000_003) yield body.subarray(at, at + 1_000_003);
  })());
  const upload = new Upload({ client, params: { Bucket, Key, Body }, partSize: 5 * 1024 * 1024 });
  const done = await upload.done();
  assert.match(done.ETag, /^"[0-9a-f]{32}-3"$/);
  assert.ok((await read(Key)).equals(body));
  const attributes = await send(s3.GetObjectAttributesCommand, {
    Key,
    ObjectAttributes: ["ETag", "ObjectSize", "ObjectParts"],
  });
  assert.equal(attributes.ObjectSize, body.length);
  assert.equal(attributes.ObjectParts.TotalPartsCount, 3);
  const second = await send(s3.GetObjectCommand, { Key, PartNumber: 2 });
  assert.equal(second.ContentLength, 5 * 1024 * 1024);
  await second.Body.transformToByteArray();

  const { UploadId } = await send(s3.CreateMultipartUploadCommand, { Key: "left" });
  await send(s3.UploadPartCommand, { Key: "left", UploadId, PartNumber: 1, Body: "part" });
  assert.equal((await send(s3.ListPartsCommand, { Key: "left", UploadId })).Parts.length, 1);
  await send(s3.AbortMultipartUploadCommand, { Key: "left", UploadId });
  await refused("NoSuchUpload", 404, s3.ListPartsCommand, { Key: "left", UploadId });
}

async function conditions() {
  const Key = "once";
  const first = await send(s3.PutObjectCommand, { Key, Body: "1", IfNoneMatch: "*" });
  const again = { Key, Body: "2", IfNoneMatch: "*" };
  await refused("PreconditionFailed", 412, s3.PutObjectCommand, again);
  const second = await send(s3.PutObjectCommand, { Key, Body: "2", IfMatch: first.ETag });
  const late = { Key, Body: "3", IfMatch: first.ETag };
  await refused("PreconditionFailed", 412, s3.PutObjectCommand, late);
  assert.equal((await read(Key)).toString(), "2");
  const unchanged = send(s3.GetObjectCommand, { Key, IfNoneMatch: second.ETag });
  await assert.rejects(unchanged, (error) => error.$metadata.httpStatusCode === 304);
}

async function manyObjects() {
  const keys = Array.from({ length: 50 }, (_, n) => `many/${n} <&>"\u{1f600}`).sort();
  await Promise.all(keys.map((Key) => send(s3.PutObjectCommand, { Key, Body: Key })));
  const seen = [];
  const pages = s3.paginateListObjectsV2({ client, pageSize: 7 }, { Bucket, Prefix: "many/" });
  for await (const page of pages) {
    assert.ok(page.Contents.length <= 7);
    seen.push(...page.Contents.map((each) => each.Key));
  }
  assert.deepEqual(seen.sort(), keys);
  const folders = await send(s3.ListObjectsV2Command, { Delimiter: "/", Prefix: "m" });
  assert.deepEqual(folders.CommonPrefixes, [{ Prefix: "many/" }]);
  const Delete = { Objects: keys.map((Key) => ({ Key })) };
  const gone = await send(s3.DeleteObjectsCommand, { Delete });
  assert.deepEqual([gone.Deleted.length, gone.Errors], [50, undefined]);
  assert.equal((await send(s3.ListObjectsV2Command, { Prefix: "many/" })).KeyCount, 0);
}

async function whatObjectsCarry() {
  const Key = "carried";
  const TagSet = [{ Key: "ünï", Value: "a+b" }, { Key: "two", Value: "" }];
  await send(s3.PutObjectCommand, {
    Key,
    Body: "1",
    Metadata: { lower: "a", Upper: "b c" },
    Tagging: "first=1",
  });
  assert.deepEqual((await send(s3.GetObjectTaggingCommand, { Key })).TagSet, [
    { Key: "first", Value: "1" },
  ]);
  await send(s3.PutObjectTaggingCommand, { Key, Tagging: { TagSet } });
  const tags = (await send(s3.GetObjectTaggingCommand, { Key })).TagSet;
  const byKey = (one, other) => (one.Key < other.Key ? -1 : 1);
  assert.deepEqual(tags.sort(byKey), TagSet.sort(byKey));
  const CopySource = `${Bucket}/${Key}`;
  await send(s3.CopyObjectCommand, { Key: "a/cöpy", CopySource });
  const copy = await send(s3.HeadObjectCommand, { Key: "a/cöpy" });
  assert.deepEqual(copy.Metadata, { lower: "a", upper: "b c" });
  const source = `${Bucket}/${encodeURIComponent("a/cöpy")}`;
  await send(s3.CopyObjectCommand, { Key, CopySource: source });
  await send(s3.PutObjectCommand, { Key, Body: "1", Metadata: { word: "grün" } });
  const { Metadata } = await send(s3.HeadObjectCommand, { Key });
  assert.deepEqual(Metadata, { word: "=?UTF-8?B?Z3LDvG4=?=" });
  const Body = "refused by the client itself";
  const unsendable = send(s3.PutObjectCommand, { Key, Body, Metadata: { word: "日本" } });
  await assert.rejects(unsendable, { code: "ERR_INVALID_CHAR" });
}

async function links() {
  const Key = "linked ünï";
  const link = (Command, parameters) =>
    getSignedUrl(client, new Command({ Bucket, Key, ...parameters }), { expiresIn: 60 });
  const put = await fetch(await link(s3.PutObjectCommand), { method: "PUT", body: "by a link" });
  assert.equal(put.status, 200, await put.text());
  const url = await link(s3.GetObjectCommand, { ResponseContentType: "text/x-own" });
  const got = await fetch(url);
  assert.equal(await got.text(), "by a link");
  assert.equal(got.headers.get("content-type"), "text/x-own");

  const { UploadId } = await send(s3.CreateMultipartUploadCommand, { Key });
  const Parts = [];
  for (const PartNumber of [1, 2]) {
    const target = await link(s3.UploadPartCommand, { UploadId, PartNumber });
    const part = body.subarray(0, 5 * 1024 * 1024);
    const sent = await fetch(target, { method: "PUT", body: part });
    assert.equal(sent.status, 200, await sent.text());
    Parts.push({ PartNumber, ETag: sent.headers.get("etag") });
  }
  const all = { Key, UploadId, MultipartUpload: { Parts } };
  await send(s3.CompleteMultipartUploadCommand, all);
  assert.equal((await read(Key)).length, 10 * 1024 * 1024);
  const forged = await fetch(url.replace("linked", "other"));
  assert.equal(forged.status, 403);
  assert.match(await forged.text(), /<Code>SignatureDoesNotMatch<\/Code>/);
}

async function errors() {
  await refused("NoSuchKey", 404, s3.GetObjectCommand, { Key: "none" });
  await refused("NotFound", 404, s3.HeadObjectCommand, { Key: "none" });
  await refused("NoSuchBucket", 404, s3.ListObjectsV2Command, { Bucket: "none-of-mine" });
  await refused("BucketNotEmpty", 409, s3.DeleteBucketCommand, {});
  const other = new s3.S3Client({ credentials: { accessKeyId: "none", secretAccessKey: "none" } });
  const listed = other.send(new s3.ListBucketsCommand());
  await assert.rejects(listed, { name: "InvalidAccessKeyId" });
}

async function main() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "javascript-sdk-"));
  try {
    await send(s3.CreateBucketCommand);
    await s3.waitUntilBucketExists({ client, maxWaitTime: 10 }, { Bucket });
    await bytesAndStreams(directory);
    await parts();
    await conditions();
    await manyObjects();
    await whatObjectsCarry();
    await links();
    await errors();
    const { Contents } = await send(s3.ListObjectsV2Command);
    const Objects = Contents.map(({ Key }) => ({ Key }));
    await send(s3.DeleteObjectsCommand, { Delete: { Objects } });
    await send(s3.DeleteBucketCommand);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

main();
