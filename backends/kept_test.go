package backends_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/release"
)

const deny = `{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::states-dev","arn:aws:s3:::states-dev/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}`

// Whether a policy denies plain HTTP is judged by what it says, however it
// says it; and whatever else it says stays as it is.
func TestPoliciesAreJudgedByMeaning(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "")
	stores := c.stores(t, nil)[:1]
	for name, p := range map[string]struct {
		statements string // what Statement holds
		ok         bool
	}{
		"as a list": {"[" + deny + "]", true},
		"alone":     {deny, true},
		"other case and forms": {`[{"Effect":"Deny","Principal":{"AWS":["*"]},"Action":["S3:*"],"Resource":["arn:aws:s3:::states-dev/*","arn:aws:s3:::states-dev"],
			"Condition":{"Bool":{"AWS:securetransport":["false"]}}}]`, true},
		"in two statements": {"[" + strings.Replace(deny, `"arn:aws:s3:::states-dev",`, "", 1) + "," + strings.Replace(deny, `,"arn:aws:s3:::states-dev/*"`, "", 1) + "]", true},
		"the objects alone": {"[" + strings.Replace(deny, `"arn:aws:s3:::states-dev",`, "", 1) + "]", false},
		"one action":        {"[" + strings.Replace(deny, "s3:*", "s3:GetObject", 1) + "]", false},
		"one principal":     {"[" + strings.Replace(deny, `"Principal":"*"`, `"Principal":{"AWS":"arn:aws:iam::111122223333:root"}`, 1) + "]", false},
		"an allowance":      {"[" + strings.Replace(deny, "Deny", "Allow", 1) + "]", false},
		"objects with TLS": {"[" + strings.Replace(deny, `,"arn:aws:s3:::states-dev/*"`, "", 1) + "," +
			strings.Replace(strings.Replace(deny, `"arn:aws:s3:::states-dev",`, "", 1), `"false"`, `"true"`, 1) + "]", false},
		"a condition more":   {"[" + strings.Replace(deny, `"Condition":{`, `"Condition":{"StringEquals":{"aws:PrincipalAccount":"1"},`, 1) + "]", false},
		"somebody else's":    {`[{"Sid":"Theirs","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::states-dev/a"}]`, false},
		"our name, narrowed": {"[" + strings.Replace(strings.Replace(deny, `{"Effect"`, `{"Sid":"WaymarkDenyPlainHTTP","Effect"`, 1), "s3:*", "s3:GetObject", 1) + "]", false},
	} {
		t.Run(name, func(t *testing.T) {
			text := `{"Version":"2008-10-17","Id":"mine","Statement":` + p.statements + `}`
			_, err := c.buckets().PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: aws.String("states-dev"), Policy: aws.String(text)})
			must(t, err)
			_, all := verify(t, c.states, stores)
			if got := property(t, all, "states-dev", "TLS only"); (got.Status == backends.StatusOK) != p.ok {
				t.Errorf("got %+v", got)
			}
			_, err = bootstrap(t, c.states, stores, backends.Hardening{})
			must(t, err)
			_, all = verify(t, c.states, stores)
			if got := property(t, all, "states-dev", "TLS only"); got.Status != backends.StatusOK {
				t.Errorf("after bootstrap: %+v", got)
			}
			c.keepsPolicy(t, text)
		})
	}
}

// keepsPolicy holds that the bucket's policy says what it said, in order.
func (c *cloud) keepsPolicy(t *testing.T, before string) {
	t.Helper()
	out, err := c.buckets().GetBucketPolicy(t.Context(), &awss3.GetBucketPolicyInput{Bucket: aws.String("states-dev")})
	must(t, err)
	var old, now struct {
		Version, ID string
		Statement   json.RawMessage
	}
	must(t, json.Unmarshal([]byte(before), &old))
	must(t, json.Unmarshal([]byte(*out.Policy), &now))
	compact := func(raw json.RawMessage) string {
		var v any
		must(t, json.Unmarshal(raw, &v))
		if _, isList := v.([]any); !isList {
			v = []any{v}
		}
		doc, err := json.Marshal(v)
		must(t, err)
		return strings.TrimSuffix(string(doc), "]")
	}
	if old.Version != now.Version || old.ID != now.ID || !strings.HasPrefix(compact(now.Statement), compact(old.Statement)) {
		t.Errorf("the policy was %s\nand is %s", before, *out.Policy)
	}
}

func TestEncryptionIsNeverWeakened(t *testing.T) {
	const key, other = "arn:aws:kms:us-east-1:111122223333:key/1234", "arn:aws:kms:us-east-1:111122223333:key/5678"
	for name, k := range map[string]struct {
		configured, algorithm, key string
		status                     backends.Status
		detail                     string
		after                      string // algorithm and key
	}{
		"none wanted":                 {"", "AES256", "", backends.StatusOK, "", "AES256 "},
		"stronger than wanted":        {"", "aws:kms", other, backends.StatusOK, "stronger than wanted, and kept", "aws:kms " + other},
		"weaker than wanted":          {key, "AES256", "", backends.StatusWeaker, "", "aws:kms " + key},
		"the key that AWS manages":    {key, "aws:kms", "", backends.StatusWeaker, "", "aws:kms " + key},
		"the key by its id":           {"1234", "aws:kms", key, backends.StatusOK, "", "aws:kms " + key},
		"another key":                 {key, "aws:kms", other, backends.StatusOK, "another key than the backend names, and kept", "aws:kms " + other},
		"two layers, another service": {key, "aws:kms:dsse", key, backends.StatusOK, "", "aws:kms:dsse " + key},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t)
			c.KMSKey(key)
			c.KMSKey(other)
			c.CreateBucket("states-dev", "", "")
			stores := c.stores(t, map[string]string{"kms_key_id": k.configured})[:1]
			by := &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryption(k.algorithm)}
			if k.key != "" {
				by.KMSMasterKeyID = aws.String(k.key)
			}
			_, err := c.buckets().PutBucketEncryption(t.Context(), &awss3.PutBucketEncryptionInput{Bucket: aws.String("states-dev"),
				ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: by}}}})
			must(t, err)
			_, all := verify(t, c.states, stores)
			if p := property(t, all, "states-dev", "encryption"); p.Status != k.status || !strings.Contains(p.Detail, k.detail) {
				t.Errorf("got %+v", p)
			}
			_, err = bootstrap(t, c.states, stores, backends.Hardening{})
			must(t, err)
			out, err := c.buckets().GetBucketEncryption(t.Context(), &awss3.GetBucketEncryptionInput{Bucket: aws.String("states-dev")})
			must(t, err)
			rule := out.ServerSideEncryptionConfiguration.Rules[0]
			now := rule.ApplyServerSideEncryptionByDefault
			if got := string(now.SSEAlgorithm) + " " + aws.ToString(now.KMSMasterKeyID); got != k.after {
				t.Errorf("after bootstrap: %q, want %q", got, k.after)
			}
			if changed := k.status == backends.StatusWeaker; changed != aws.ToBool(rule.BucketKeyEnabled) {
				t.Errorf("bucket key %v", aws.ToBool(rule.BucketKeyEnabled))
			}
		})
	}
}

// putRules sets a lifecycle by hand.
func (c *cloud) putRules(t *testing.T, rules ...types.LifecycleRule) {
	t.Helper()
	_, err := c.buckets().PutBucketLifecycleConfiguration(t.Context(), &awss3.PutBucketLifecycleConfigurationInput{Bucket: aws.String("states-dev"),
		LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules}})
	must(t, err)
}

func TestLifecycleRulesAreKept(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "")
	stores := c.stores(t, nil)[:1]
	on := types.ExpirationStatusEnabled
	old := types.LifecycleRule{ID: aws.String("logs"), Status: on, Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)}}
	//lint:ignore SA1019 buckets have rules of the old form
	old.Prefix = aws.String("logs/")
	c.putRules(t, old, types.LifecycleRule{ID: aws.String("off"), Status: types.ExpirationStatusDisabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
		NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(1)}})
	_, all := verify(t, c.states, stores)
	if p := property(t, all, "states-dev", "old versions"); p.Status != backends.StatusMissing || p.Detail != "the 2 rules that are there are kept" {
		t.Errorf("got %+v", p)
	}
	_, err := bootstrap(t, c.states, stores, backends.Hardening{NoncurrentDays: 90, KeepVersions: 3})
	must(t, err)
	out, err := c.buckets().GetBucketLifecycleConfiguration(t.Context(), &awss3.GetBucketLifecycleConfigurationInput{Bucket: aws.String("states-dev")})
	must(t, err)
	var got []string
	for _, r := range out.Rules {
		got = append(got, aws.ToString(r.ID)+" "+aws.ToString(r.Filter.Prefix)+" "+string(r.Status))
	}
	if strings.Join(got, ", ") != "logs logs/ Enabled, off  Disabled, waymark-old-versions  Enabled, waymark-incomplete-uploads  Enabled" {
		t.Errorf("rules %q", got)
	}
	if v := out.Rules[2].NoncurrentVersionExpiration; *v.NoncurrentDays != 90 || *v.NewerNoncurrentVersions != 3 {
		t.Errorf("old versions %d %d", *v.NoncurrentDays, *v.NewerNoncurrentVersions)
	}
	_, all = verify(t, c.states, stores) // asks for 365 and 10
	if p := property(t, all, "states-dev", "old versions"); p.Status != backends.StatusOK || !strings.Contains(p.Detail, "is kept") {
		t.Errorf("another number of days: %+v", p)
	}
}

func TestARuleThatEndsStatesIsSaid(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "")
	stores := c.stores(t, nil)[:1]
	for prefix, ends := range map[string]bool{"": true, "research/": true, "logs/": false} {
		c.putRules(t, types.LifecycleRule{ID: aws.String("clean"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String(prefix)},
			Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)}})
		_, all := verify(t, c.states, stores)
		p := property(t, all, "states-dev", "old versions")
		if said := strings.Contains(p.Detail, `rule "clean" ends current objects`); said != ends {
			t.Errorf("prefix %q: %+v", prefix, p)
		}
		_, err := bootstrap(t, c.states, stores, backends.Hardening{})
		if errors.Is(err, release.ErrRefused) != ends {
			t.Errorf("prefix %q: bootstrap says %v", prefix, err)
		}
	}
}

func TestWhatPeopleChoseIsKept(t *testing.T) {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "")
	c.CreateBucket("elsewhere", "", "")
	_, err := c.buckets().PutBucketLogging(t.Context(), &awss3.PutBucketLoggingInput{Bucket: aws.String("states-dev"), BucketLoggingStatus: &types.BucketLoggingStatus{
		LoggingEnabled: &types.LoggingEnabled{TargetBucket: aws.String("elsewhere"), TargetPrefix: aws.String("x/")}}})
	must(t, err)
	_, err = c.buckets().PutBucketOwnershipControls(t.Context(), &awss3.PutBucketOwnershipControlsInput{Bucket: aws.String("states-dev"), OwnershipControls: &types.OwnershipControls{
		Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipBucketOwnerPreferred}}}})
	must(t, err)
	stores := c.stores(t, map[string]string{"acl": "private"})[:1]
	h := backends.Hardening{LogBucket: "logs"}
	_, err = bootstrap(t, c.states, stores, h)
	if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), `acl "private"`) || strings.Contains(err.Error(), "access log") {
		t.Errorf("bootstrap says %v", err)
	}
	all, err := c.states.Verify(t.Context(), stores, h)
	must(t, err)
	if p := property(t, all, "states-dev", "access log"); p.Status != backends.StatusOK || p.Have != "s3://elsewhere/x/" || !strings.Contains(p.Detail, "is kept") {
		t.Errorf("access log %+v", p)
	}
	if p := property(t, all, "states-dev", "object ownership"); p.Status != backends.StatusWeaker || p.Have != "BucketOwnerPreferred" {
		t.Errorf("object ownership %+v", p)
	}
}
