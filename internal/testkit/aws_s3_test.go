package testkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const s3Account = "999988887777"

// s3Client returns the real client with these keys, which asks only once.
func s3Client(a *AWS, region, id, secret, token string) *s3.Client {
	return s3.NewFromConfig(aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider(id, secret, token), RetryMaxAttempts: 1},
		func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = aws.String(a.Endpoints()["s3"]), true })
}

// serviceS3 returns the client of the service's own identity.
func serviceS3(a *AWS, region string) *s3.Client {
	id, secret := a.Service()
	return s3Client(a, region, id, secret, "")
}

// sessionS3 returns the client of a session that a policy narrows.
func sessionS3(t *testing.T, a *AWS, policy string) *s3.Client {
	t.Helper()
	a.Role(runRole, RoleOptions{Trusts: []string{userARN}})
	k := assumeRole(t, serviceSTS(a), &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("run"), Policy: aws.String(policy)})
	return s3Client(a, "us-east-1", *k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
}

func put(ctx context.Context, c *s3.Client, key, text string, set ...func(*s3.PutObjectInput)) error {
	in := &s3.PutObjectInput{Bucket: aws.String("states"), Key: &key, Body: strings.NewReader(text)}
	for _, f := range set {
		f(in)
	}
	_, err := c.PutObject(ctx, in)
	return err
}

func get(ctx context.Context, c *s3.Client, key string) (string, error) {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("states"), Key: &key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	return string(text), err
}

func TestAWSObjects(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	c := serviceS3(a, "us-east-1")
	a.CreateBucket("states", "", "")
	a.PutObject("states", "by hand", []byte("x"))
	key := "with space/ü+=&?.tfstate"
	if err := put(ctx, c, key, "text"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(ctx, c, key); err != nil || got != "text" {
		t.Errorf("get = %q, %v", got, err)
	}
	// Overwritten by a client that sends no checksum: the old one must not stay.
	if err := put(ctx, c, key, "other", func(in *s3.PutObjectInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256 }); err != nil {
		t.Fatal(err)
	}
	if got, err := get(ctx, c, key); err != nil || got != "other" {
		t.Errorf("get = %q, %v", got, err)
	}
	if got, ok := a.Object("states", key); !ok || string(got) != "other" {
		t.Errorf("Object = %q, %v", got, ok)
	}
	if _, ok := a.Object("states", "other"); ok {
		t.Error("Object gives one that is not there")
	}
	list, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("states"), Prefix: aws.String("with")})
	if err != nil || len(list.Contents) != 1 || *list.Contents[0].Key != key {
		t.Errorf("list = %+v, %v", list, err)
	}
	if got := a.Objects("states"); !reflect.DeepEqual(got, []string{"by hand", key}) {
		t.Errorf("Objects = %q", got)
	}
	if _, err := get(ctx, c, "nothing"); errorCode(err) != "NoSuchKey" {
		t.Errorf("get of nothing: %v", err)
	}
}

// TestAWSConditions holds what lockfiles rest on.
func TestAWSConditions(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	c := serviceS3(a, "us-east-1")
	a.CreateBucket("states", "", "")
	fresh := func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }
	won := make(chan error, 8)
	for i := range cap(won) {
		go func() { won <- put(ctx, c, "k.tflock", fmt.Sprint(i), fresh) }()
	}
	codes := map[string]int{}
	for range cap(won) {
		codes[errorCode(<-won)]++
	}
	if codes[""] != 1 || codes["PreconditionFailed"] != cap(won)-1 {
		t.Errorf("%d writers of one lockfile: %v", cap(won), codes)
	}
	head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("states"), Key: aws.String("k.tflock")})
	if err != nil {
		t.Fatal(err)
	}
	remove := func(etag *string) string {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("states"), Key: aws.String("k.tflock"), IfMatch: etag})
		return errorCode(err)
	}
	if code := remove(aws.String(`"00000000000000000000000000000000"`)); code != "PreconditionFailed" {
		t.Errorf("deleting another: code %q", code)
	}
	if code := remove(head.ETag); code != "" {
		t.Errorf("deleting it: code %q", code)
	}
	if code := remove(head.ETag); code != "NoSuchKey" {
		t.Errorf("deleting it again: code %q", code)
	}
	if err := put(ctx, c, "k.tflock", "again", fresh); err != nil {
		t.Error(err)
	}
}

// TestAWSNarrowsSessions holds what a session policy lets through.
func TestAWSNarrowsSessions(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	a.CreateBucket("states", "", "")
	a.PutObject("states", "two", []byte("secret"))
	c := sessionS3(t, a, onlyKey1)
	noList := sessionS3(t, a, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::states/*"}}`)
	prefixed := sessionS3(t, a, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::states/*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::states","Condition":{"StringEquals":{"s3:prefix":["one","env:/"]}}}]}`)
	ifExists := sessionS3(t, a, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::states/*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::states","Condition":{"StringEqualsIfExists":{"s3:prefix":["one","env:/"]}}}]}`)
	read := func(c *s3.Client, key string) string { _, err := get(ctx, c, key); return errorCode(err) }
	list := func(c *s3.Client, prefix *string) string {
		_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("states"), Prefix: prefix})
		return errorCode(err)
	}
	for name, got := range map[string][2]string{
		"own, not there yet":             {read(c, "one"), "NoSuchKey"},
		"own, written":                   {errorCode(put(ctx, c, "one", "x")), ""},
		"another's":                      {read(c, "two"), "AccessDenied"},
		"another's, written":             {errorCode(put(ctx, c, "two", "x")), "AccessDenied"},
		"not there, may not list":        {read(noList, "nothing"), "AccessDenied"},
		"not there, may list prefixes":   {read(prefixed, "nothing"), "AccessDenied"},
		"not there, may list if exists":  {read(ifExists, "nothing"), "NoSuchKey"},
		"list the prefix":                {list(prefixed, aws.String("env:/")), ""},
		"list another prefix":            {list(prefixed, aws.String("two")), "AccessDenied"},
		"list all":                       {list(prefixed, nil), "AccessDenied"},
		"list another prefix, if exists": {list(ifExists, aws.String("two")), "AccessDenied"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: code %q, want %q", name, got[0], got[1])
		}
	}
	want := AWSRequest{Service: "s3", Operation: "GetObject", Action: "GetObject", Resource: "arn:aws:s3:::states/two",
		Principal: "arn:aws:sts::111122223333:assumed-role/WaymarkRun/run", Region: "us-east-1", Err: "AccessDenied"}
	for _, r := range a.Requests() {
		if r == want {
			return
		}
	}
	t.Errorf("the refused read is not recorded: %+v", a.Requests())
}

// TestAWSBuckets plays owners and Regions.
func TestAWSBuckets(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	a.CreateBucket("taken", "", s3Account)
	a.CreateBucket("open", "", s3Account)
	a.CreateBucket("states", "eu-central-1", "")
	east, west := serviceS3(a, "us-east-1"), serviceS3(a, "eu-central-1")
	id, secret := a.Principal("arn:aws:iam::" + s3Account + ":user/other")
	if _, err := s3Client(a, "us-east-1", id, secret, "").PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String("open"),
		Policy: aws.String(`{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"s3:*","Resource":["arn:aws:s3:::open","arn:aws:s3:::open/*"]}}`)}); err != nil {
		t.Fatal(err)
	}
	create := func(c *s3.Client, name, region string) string {
		in := &s3.CreateBucketInput{Bucket: &name}
		if region != "" {
			in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
		}
		_, err := c.CreateBucket(ctx, in)
		return errorCode(err)
	}
	head := func(c *s3.Client, name, owner string) string {
		in := &s3.HeadBucketInput{Bucket: &name}
		if owner != "" {
			in.ExpectedBucketOwner = &owner
		}
		_, err := c.HeadBucket(ctx, in)
		return errorCode(err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"new", create(east, "new", ""), ""},
		{"again, us-east-1", create(east, "new", ""), ""},
		{"elsewhere", create(west, "new-eu", "eu-central-1"), ""},
		{"again, elsewhere", create(west, "new-eu", "eu-central-1"), "BucketAlreadyOwnedByYou"},
		{"no Region", create(west, "other", ""), "IllegalLocationConstraintException"},
		{"wrong Region", create(west, "other", "eu-west-1"), "IllegalLocationConstraintException"},
		{"us-east-1 named", create(east, "other", "us-east-1"), "InvalidLocationConstraint"},
		{"another's name", create(east, "taken", ""), "BucketAlreadyExists"},
		{"bad name", create(east, "No", ""), "InvalidBucketName"},
		{"head", head(east, "new", ""), ""},
		{"head, owner right", head(east, "new", AWSAccount), ""},
		{"head, owner wrong", head(east, "new", s3Account), "Forbidden"},
		{"head of another's", head(east, "taken", ""), "Forbidden"},
		{"head of another's, let in", head(east, "open", ""), ""},
		{"head of another's, expected to be ours", head(east, "open", AWSAccount), "Forbidden"},
		{"head of nothing", head(east, "nothing", ""), "NotFound"},
	} {
		if c.got != c.want {
			t.Errorf("%s: code %q, want %q", c.name, c.got, c.want)
		}
	}
	if _, err := get(ctx, east, "k"); errorCode(err) != "PermanentRedirect" {
		t.Errorf("a bucket of another Region: %v", err)
	}
	if at, err := east.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String("states")}); err != nil || at.LocationConstraint != "eu-central-1" {
		t.Errorf("location = %+v, %v", at, err)
	}
	list, err := west.ListBuckets(ctx, nil)
	if err != nil || len(list.Buckets) != 3 {
		t.Errorf("own buckets: %+v, %v", list, err)
	}
	if want := []string{"new", "new-eu", "open", "states", "taken"}; !reflect.DeepEqual(a.Buckets(), want) {
		t.Errorf("Buckets = %q, want %q", a.Buckets(), want)
	}
}

// TestAWSBucketSettings holds what new buckets have, what is kept, and what is
// answered where nothing is.
func TestAWSBucketSettings(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	a.CreateBucket("states", "", "")
	c, b := serviceS3(a, "us-east-1"), aws.String("states")

	encryption, err := c.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: b})
	if err != nil || encryption.ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm != types.ServerSideEncryptionAes256 {
		t.Errorf("encryption of a new bucket: %+v, %v", encryption, err)
	}
	block, err := c.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: b})
	if err != nil || !*block.PublicAccessBlockConfiguration.BlockPublicPolicy {
		t.Errorf("public access to a new bucket: %+v, %v", block, err)
	}
	logging, err := c.GetBucketLogging(ctx, &s3.GetBucketLoggingInput{Bucket: b})
	if err != nil || logging.LoggingEnabled != nil {
		t.Errorf("logging of a new bucket: %+v, %v", logging, err)
	}
	versioning, err := c.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b})
	if err != nil || versioning.Status != "" {
		t.Errorf("versioning of a new bucket: %+v, %v", versioning, err)
	}
	absent := func() map[string]string {
		_, policy := c.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: b})
		_, lifecycle := c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b})
		_, tags := c.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: b})
		_, block := c.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: b})
		_, owner := c.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: b})
		return map[string]string{"policy": errorCode(policy), "lifecycle": errorCode(lifecycle), "tags": errorCode(tags), "block": errorCode(block), "owner": errorCode(owner)}
	}
	if got, want := absent(), map[string]string{"policy": "NoSuchBucketPolicy", "lifecycle": "NoSuchLifecycleConfiguration", "tags": "NoSuchTagSet", "block": "", "owner": ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("codes of a new bucket: %v, want %v", got, want)
	}
	for _, err := range putSettings(ctx, c, b) {
		if err != nil {
			t.Error(err)
		}
	}
	if got, want := absent(), map[string]string{"policy": "", "lifecycle": "", "tags": "", "block": "", "owner": ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("codes after all is set: %v, want none", got)
	}
	lifecycle, err := c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b})
	if err != nil || *lifecycle.Rules[0].ID != "old" || *lifecycle.Rules[0].NoncurrentVersionExpiration.NoncurrentDays != 30 {
		t.Errorf("lifecycle = %+v, %v", lifecycle, err)
	}
	if versioning, err = c.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b}); err != nil || versioning.Status != types.BucketVersioningStatusEnabled {
		t.Errorf("versioning = %+v, %v", versioning, err)
	}
	removeSettings(ctx, t, c, b)
	if got, want := absent(), map[string]string{"policy": "NoSuchBucketPolicy", "lifecycle": "NoSuchLifecycleConfiguration", "tags": "NoSuchTagSet", "block": "NoSuchPublicAccessBlockConfiguration", "owner": "OwnershipControlsNotFoundError"}; !reflect.DeepEqual(got, want) {
		t.Errorf("codes after all is removed: %v, want %v", got, want)
	}
}

// putSettings sets all that the kit keeps.
func putSettings(ctx context.Context, c *s3.Client, b *string) []error {
	_, policy := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: b, Policy: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::states","arn:aws:s3:::states/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}}`)})
	_, versioning := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	_, lifecycle := c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: b, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
		ID: aws.String("old"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
		NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(30)}}}}})
	_, logging := c.PutBucketLogging(ctx, &s3.PutBucketLoggingInput{Bucket: b, BucketLoggingStatus: &types.BucketLoggingStatus{LoggingEnabled: &types.LoggingEnabled{TargetBucket: aws.String("logs"), TargetPrefix: aws.String("")}}})
	_, tags := c.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: b, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}})
	_, owner := c.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: b, OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipObjectWriter}}}})
	_, block := c.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: b, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true)}})
	_, encryption := c.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: b, ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{{
		ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAwsKms}}}}})
	return []error{policy, versioning, lifecycle, logging, tags, owner, block, encryption}
}

func removeSettings(ctx context.Context, t *testing.T, c *s3.Client, b *string) {
	t.Helper()
	_, policy := c.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: b})
	_, lifecycle := c.DeleteBucketLifecycle(ctx, &s3.DeleteBucketLifecycleInput{Bucket: b})
	_, tags := c.DeleteBucketTagging(ctx, &s3.DeleteBucketTaggingInput{Bucket: b})
	_, block := c.DeletePublicAccessBlock(ctx, &s3.DeletePublicAccessBlockInput{Bucket: b})
	_, owner := c.DeleteBucketOwnershipControls(ctx, &s3.DeleteBucketOwnershipControlsInput{Bucket: b})
	for _, err := range []error{policy, lifecycle, tags, block, owner} {
		if err != nil {
			t.Error(err)
		}
	}
}

// TestAWSKeys holds that what a key encrypts is for those who may use the key.
func TestAWSKeys(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	const key = "arn:aws:kms:us-east-1:111122223333:key/0000"
	a.CreateBucket("states", "", "")
	a.KMSKey(key, "alias/state")
	full := serviceS3(a, "us-east-1")
	encrypted := func(id string) func(*s3.PutObjectInput) {
		return func(in *s3.PutObjectInput) {
			in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &id
		}
	}
	for _, id := range []string{key, "0000", "alias/state", "arn:aws:kms:us-east-1:111122223333:alias/state"} {
		if err := put(ctx, full, "one", "text", encrypted(id)); err != nil {
			t.Errorf("by the name %s: %v", id, err)
		}
	}
	head, err := full.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("states"), Key: aws.String("one")})
	if err != nil || aws.ToString(head.SSEKMSKeyId) != key {
		t.Errorf("head = %+v, %v", head, err)
	}
	without := sessionS3(t, a, onlyKey1)
	allowed := strings.Replace(onlyKey1, `[{`, `[{"Effect":"Allow","Action":["kms:Decrypt"],"Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/state"}}},{`, 1)
	decrypt := sessionS3(t, a, allowed)
	_, denied := get(ctx, without, "one")
	text, err := get(ctx, decrypt, "one")
	if errorCode(denied) != "AccessDenied" || err != nil || text != "text" {
		t.Errorf("reading without and with the key: %v; %q, %v", denied, text, err)
	}
	if err := put(ctx, decrypt, "one", "text", encrypted(key)); errorCode(err) != "AccessDenied" {
		t.Errorf("writing without kms:GenerateDataKey: %v", err)
	}
	if err := put(ctx, full, "one", "text", encrypted("alias/unknown")); errorCode(err) != "KMS.NotFoundException" {
		t.Errorf("an unknown key: %v", err)
	}
}

// TestAWSUploadsInParts holds that states of more than 5 MB go through.
func TestAWSUploadsInParts(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	a.CreateBucket("states", "", "")
	c, b, k := sessionS3(t, a, onlyKey1), aws.String("states"), aws.String("one")
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: k})
	if err != nil {
		t.Fatal(err)
	}
	data, parts := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16), []types.CompletedPart{}
	for n := int32(1); n <= 2; n++ {
		part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: k, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(data)})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{ETag: part.ETag, PartNumber: aws.Int32(n)})
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: k, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
		t.Fatal(err)
	}
	if got, _ := a.Object("states", "one"); len(got) != 2*len(data) {
		t.Errorf("%d bytes, want %d", len(got), 2*len(data))
	}
}
