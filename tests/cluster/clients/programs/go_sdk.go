// AWS SDK for Go 2: objects, parts by the manager, ranges, conditions, listings, presigned links.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

var (
	ctx    = context.Background()
	bucket = aws.String("go-sdk")
	client *s3.Client
)

func check(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

func must[T any](value T, err error) T {
	check(err == nil, err)
	return value
}

func refused(code string, err error) {
	var refusal smithy.APIError
	check(errors.As(err, &refusal) && refusal.ErrorCode() == code, "not ", code, ": ", err)
}

func put(key string, body io.Reader) (*s3.PutObjectOutput, error) {
	return client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: body})
}

func read(key, part string) []byte {
	wanted := &s3.GetObjectInput{Bucket: bucket, Key: &key}
	if part != "" {
		wanted.Range = &part
	}
	return must(io.ReadAll(must(client.GetObject(ctx, wanted)).Body))
}

func parts(body []byte) {
	uploader := manager.NewUploader(client)
	stream := struct{ io.Reader }{bytes.NewReader(body)} // One that cannot seek.
	key := aws.String("parts")
	must(uploader.Upload(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: stream}))
	target := manager.NewWriteAtBuffer(nil)
	wanted := &s3.GetObjectInput{Bucket: bucket, Key: key}
	must(manager.NewDownloader(client).Download(ctx, target, wanted))
	check(bytes.Equal(target.Bytes(), body), "parts")
}

func conditions() {
	key, any := aws.String("once"), aws.String("*")
	once := func(none, match *string) (*s3.PutObjectOutput, error) {
		return client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: bucket, Key: key, Body: strings.NewReader("1"), IfNoneMatch: none, IfMatch: match,
		})
	}
	first := must(once(any, nil))
	_, err := once(any, nil)
	refused("PreconditionFailed", err)
	must(put("once", strings.NewReader("2")))
	_, err = once(nil, first.ETag)
	refused("PreconditionFailed", err)
}

func manyObjects() {
	objects := []types.ObjectIdentifier{}
	for number := range 20 {
		key := fmt.Sprintf("many/%02d <&>ünï", number)
		must(put(key, strings.NewReader(key)))
		objects = append(objects, types.ObjectIdentifier{Key: &key})
	}
	wanted := &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("many/"), MaxKeys: aws.Int32(7)}
	seen := 0
	for pages := s3.NewListObjectsV2Paginator(client, wanted); pages.HasMorePages(); {
		for _, each := range must(pages.NextPage(ctx)).Contents {
			check(*each.Key == *objects[seen].Key, *each.Key)
			seen++
		}
	}
	check(seen == 20, seen)
	all := &types.Delete{Objects: objects}
	gone := must(client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: all}))
	check(len(gone.Deleted) == 20 && len(gone.Errors) == 0, gone)
}

func links() {
	presigner, key := s3.NewPresignClient(client), aws.String("linked ünï")
	target := must(presigner.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key}))
	request := must(http.NewRequest(target.Method, target.URL, strings.NewReader("by a link")))
	sent := must(http.DefaultClient.Do(request))
	check(sent.StatusCode == 200, sent.Status)
	source := must(presigner.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key}))
	got := must(http.Get(source.URL))
	check(string(must(io.ReadAll(got.Body))) == "by a link", got.Status)
}

func main() {
	client = s3.NewFromConfig(must(config.LoadDefaultConfig(ctx)), func(options *s3.Options) {
		options.UsePathStyle = true
	})
	must(client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))
	body := make([]byte, 12<<20)
	rand.Read(body)
	must(put("large ünï+%", bytes.NewReader(body)))
	check(bytes.Equal(read("large ünï+%", ""), body), "large")
	check(bytes.Equal(read("large ünï+%", "bytes=1000-1099"), body[1000:1100]), "range")
	parts(body)
	conditions()
	manyObjects()
	links()
	none := aws.String("none")
	_, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: none})
	var noSuchKey *types.NoSuchKey
	check(errors.As(err, &noSuchKey), err)
	_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
	refused("BucketNotEmpty", err)
}
