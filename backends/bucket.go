package backends

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/waymark-cd/waymark/release"
)

const listBucket = "s3:ListBucket" // what HeadBucket needs

// makingPatience bounds the wait for a bucket or table that was just made.
const makingPatience = 5 * time.Minute

// mayCreate says why a store should not be created here: in the wrong account.
func (c *connection) mayCreate(ctx context.Context, s Store) (blocked string) {
	if s.Account == "" {
		return ""
	}
	out, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return fmt.Sprintf("whether these credentials are of account %s cannot be told: %v", s.Account, short(err))
	}
	if aws.ToString(out.Account) == s.Account {
		return ""
	}
	return fmt.Sprintf("it belongs into account %s, and %s is of account %s: use credentials of account %s",
		s.Account, aws.ToString(out.Arn), aws.ToString(out.Account), s.Account)
}

// bucket looks at a bucket of states and hardens it.
type bucket struct {
	*connection
	store Store
	hard  Hardening
}

func (b *bucket) name() *string { return aws.String(b.store.Name) }

// owner makes AWS refuse every request if the bucket is another account's.
func (b *bucket) owner() *string {
	if b.store.Account == "" {
		return nil
	}
	return aws.String(b.store.Account)
}

func (b *bucket) facets() []facet {
	out := []facet{
		{"exists", b.wantExists(), listBucket, "s3:CreateBucket", b.exists, b.create},
		{"public access", "blocked", "s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock", b.publicAccess, b.blockPublicAccess},
		{"object ownership", string(types.ObjectOwnershipBucketOwnerEnforced), "s3:GetBucketOwnershipControls", "s3:PutBucketOwnershipControls", b.ownership, b.enforceOwnership},
		{"versioning", "on", "s3:GetBucketVersioning", "s3:PutBucketVersioning", b.versioning, b.setVersioning},
		{"encryption", b.wantEncryption(), "s3:GetEncryptionConfiguration", "s3:PutEncryptionConfiguration", b.encryption, b.setEncryption},
		{"TLS only", "plain HTTP is denied", "s3:GetBucketPolicy", "s3:PutBucketPolicy", b.tlsOnly, b.denyPlainHTTP},
		{"old versions", b.wantOldVersions(), "s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration", b.oldVersions, b.expireOldVersions},
		{"incomplete uploads", b.wantUploads(), "s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration", b.uploads, b.abortUploads},
	}
	if b.hard.LogBucket != "" {
		out = append(out, facet{"access log", b.wantLog(), "s3:GetBucketLogging", "s3:PutBucketLogging", b.log, b.setLog})
	}
	return out
}

func (b *bucket) wantExists() string {
	if b.store.Account != "" {
		return "in " + b.region + ", of account " + b.store.Account
	}
	return "in " + b.region
}

func (b *bucket) exists(ctx context.Context) (finding, error) {
	out, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	switch {
	case err == nil:
		if at := aws.ToString(out.BucketRegion); at != "" && at != b.region {
			return b.misplaced(at), nil
		}
		f := finding{status: StatusOK, have: b.wantExists()}
		if b.store.Account == "" {
			f.detail = "whose it is was not checked: no account is known for it"
		}
		return f, nil
	case has(err, "NotFound", "NoSuchBucket") || statusOf(err) == http.StatusNotFound:
		return finding{status: StatusMissing, detail: "make it with `waymark backend bootstrap`, or correct the name"}, nil
	case b.isWrongRegion(err):
		return b.misplaced(bucketRegion(err)), nil
	case isDenied(err) || statusOf(err) == http.StatusForbidden:
		return b.notOurs(ctx, err)
	}
	return finding{}, err
}

func (b *bucket) misplaced(at string) finding {
	if at == "" {
		at = "another Region"
	}
	text := fmt.Sprintf("the bucket is in %s and not in %s: correct region in the backend block", at, b.region)
	return finding{status: StatusWeaker, have: "in " + at, detail: text, blocked: text}
}

// notOurs tells a bucket of another account from a lacking permission.
func (b *bucket) notOurs(ctx context.Context, denied error) (finding, error) {
	if b.store.Account != "" {
		if _, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: b.name()}); err == nil {
			return b.foreign(), nil
		}
	}
	return finding{}, &alreadySaid{fmt.Errorf("%w by AWS: the bucket belongs to another account, or %s is not allowed on %s: choose another name, or allow it in the caller's policies and in the bucket's own: %w",
		release.ErrRefused, listBucket, b.store.arn(b.region), short(denied))}
}

func (b *bucket) foreign() finding {
	text := fmt.Sprintf("the bucket belongs to another account than %s: nothing is done to it; choose another name", b.store.Account)
	return finding{status: StatusWeaker, have: "of another account", detail: text, blocked: text}
}

func (b *bucket) create(ctx context.Context) error {
	in := &s3.CreateBucketInput{Bucket: b.name(), ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}
	if b.region != "us-east-1" {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(b.region)}
	}
	_, err := b.s3.CreateBucket(ctx, in)
	switch {
	case has(err, "BucketAlreadyExists"):
		return &alreadySaid{fmt.Errorf("%w: %s", release.ErrRefused, "another account has a bucket of this name: choose another name")}
	case err != nil && !has(err, "BucketAlreadyOwnedByYou"):
		return err
	}
	return s3.NewBucketExistsWaiter(b.s3, func(o *s3.BucketExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 200*time.Millisecond, 5*time.Second
	}).Wait(ctx, &s3.HeadBucketInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()}, makingPatience)
}

func (b *bucket) publicAccess(ctx context.Context) (finding, error) {
	out, err := b.s3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	if has(err, "NoSuchPublicAccessBlockConfiguration") {
		return finding{status: StatusMissing}, nil
	}
	if err != nil {
		return finding{}, err
	}
	set := out.PublicAccessBlockConfiguration
	if set == nil {
		return finding{status: StatusMissing}, nil
	}
	var open []string
	for _, part := range []struct {
		name string
		on   *bool
	}{{"BlockPublicAcls", set.BlockPublicAcls}, {"IgnorePublicAcls", set.IgnorePublicAcls},
		{"BlockPublicPolicy", set.BlockPublicPolicy}, {"RestrictPublicBuckets", set.RestrictPublicBuckets}} {
		if !aws.ToBool(part.on) {
			open = append(open, part.name)
		}
	}
	if len(open) > 0 {
		return finding{status: StatusWeaker, have: "off: " + strings.Join(open, ", ")}, nil
	}
	return finding{status: StatusOK, have: "blocked"}, nil
}

func (b *bucket) blockPublicAccess(ctx context.Context) error {
	on := aws.Bool(true)
	_, err := b.s3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: b.name(), ExpectedBucketOwner: b.owner(),
		PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: on, IgnorePublicAcls: on,
			BlockPublicPolicy: on, RestrictPublicBuckets: on}})
	return err
}

func (b *bucket) ownership(ctx context.Context) (finding, error) {
	out, err := b.s3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	f := finding{status: StatusMissing}
	switch {
	case has(err, "OwnershipControlsNotFoundError"):
	case err != nil:
		return finding{}, err
	case out.OwnershipControls != nil && len(out.OwnershipControls.Rules) > 0:
		f = finding{status: StatusWeaker, have: string(out.OwnershipControls.Rules[0].ObjectOwnership)}
		if f.have == string(types.ObjectOwnershipBucketOwnerEnforced) {
			f.status = StatusOK
		}
	}
	if f.status != StatusOK && b.store.acl != "" {
		f.blocked = fmt.Sprintf("the backend writes states with acl %q, which AWS would refuse then: take acl out of the backend block first", b.store.acl)
		f.detail = f.blocked
	}
	return f, nil
}

func (b *bucket) enforceOwnership(ctx context.Context) error {
	_, err := b.s3.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: b.name(), ExpectedBucketOwner: b.owner(),
		OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}}}})
	return err
}

func (b *bucket) versioning(ctx context.Context) (finding, error) {
	out, err := b.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	if err != nil {
		return finding{}, err
	}
	switch out.Status {
	case types.BucketVersioningStatusEnabled:
		return finding{status: StatusOK, have: "on"}, nil
	case types.BucketVersioningStatusSuspended:
		return finding{status: StatusWeaker, have: "suspended"}, nil
	}
	return finding{status: StatusMissing, have: "off"}, nil
}

func (b *bucket) setVersioning(ctx context.Context) error {
	_, err := b.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b.name(), ExpectedBucketOwner: b.owner(),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	return err
}

func (b *bucket) wantEncryption() string {
	if b.store.KMSKey != "" {
		return "aws:kms by " + b.store.KMSKey
	}
	return "AES256"
}

func (b *bucket) encryption(ctx context.Context) (finding, error) {
	out, err := b.s3.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	if has(err, "ServerSideEncryptionConfigurationNotFoundError") {
		return finding{status: StatusMissing}, nil
	}
	if err != nil {
		return finding{}, err
	}
	var by *types.ServerSideEncryptionByDefault
	if c := out.ServerSideEncryptionConfiguration; c != nil && len(c.Rules) > 0 {
		by = c.Rules[0].ApplyServerSideEncryptionByDefault
	}
	if by == nil {
		return finding{status: StatusMissing}, nil
	}
	return judgeEncryption(b.store.KMSKey, string(by.SSEAlgorithm), aws.ToString(by.KMSMasterKeyID)), nil
}

// judgeEncryption compares a bucket's default with the key that the backend
// names. Another key of a person's own is as strong, and is kept.
func judgeEncryption(want, algorithm, key string) finding {
	f := finding{status: StatusOK, have: algorithm}
	if key != "" {
		f.have += " by " + key
	}
	switch plain := algorithm == string(types.ServerSideEncryptionAes256); {
	case plain && want != "":
		f.status = StatusWeaker
	case plain:
	case want == "":
		f.detail = "stronger than wanted, and kept: runs need the right to use the key"
	case key == "":
		f.status = StatusWeaker
		f.have += " by the key that AWS manages"
	case keyID(key) != keyID(want):
		f.detail = "another key than the backend names, and kept: states name theirs when they are written"
	}
	return f
}

// keyID is what is left of a key's ARN: the id or the alias.
func keyID(key string) string {
	if !strings.HasPrefix(key, "arn:") {
		return key
	}
	return strings.TrimPrefix(key[strings.LastIndex(key, ":")+1:], "key/")
}

func (b *bucket) setEncryption(ctx context.Context) error {
	in := &s3.PutBucketEncryptionInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()}
	old, err := b.s3.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	rule := types.ServerSideEncryptionRule{}
	if err == nil && old.ServerSideEncryptionConfiguration != nil && len(old.ServerSideEncryptionConfiguration.Rules) > 0 {
		rule = old.ServerSideEncryptionConfiguration.Rules[0] // it may block kinds of encryption
	}
	rule.ApplyServerSideEncryptionByDefault = &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAes256}
	if b.store.KMSKey != "" {
		rule.ApplyServerSideEncryptionByDefault = &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAwsKms,
			KMSMasterKeyID: aws.String(b.store.KMSKey)}
		rule.BucketKeyEnabled = aws.Bool(true)
	}
	in.ServerSideEncryptionConfiguration = &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{rule}}
	_, err = b.s3.PutBucketEncryption(ctx, in)
	return err
}

func (b *bucket) wantLog() string { return "s3://" + b.hard.LogBucket + "/" + b.hard.LogPrefix }

func (b *bucket) log(ctx context.Context) (finding, error) {
	out, err := b.s3.GetBucketLogging(ctx, &s3.GetBucketLoggingInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	if err != nil {
		return finding{}, err
	}
	if out.LoggingEnabled == nil {
		return finding{status: StatusMissing}, nil
	}
	f := finding{status: StatusOK, have: "s3://" + aws.ToString(out.LoggingEnabled.TargetBucket) + "/" + aws.ToString(out.LoggingEnabled.TargetPrefix)}
	if f.have != b.wantLog() {
		f.detail = "it goes elsewhere than wanted, and is kept"
	}
	return f, nil
}

func (b *bucket) setLog(ctx context.Context) error {
	_, err := b.s3.PutBucketLogging(ctx, &s3.PutBucketLoggingInput{Bucket: b.name(), ExpectedBucketOwner: b.owner(),
		BucketLoggingStatus: &types.BucketLoggingStatus{LoggingEnabled: &types.LoggingEnabled{
			TargetBucket: aws.String(b.hard.LogBucket), TargetPrefix: aws.String(b.hard.LogPrefix)}}})
	if has(err, "InvalidTargetBucketForLogging") {
		return &alreadySaid{fmt.Errorf("%w: bucket %q does not take logs: it must be in the same Region and account, and its policy must allow s3:PutObject to logging.s3.amazonaws.com: %w",
			release.ErrInvalid, b.hard.LogBucket, short(err))}
	}
	return err
}
