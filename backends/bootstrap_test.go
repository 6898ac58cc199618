package backends_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/release"
)

// stores gives the bucket and the table of the usual specification.
func (c *cloud) stores(t *testing.T, values map[string]string) []backends.Store {
	t.Helper()
	all := map[string]string{"dynamodb_table": "locks-dev"}
	for name, value := range values {
		all[name] = value
	}
	stores, err := backends.Stores([]backends.Use{{Spec: c.spec(t, all), Account: account}})
	must(t, err)
	return stores
}

// verify gives what is not ok, as "name property: status".
func verify(t *testing.T, client *backends.Client, stores []backends.Store) (bad []string, all []backends.Property) {
	t.Helper()
	all, err := client.Verify(t.Context(), stores, backends.Hardening{})
	must(t, err)
	for _, p := range all {
		if p.Status != backends.StatusOK {
			bad = append(bad, fmt.Sprintf("%s %s: %s", p.Name, p.Property, p.Status))
		}
	}
	return bad, all
}

// bootstrap makes what the plan says.
func bootstrap(t *testing.T, client *backends.Client, stores []backends.Store, h backends.Hardening) (steps []backends.Step, err error) {
	t.Helper()
	steps, _, err = client.Plan(t.Context(), stores, h)
	must(t, err)
	return steps, client.Bootstrap(t.Context(), steps, nil)
}

// property finds one property of a store.
func property(t *testing.T, all []backends.Property, name, what string) backends.Property {
	t.Helper()
	i := slices.IndexFunc(all, func(p backends.Property) bool { return p.Name == name && p.Property == what })
	if i < 0 {
		t.Fatalf("no %s of %s in %+v", what, name, all)
	}
	return all[i]
}

func TestStoresAreDistinct(t *testing.T) {
	c := startCloud(t)
	uses := []backends.Use{
		{Spec: c.spec(t, map[string]string{"dynamodb_table": "l", "kms_key_id": "k1"}), Account: account},
		{Spec: c.spec(t, map[string]string{"dynamodb_table": "l", "key": "other", "kms_key_id": "k2"}), Account: account},
		{Spec: c.spec(t, map[string]string{"bucket": "states-prod", "region": "eu-central-1", "dynamodb_table": "l"}), Account: account},
		{Spec: localSpec("/x/y")},
	}
	stores, err := backends.Stores(uses)
	must(t, err)
	var got []string
	for _, s := range stores {
		got = append(got, s.Kind+" "+s.Name+" "+s.Region+" "+s.KMSKey)
	}
	if want := []string{"bucket states-dev us-east-1 ", "bucket states-prod eu-central-1 ", "table l eu-central-1 ", "table l us-east-1 "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	uses[2].Spec.Values["bucket"] = "states-dev"
	if _, err := backends.Stores(uses); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "us-east-1") || !strings.Contains(err.Error(), "eu-central-1") {
		t.Errorf("one bucket in two Regions: %v", err)
	}
}

func TestBootstrapOfNothing(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("logs", "eu-central-1", "")
	stores := c.stores(t, map[string]string{"region": "eu-central-1"})
	h := backends.Hardening{LogBucket: "logs"}
	bad, _ := verify(t, c.states, stores)
	if want := []string{"states-dev exists: missing", "locks-dev exists: missing"}; !slices.Equal(bad, want) {
		t.Fatalf("before: %q", bad)
	}
	steps, found, err := c.states.Plan(t.Context(), stores, h)
	must(t, err)
	if len(found) != 2 || len(steps) != 13 || steps[0].Verb != backends.StepCreate || steps[0].Property != "exists" || steps[1].Verb != backends.StepHarden {
		t.Fatalf("%d properties, %d steps: %+v", len(found), len(steps), steps)
	}
	var told []string
	must(t, c.states.Bootstrap(t.Context(), steps, func(s backends.Step, err error) {
		told = append(told, fmt.Sprint(s.Name, " ", s.Property, " ", err))
	}))
	if len(told) != len(steps) || told[0] != "states-dev exists <nil>" {
		t.Errorf("told %q", told)
	}
	all, err := c.states.Verify(t.Context(), stores, h)
	must(t, err)
	for _, p := range all {
		if p.Status != backends.StatusOK || p.Have == "" || p.Detail != "" || p.Region != "eu-central-1" {
			t.Errorf("after: %+v", p)
		}
	}
	if len(all) != 14 { // 9 of the bucket, 5 of the table
		t.Errorf("%d properties: %+v", len(all), all)
	}
	before := writes(c)
	must(t, c.states.Bootstrap(t.Context(), steps, nil)) // again, with what was shown before
	if again, err := bootstrap(t, c.states, stores, h); len(again) != 0 || err != nil || writes(c) != before {
		t.Errorf("again: %+v, %v, %d writes", again, err, writes(c)-before)
	}
}

// writes counts the requests that change something.
func writes(c *cloud) int {
	n := 0
	for _, r := range c.Requests() {
		if !strings.HasPrefix(r.Operation, "Get") && !strings.HasPrefix(r.Operation, "Head") && !strings.HasPrefix(r.Operation, "Describe") {
			n++
		}
	}
	return n
}

// Each property that a person weakens is named, and only it; bootstrap puts it
// right again.
func TestEachWeakenedPropertyIsNamed(t *testing.T) {
	c := startCloud(t)
	stores := c.stores(t, nil)
	_, err := bootstrap(t, c.states, stores, backends.Hardening{})
	must(t, err)
	name, table, s3, db := aws.String("states-dev"), aws.String("locks-dev"), c.buckets(), c.tables()
	off := aws.Bool(false)
	for want, weaken := range map[string]func() error{
		"states-dev versioning: weaker": func() error {
			_, err := s3.PutBucketVersioning(t.Context(), &awss3.PutBucketVersioningInput{Bucket: name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}})
			return err
		},
		"states-dev public access: weaker": func() error {
			_, err := s3.PutPublicAccessBlock(t.Context(), &awss3.PutPublicAccessBlockInput{Bucket: name,
				PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: off}})
			return err
		},
		"states-dev object ownership: weaker": func() error {
			_, err := s3.PutBucketOwnershipControls(t.Context(), &awss3.PutBucketOwnershipControlsInput{Bucket: name, OwnershipControls: &types.OwnershipControls{
				Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipObjectWriter}}}})
			return err
		},
		"states-dev TLS only: missing": func() error {
			_, err := s3.DeleteBucketPolicy(t.Context(), &awss3.DeleteBucketPolicyInput{Bucket: name})
			return err
		},
		"states-dev old versions: missing, states-dev incomplete uploads: missing": func() error {
			_, err := s3.DeleteBucketLifecycle(t.Context(), &awss3.DeleteBucketLifecycleInput{Bucket: name})
			return err
		},
		"locks-dev deletion protection: missing": func() error {
			_, err := db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: table, DeletionProtectionEnabled: off})
			return err
		},
		"locks-dev point-in-time recovery: missing": func() error {
			_, err := db.UpdateContinuousBackups(t.Context(), &dynamodb.UpdateContinuousBackupsInput{TableName: table,
				PointInTimeRecoverySpecification: &dbtypes.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: off}})
			return err
		},
		"locks-dev billing: weaker": func() error {
			_, err := db.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: table, BillingMode: dbtypes.BillingModeProvisioned,
				ProvisionedThroughput: &dbtypes.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(1), WriteCapacityUnits: aws.Int64(1)}})
			return err
		},
	} {
		t.Run(want, func(t *testing.T) {
			must(t, weaken())
			bad, _ := verify(t, c.states, stores)
			if strings.Join(bad, ", ") != want {
				t.Errorf("got %q", bad)
			}
			if _, err := bootstrap(t, c.states, stores, backends.Hardening{}); err != nil {
				t.Error(err)
			}
			if bad, _ := verify(t, c.states, stores); len(bad) != 0 {
				t.Errorf("after bootstrap: %q", bad)
			}
		})
	}
}

func TestAnotherAccountsBucketIsLeftAlone(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "999988887777")
	stores := c.stores(t, nil)[:1]
	steps, err := bootstrap(t, c.states, stores, backends.Hardening{})
	if len(steps) != 0 || err != nil { // whose it is cannot be told for sure
		t.Errorf("steps %+v, %v", steps, err)
	}
	_, all := verify(t, c.states, stores)
	if len(all) != 1 || all[0].Status == backends.StatusOK || !strings.Contains(all[0].Detail, "another account") {
		t.Errorf("properties %+v", all)
	}
	// One that its owner lets us list is told for sure.
	id, secret := c.Principal("arn:aws:iam::999988887777:user/them")
	theirs := awss3.New(awss3.Options{Region: "us-east-1", BaseEndpoint: aws.String(c.Endpoints()["s3"]), UsePathStyle: true, Credentials: keys(id, secret)})
	_, err = theirs.PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: aws.String("states-dev"), Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"s3:*","Resource":["arn:aws:s3:::states-dev","arn:aws:s3:::states-dev/*"]}]}`)})
	must(t, err)
	before := writes(c)
	steps, err = bootstrap(t, c.states, stores, backends.Hardening{})
	if len(steps) != 1 || !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "belongs to another account than "+account) || writes(c) != before {
		t.Errorf("steps %+v, %v, %d writes", steps, err, writes(c)-before)
	}
}

func TestStoresAreNotMadeInTheWrongAccount(t *testing.T) {
	c := startCloud(t)
	client := c.as(c.Principal("arn:aws:iam::444455556666:user/lost"))
	steps, err := bootstrap(t, client, c.stores(t, nil), backends.Hardening{})
	if len(steps) != 2 || !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "arn:aws:iam::444455556666:user/lost is of account 444455556666") {
		t.Errorf("steps %+v, %v", steps, err)
	}
	if got := c.Buckets(); len(got) != 0 {
		t.Errorf("buckets %q were made", got)
	}
}

func TestABucketElsewhereIsSaid(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "eu-central-1", "")
	_, all := verify(t, c.states, c.stores(t, nil)[:1])
	if len(all) != 1 || all[0].Status != backends.StatusWeaker || !strings.Contains(all[0].Detail, "is in eu-central-1 and not in us-east-1") {
		t.Errorf("got %+v", all)
	}
	if _, _, err := c.states.StateSerial(t.Context(), c.spec(t, nil)); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "is in eu-central-1") {
		t.Errorf("reading a state: %v", err)
	}
}

func TestAForeignKeyOfATableIsSaid(t *testing.T) {
	c := startCloud(t)
	_, err := c.tables().CreateTable(t.Context(), &dynamodb.CreateTableInput{TableName: aws.String("locks-dev"), BillingMode: dbtypes.BillingModePayPerRequest,
		AttributeDefinitions: []dbtypes.AttributeDefinition{{AttributeName: aws.String("Id"), AttributeType: dbtypes.ScalarAttributeTypeS}},
		KeySchema:            []dbtypes.KeySchemaElement{{AttributeName: aws.String("Id"), KeyType: dbtypes.KeyTypeHash}}})
	must(t, err)
	steps, err := bootstrap(t, c.states, c.stores(t, nil)[1:], backends.Hardening{})
	if len(steps) != 1 || !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "its key must be LockID") {
		t.Errorf("steps %+v, %v", steps, err)
	}
}

// What AWS does not tell is unreadable with the lacking permission, and the
// rest is told and done all the same.
func TestALackingPermissionIsNamed(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "")
	c.CreateTable("locks-dev", "", "")
	client := c.as(c.Principal("arn:aws:iam::"+account+":user/half", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"*","Resource":"*"},
		{"Effect":"Deny","Action":["s3:GetBucketVersioning","s3:PutBucketPolicy","dynamodb:DescribeContinuousBackups"],"Resource":"*"}]}`))
	stores := c.stores(t, nil)
	_, all := verify(t, client, stores)
	for _, want := range []struct{ name, property, says string }{
		{"states-dev", "versioning", "s3:GetBucketVersioning is not allowed: allow it on arn:aws:s3:::states-dev"},
		{"locks-dev", "point-in-time recovery", "dynamodb:DescribeContinuousBackups is not allowed: allow it on arn:aws:dynamodb:us-east-1:*:table/locks-dev"},
	} {
		if p := property(t, all, want.name, want.property); p.Status != backends.StatusUnreadable || !strings.Contains(p.Detail, want.says) {
			t.Errorf("got %+v, want %q", p, want.says)
		}
	}
	_, err := bootstrap(t, client, stores, backends.Hardening{})
	if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), `bucket "states-dev": TLS only: refused by AWS: s3:PutBucketPolicy`) {
		t.Errorf("got %v", err)
	}
	bad, _ := verify(t, c.states, stores) // versioning and recovery could not be seen, and so not set
	if want := []string{"states-dev versioning: missing", "states-dev TLS only: missing", "locks-dev point-in-time recovery: missing"}; !slices.Equal(bad, want) {
		t.Errorf("left over: %q", bad)
	}
}

func TestAThrottledAnswerIsUnreadable(t *testing.T) {
	c := startCloud(t)
	stores := c.stores(t, nil)
	_, err := bootstrap(t, c.states, stores, backends.Hardening{})
	must(t, err)
	c.Fail("s3", "GetBucketPolicy", "SlowDown", 503, 1)
	_, all := verify(t, c.states, stores)
	if p := property(t, all, "states-dev", "TLS only"); p.Status != backends.StatusUnreadable || !strings.Contains(p.Detail, "AWS in us-east-1 is asked too often") {
		t.Errorf("got %+v", p)
	}
}

// A store that cannot be made takes its own steps down alone.
func TestAFailedCreationStopsItsStoreAlone(t *testing.T) {
	c := startCloud(t)
	stores := c.stores(t, nil)
	c.Fail("s3", "CreateBucket", "TooManyBuckets", 400, 1)
	var failed []string
	steps, _, err := c.states.Plan(t.Context(), stores, backends.Hardening{})
	must(t, err)
	err = c.states.Bootstrap(t.Context(), steps, func(s backends.Step, err error) {
		if err != nil {
			failed = append(failed, s.Name)
		}
	})
	if len(failed) != 8 || slices.Contains(failed, "locks-dev") || err == nil || !strings.Contains(err.Error(), "TooManyBuckets") {
		t.Errorf("failed %q, %v", failed, err)
	}
	if _, err := bootstrap(t, c.states, stores, backends.Hardening{}); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if bad, _ := verify(t, c.states, stores); len(bad) != 0 {
		t.Errorf("after the second time: %q", bad)
	}
}
