// AWS SDK for Java 1, which Hadoop, Spark and Flink bring: seeks, streams, parts, listings, links.

import com.amazonaws.HttpMethod;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.s3.AmazonS3;
import com.amazonaws.services.s3.AmazonS3ClientBuilder;
import com.amazonaws.services.s3.model.*;
import com.amazonaws.services.s3.transfer.TransferManager;
import com.amazonaws.services.s3.transfer.TransferManagerBuilder;
import com.amazonaws.util.IOUtils;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URL;
import java.net.URLConnection;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Random;

class JavaSdk1 {
  static final String BUCKET = "java-sdk-1";
  static final byte[] BODY = new byte[12 * 1024 * 1024];
  static final AmazonS3 client =
      AmazonS3ClientBuilder.standard()
          .withEndpointConfiguration(
              new EndpointConfiguration(
                  System.getenv("AWS_ENDPOINT_URL"), System.getenv("AWS_REGION")))
          .withPathStyleAccessEnabled(true)
          .build();

  public static void main(String[] arguments) throws Exception {
    new Random().nextBytes(BODY);
    client.createBucket(BUCKET);
    put("large ünï+%", BODY);
    same(read(new GetObjectRequest(BUCKET, "large ünï+%")), BODY);
    seeks();
    transfers();
    listsAndDeletes();
    linksAndErrors();
    client.deleteBucket(BUCKET);
  }

  /** It says where to begin, and for the end the largest number that it has. */
  static void seeks() throws IOException {
    int start = BODY.length - 1000;
    GetObjectRequest rest = new GetObjectRequest(BUCKET, "large ünï+%").withRange(start);
    check(rest.getRange()[1] > Integer.MAX_VALUE, rest);
    S3Object answer = client.getObject(rest);
    check(answer.getObjectMetadata().getContentLength() == 1000, answer);
    same(IOUtils.toByteArray(answer.getObjectContent()), Arrays.copyOfRange(BODY, start, BODY.length));
    GetObjectRequest some = new GetObjectRequest(BUCKET, "large ünï+%").withRange(5, 9);
    same(read(some), Arrays.copyOfRange(BODY, 5, 10));
    GetObjectRequest past = new GetObjectRequest(BUCKET, "large ünï+%").withRange(BODY.length);
    refused("InvalidRange", 416, () -> client.getObject(past));
  }

  static void transfers() throws Exception {
    TransferManager transfers =
        TransferManagerBuilder.standard()
            .withS3Client(client)
            .withMinimumUploadPartSize(5L << 20)
            .withMultipartUploadThreshold(5L << 20)
            .withMultipartCopyThreshold(5L << 20)
            .withMultipartCopyPartSize(5L << 20)
            .build();
    ObjectMetadata metadata = new ObjectMetadata();
    metadata.setContentLength(BODY.length);
    metadata.addUserMetadata("Upper", "b c");
    try {
      transfers
          .upload(BUCKET, "parts", new ByteArrayInputStream(BODY), metadata)
          .waitForUploadResult();
      same(read(new GetObjectRequest(BUCKET, "parts")), BODY);
      transfers.copy(BUCKET, "parts", BUCKET, "cöpy").waitForCopyResult();
    } finally {
      transfers.shutdownNow(false); // Its threads would keep a program that failed from ending.
    }
    same(read(new GetObjectRequest(BUCKET, "cöpy")), BODY);
    String word = client.getObjectMetadata(BUCKET, "parts").getUserMetaDataOf("upper");
    check("b c".equals(word), word);
    String etag = client.getObjectMetadata(BUCKET, "cöpy").getETag();
    check(etag.endsWith("-3"), etag);
  }

  static void listsAndDeletes() {
    for (int number = 0; number < 20; number++) put("many/%02d <&>".formatted(number), new byte[1]);
    ListObjectsV2Request request = new ListObjectsV2Request().withBucketName(BUCKET).withMaxKeys(7);
    int seen = 0;
    ListObjectsV2Result page;
    do {
      page = client.listObjectsV2(request);
      seen += page.getObjectSummaries().size();
      request.setContinuationToken(page.getNextContinuationToken());
    } while (page.isTruncated());
    check(seen == 23, seen);
    ObjectListing old = client.listObjects(BUCKET, "many/");
    String[] keys =
        old.getObjectSummaries().stream().map(S3ObjectSummary::getKey).toArray(String[]::new);
    check(keys.length == 20 && keys[7].equals("many/07 <&>"), keys.length);
    var gone = client.deleteObjects(new DeleteObjectsRequest(BUCKET).withKeys(keys));
    check(gone.getDeletedObjects().size() == 20, gone);
    List.of("large ünï+%", "parts", "cöpy").forEach(key -> client.deleteObject(BUCKET, key));
  }

  static void linksAndErrors() throws IOException {
    put("linked", "by a link".getBytes());
    Date soon = new Date(System.currentTimeMillis() + 60_000);
    URL url = client.generatePresignedUrl(BUCKET, "linked", soon, HttpMethod.GET);
    URLConnection connection = url.openConnection();
    same(IOUtils.toByteArray(connection.getInputStream()), "by a link".getBytes());
    refused("BucketNotEmpty", 409, () -> client.deleteBucket(BUCKET));
    client.deleteObject(BUCKET, "linked");
    refused("NoSuchKey", 404, () -> client.getObject(BUCKET, "linked"));
    check(!client.doesObjectExist(BUCKET, "linked"), "exists");
    check(!client.doesBucketExistV2("none-of-mine"), "exists");
    refused("NoSuchBucket", 404, () -> client.listObjectsV2("none-of-mine"));
  }

  static void put(String key, byte[] body) {
    ObjectMetadata metadata = new ObjectMetadata();
    metadata.setContentLength(body.length);
    client.putObject(BUCKET, key, new ByteArrayInputStream(body), metadata);
  }

  static byte[] read(GetObjectRequest request) throws IOException {
    try (S3Object answer = client.getObject(request)) {
      return IOUtils.toByteArray(answer.getObjectContent());
    }
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
    } catch (AmazonS3Exception error) {
      check(error.getErrorCode().equals(code) && error.getStatusCode() == status, error);
      return;
    }
    throw new AssertionError("no " + code);
  }
}
