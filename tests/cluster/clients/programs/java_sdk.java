// AWS SDK for Java 2: the synchronous and the asynchronous client, the transfer manager, the
// presigner.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.AsyncResponseTransformer;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3Configuration;
import software.amazon.awssdk.services.s3.model.*;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.transfer.s3.S3TransferManager;

class JavaSdk {
  static final String BUCKET = "java-sdk";
  static final int PART = 5 * 1024 * 1024;
  static final byte[] BODY = new byte[12 * 1024 * 1024];
  static final S3Client client = S3Client.create();

  public static void main(String[] arguments) throws Exception {
    new Random().nextBytes(BODY);
    client.createBucket(make -> make.bucket(BUCKET));
    client.waiter().waitUntilBucketExists(each -> each.bucket(BUCKET));
    bytesAndStreams();
    parts();
    asynchronously();
    transferManager();
    conditions();
    manyObjects();
    whatObjectsCarry();
    links();
    errors();
    for (S3Object each : client.listObjectsV2Paginator(l -> l.bucket(BUCKET)).contents())
      client.deleteObject(d -> d.bucket(BUCKET).key(each.key()));
    client.deleteBucket(d -> d.bucket(BUCKET));
  }

  static void bytesAndStreams() throws Exception {
    String key = "large ünï+%.bin";
    put(key, BODY);
    same(read(key), BODY);
    HeadObjectResponse head =
        client.headObject(h -> h.bucket(BUCKET).key(key).checksumMode(ChecksumMode.ENABLED));
    check(head.contentLength() == BODY.length && head.checksumCRC32() != null, head);
    RequestBody stream = RequestBody.fromInputStream(new ByteArrayInputStream(BODY), BODY.length);
    client.putObject(p -> p.bucket(BUCKET).key("stream"), stream);
    same(read("stream"), BODY);
    for (ChecksumAlgorithm each :
        List.of(ChecksumAlgorithm.SHA1, ChecksumAlgorithm.SHA256, ChecksumAlgorithm.CRC32_C)) {
      RequestBody again = RequestBody.fromInputStream(new ByteArrayInputStream(BODY), BODY.length);
      client.putObject(p -> p.bucket(BUCKET).key("summed").checksumAlgorithm(each), again);
      same(read("summed"), BODY);
    }
    byte[] some = readRange(key, "bytes=1000000-1000099");
    same(some, Arrays.copyOfRange(BODY, 1_000_000, 1_000_100));
    same(readRange(key, "bytes=-7"), Arrays.copyOfRange(BODY, BODY.length - 7, BODY.length));
    refused("InvalidRange", 416, () -> readRange(key, "bytes=99999999-"));
    put("empty", new byte[0]);
    same(read("empty"), new byte[0]);
  }

  static void parts() {
    String key = "parts";
    String upload = client.createMultipartUpload(c -> c.bucket(BUCKET).key(key)).uploadId();
    List<CompletedPart> parts =
        IntStream.rangeClosed(1, 3)
            .mapToObj(
                number -> {
                  int end = Math.min(number * PART, BODY.length);
                  byte[] part = Arrays.copyOfRange(BODY, (number - 1) * PART, end);
                  UploadPartResponse sent =
                      client.uploadPart(
                          u -> u.bucket(BUCKET).key(key).uploadId(upload).partNumber(number),
                          RequestBody.fromBytes(part));
                  return CompletedPart.builder().partNumber(number).eTag(sent.eTag()).build();
                })
            .toList();
    int listed = client.listParts(l -> l.bucket(BUCKET).key(key).uploadId(upload)).parts().size();
    check(listed == 3, listed);
    CompleteMultipartUploadResponse done =
        client.completeMultipartUpload(
            c -> c.bucket(BUCKET).key(key).uploadId(upload).multipartUpload(m -> m.parts(parts)));
    check(done.eTag().endsWith("-3\""), done);
    same(read(key), BODY);
    String left = client.createMultipartUpload(c -> c.bucket(BUCKET).key("left")).uploadId();
    client.abortMultipartUpload(a -> a.bucket(BUCKET).key("left").uploadId(left));
    refused(
        NoSuchUploadException.class,
        404,
        () -> client.abortMultipartUpload(a -> a.bucket(BUCKET).key("left").uploadId("none")));
  }

  static void asynchronously() {
    ExecutorService threads = Executors.newSingleThreadExecutor();
    try (S3AsyncClient async = S3AsyncClient.builder().multipartEnabled(true).build()) {
      String key = "asynchronous";
      ByteArrayInputStream unknown = new ByteArrayInputStream(BODY);
      AsyncRequestBody body = AsyncRequestBody.fromInputStream(unknown, null, threads);
      async.putObject(p -> p.bucket(BUCKET).key(key), body).join();
      same(read(key), BODY);
      var got =
          async.getObject(g -> g.bucket(BUCKET).key(key), AsyncResponseTransformer.toBytes()).join();
      same(got.asByteArray(), BODY);
    } finally {
      threads.shutdown();
    }
  }

  static void transferManager() throws Exception {
    Path source = Files.createTempFile("java-sdk", ".bin");
    Path target = Files.createTempFile("java-sdk", ".bin");
    try (S3TransferManager transfers = S3TransferManager.create()) {
      Files.write(source, BODY);
      var up = transfers.uploadFile(u -> u.source(source).putObjectRequest(p -> p.bucket(BUCKET).key("file")));
      up.completionFuture().join();
      var down =
          transfers.downloadFile(
              d -> d.destination(target).getObjectRequest(g -> g.bucket(BUCKET).key("file")));
      down.completionFuture().join();
      same(Files.readAllBytes(target), BODY);
      var copy =
          transfers.copy(
              c ->
                  c.copyObjectRequest(
                      r ->
                          r.sourceBucket(BUCKET)
                              .sourceKey("file")
                              .destinationBucket(BUCKET)
                              .destinationKey("file copy")));
      copy.completionFuture().join();
      same(read("file copy"), BODY);
    } finally {
      Files.delete(source);
      Files.delete(target);
    }
  }

  static void conditions() {
    RequestBody body = RequestBody.fromString("1");
    String key = "once";
    String first =
        client.putObject(p -> p.bucket(BUCKET).key(key).ifNoneMatch("*"), body).eTag();
    refused(
        "PreconditionFailed",
        412,
        () -> client.putObject(p -> p.bucket(BUCKET).key(key).ifNoneMatch("*"), body));
    RequestBody other = RequestBody.fromString("2");
    client.putObject(p -> p.bucket(BUCKET).key(key).ifMatch(first), other);
    refused(
        "PreconditionFailed",
        412,
        () -> client.putObject(p -> p.bucket(BUCKET).key(key).ifMatch(first), body));
    same(read(key), "2".getBytes());
  }

  static void manyObjects() {
    List<String> keys = IntStream.range(0, 50).mapToObj(n -> "many/%02d <&>\"😀".formatted(n)).toList();
    for (String key : keys) put(key, key.getBytes());
    var pages = client.listObjectsV2Paginator(l -> l.bucket(BUCKET).prefix("many/").maxKeys(7));
    check(pages.contents().stream().map(S3Object::key).toList().equals(keys), "listed");
    var folders = client.listObjectsV2(l -> l.bucket(BUCKET).delimiter("/").prefix("m"));
    check(folders.commonPrefixes().get(0).prefix().equals("many/"), folders);
    List<ObjectIdentifier> all =
        keys.stream().map(key -> ObjectIdentifier.builder().key(key).build()).toList();
    var gone = client.deleteObjects(d -> d.bucket(BUCKET).delete(o -> o.objects(all)));
    check(gone.deleted().size() == 50 && gone.errors().isEmpty(), gone);
    check(client.listObjectsV2(l -> l.bucket(BUCKET).prefix("many/")).keyCount() == 0, "gone");
  }

  static void whatObjectsCarry() {
    String key = "carried";
    List<Tag> tags =
        List.of(
            Tag.builder().key("two").value("").build(),
            Tag.builder().key("ünï").value("a+b").build());
    client.putObject(
        p -> p.bucket(BUCKET).key(key).metadata(Map.of("Upper", "b c")).tagging("first=1"),
        RequestBody.fromString("1"));
    client.putObjectTagging(p -> p.bucket(BUCKET).key(key).tagging(t -> t.tagSet(tags)));
    check(client.getObjectTagging(g -> g.bucket(BUCKET).key(key)).tagSet().equals(tags), tags);
    client.copyObject(
        c -> c.sourceBucket(BUCKET).sourceKey(key).destinationBucket(BUCKET).destinationKey("cöpy +"));
    HeadObjectResponse copy = client.headObject(h -> h.bucket(BUCKET).key("cöpy +"));
    check(copy.metadata().equals(Map.of("upper", "b c")), copy);
    word(key, "grün");
    String kept = client.headObject(h -> h.bucket(BUCKET).key(key)).metadata().get("word");
    check(kept.equals("=?UTF-8?B?Z3LDvG4=?="), kept);
    // It signs these letters and sends question marks: refused, not stored as something else.
    refused("SignatureDoesNotMatch", 403, () -> word(key, "日本"));
  }

  static void word(String key, String word) {
    client.putObject(
        p -> p.bucket(BUCKET).key(key).metadata(Map.of("word", word)), RequestBody.empty());
  }

  static void links() throws Exception {
    HttpClient http = HttpClient.newHttpClient();
    try (S3Presigner presigner = S3Presigner.create()) {
      String key = "linked ünï";
      Duration soon = Duration.ofMinutes(1);
      var put =
          presigner.presignPutObject(
              p -> p.signatureDuration(soon).putObjectRequest(r -> r.bucket(BUCKET).key(key)));
      var body = HttpRequest.BodyPublishers.ofString("by a link");
      var sent =
          http.send(
              HttpRequest.newBuilder(put.url().toURI()).PUT(body).build(), BodyHandlers.ofString());
      check(sent.statusCode() == 200, sent.body());
      var get =
          presigner.presignGetObject(
              p -> p.signatureDuration(soon).getObjectRequest(r -> r.bucket(BUCKET).key(key)));
      String url = get.url().toString();
      var got = http.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofString());
      check(got.body().equals("by a link"), got.body());
      HttpRequest forged = HttpRequest.newBuilder(URI.create(url.replace("linked", "other"))).build();
      check(http.send(forged, BodyHandlers.ofString()).statusCode() == 403, url);
    }
  }

  static void errors() {
    refused(NoSuchKeyException.class, 404, () -> read("none"));
    refused(NoSuchKeyException.class, 404, () -> client.headObject(h -> h.bucket(BUCKET).key("none")));
    refused(
        NoSuchBucketException.class, 404, () -> client.listObjectsV2(l -> l.bucket("none-of-mine")));
    refused("BucketNotEmpty", 409, () -> client.deleteBucket(d -> d.bucket(BUCKET)));
  }

  static void put(String key, byte[] body) {
    client.putObject(p -> p.bucket(BUCKET).key(key), RequestBody.fromBytes(body));
  }

  static byte[] read(String key) {
    return client.getObjectAsBytes(g -> g.bucket(BUCKET).key(key)).asByteArray();
  }

  static byte[] readRange(String key, String range) {
    return client.getObjectAsBytes(g -> g.bucket(BUCKET).key(key).range(range)).asByteArray();
  }

  static void same(byte[] one, byte[] other) {
    check(Arrays.equals(one, other), one.length + " and " + other.length + " bytes differ");
  }

  static void check(boolean holds, Object what) {
    if (!holds) throw new AssertionError(what);
  }

  static void refused(String code, int status, Runnable call) {
    try {
      call.run();
    } catch (S3Exception error) {
      String got = error.awsErrorDetails().errorCode();
      check(got.equals(code) && error.statusCode() == status, error);
      return;
    }
    throw new AssertionError("no " + code);
  }

  static void refused(Class<? extends S3Exception> kind, int status, Runnable call) {
    try {
      call.run();
    } catch (S3Exception error) {
      check(kind.isInstance(error) && error.statusCode() == status, error);
      return;
    }
    throw new AssertionError("no " + kind);
  }
}
