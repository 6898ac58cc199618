package backends

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The ids of the rules that bootstrap adds.
const (
	versionsRule = "waymark-old-versions"
	uploadsRule  = "waymark-incomplete-uploads"
)

// uploadDays is after how many days an upload that nobody finished is dropped.
const uploadDays = 7

func (b *bucket) lifecycle(ctx context.Context) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	out, err := b.s3.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	if has(err, "NoSuchLifecycleConfiguration") {
		return &s3.GetBucketLifecycleConfigurationOutput{}, nil
	}
	return out, err
}

func (b *bucket) wantOldVersions() string {
	return fmt.Sprintf("dropped after %d days, the newest %d kept", b.hard.NoncurrentDays, b.hard.KeepVersions)
}

func (b *bucket) oldVersions(ctx context.Context) (finding, error) {
	out, err := b.lifecycle(ctx)
	if err != nil {
		return finding{}, err
	}
	for _, r := range out.Rules {
		if b.endsStates(r) {
			text := fmt.Sprintf("rule %q ends current objects, states among them: remove it by hand", aws.ToString(r.ID))
			return finding{status: StatusWeaker, have: "current objects expire", detail: text, blocked: text}, nil
		}
	}
	f := finding{status: StatusMissing, have: "kept for ever"}
	for _, r := range out.Rules {
		old := r.NoncurrentVersionExpiration
		if !isOn(r) || !isWhole(r) || old == nil {
			continue
		}
		days := aws.ToInt32(old.NoncurrentDays)
		f = finding{status: StatusOK, have: fmt.Sprintf("dropped after %d days", days)}
		if newest := aws.ToInt32(old.NewerNoncurrentVersions); newest > 0 {
			f.have += fmt.Sprintf(", the newest %d kept", newest)
		}
		if f.have != b.wantOldVersions() {
			f.detail = fmt.Sprintf("by rule %q, which is not what is wanted, and is kept", aws.ToString(r.ID))
		}
	}
	if f.status == StatusMissing && len(out.Rules) > 0 {
		f.detail = fmt.Sprintf("the %d rules that are there are kept", len(out.Rules))
	}
	return f, nil
}

// endsStates reports whether a rule deletes states that are in use.
func (b *bucket) endsStates(r types.LifecycleRule) bool {
	if !isOn(r) || r.Expiration == nil || r.Expiration.Days == nil && r.Expiration.Date == nil {
		return false
	}
	prefix := rulePrefix(r)
	return slices.ContainsFunc(b.store.keys, func(key string) bool { return strings.HasPrefix(key, prefix) })
}

func isOn(r types.LifecycleRule) bool { return r.Status == types.ExpirationStatusEnabled }

// rulePrefix is the beginning of the keys that a rule is about.
func rulePrefix(r types.LifecycleRule) string {
	switch {
	case r.Filter == nil:
		//lint:ignore SA1019 buckets have rules of the old form
		return aws.ToString(r.Prefix)
	case r.Filter.And != nil:
		return aws.ToString(r.Filter.And.Prefix)
	}
	return aws.ToString(r.Filter.Prefix)
}

// isWhole reports whether a rule is about all objects.
func isWhole(r types.LifecycleRule) bool {
	f := r.Filter
	return rulePrefix(r) == "" && (f == nil || f.And == nil && f.Tag == nil && f.ObjectSizeGreaterThan == nil && f.ObjectSizeLessThan == nil)
}

func (b *bucket) expireOldVersions(ctx context.Context) error {
	return b.addRule(ctx, types.LifecycleRule{ID: aws.String(versionsRule), NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{
		NoncurrentDays: aws.Int32(b.hard.NoncurrentDays), NewerNoncurrentVersions: aws.Int32(b.hard.KeepVersions)}})
}

func (b *bucket) wantUploads() string { return fmt.Sprintf("dropped after %d days", uploadDays) }

func (b *bucket) uploads(ctx context.Context) (finding, error) {
	out, err := b.lifecycle(ctx)
	if err != nil {
		return finding{}, err
	}
	for _, r := range out.Rules {
		if isOn(r) && isWhole(r) && r.AbortIncompleteMultipartUpload != nil {
			f := finding{status: StatusOK, have: fmt.Sprintf("dropped after %d days", aws.ToInt32(r.AbortIncompleteMultipartUpload.DaysAfterInitiation))}
			if f.have != b.wantUploads() {
				f.detail = fmt.Sprintf("by rule %q, which is kept", aws.ToString(r.ID))
			}
			return f, nil
		}
	}
	return finding{status: StatusMissing, have: "kept for ever"}, nil
}

func (b *bucket) abortUploads(ctx context.Context) error {
	return b.addRule(ctx, types.LifecycleRule{ID: aws.String(uploadsRule),
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(uploadDays)}})
}

// addRule adds a rule about all objects to those that are there. One of the same
// id is replaced: bootstrap wrote it, and it was switched off or narrowed since.
func (b *bucket) addRule(ctx context.Context, rule types.LifecycleRule) error {
	old, err := b.lifecycle(ctx)
	if err != nil {
		return err
	}
	var rules []types.LifecycleRule
	for _, r := range old.Rules {
		if aws.ToString(r.ID) == aws.ToString(rule.ID) {
			continue
		}
		if r.Filter == nil { // the old form cannot stand beside the new one
			r.Filter = &types.LifecycleRuleFilter{Prefix: aws.String(rulePrefix(r))}
			//lint:ignore SA1019 buckets have rules of the old form
			r.Prefix = nil
		}
		rules = append(rules, r)
	}
	rule.Status, rule.Filter = types.ExpirationStatusEnabled, &types.LifecycleRuleFilter{Prefix: aws.String("")}
	_, err = b.s3.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: b.name(), ExpectedBucketOwner: b.owner(),
		TransitionDefaultMinimumObjectSize: old.TransitionDefaultMinimumObjectSize,
		LifecycleConfiguration:             &types.BucketLifecycleConfiguration{Rules: append(rules, rule)}})
	return err
}
