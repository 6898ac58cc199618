package backends

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/waymark-cd/waymark/release"
)

// statementName is the Sid of the statement that bootstrap adds.
const statementName = "WaymarkDenyPlainHTTP"

func (b *bucket) policy(ctx context.Context) (string, error) {
	out, err := b.s3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: b.name(), ExpectedBucketOwner: b.owner()})
	if has(err, "NoSuchBucketPolicy") {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Policy), nil
}

func (b *bucket) tlsOnly(ctx context.Context) (finding, error) {
	text, err := b.policy(ctx)
	if err != nil || text == "" {
		return finding{status: StatusMissing}, err
	}
	doc, err := parseBucketPolicy(text)
	if err != nil {
		return finding{}, err
	}
	if doc.deniesPlainHTTP(b.store.arn(b.region)) {
		return finding{status: StatusOK, have: "plain HTTP is denied"}, nil
	}
	return finding{status: StatusMissing, have: fmt.Sprintf("a policy of %d statements that does not say it", len(doc.statements)),
		detail: "the policy's other statements are kept"}, nil
}

func (b *bucket) denyPlainHTTP(ctx context.Context) error {
	text, err := b.policy(ctx)
	if err != nil {
		return err
	}
	if text == "" {
		text = `{"Version":"2012-10-17","Statement":[]}`
	}
	doc, err := parseBucketPolicy(text)
	if err != nil {
		return err
	}
	if text, err = doc.denyPlainHTTP(b.store.arn(b.region)); err != nil {
		return err
	}
	_, err = b.s3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: b.name(), ExpectedBucketOwner: b.owner(), Policy: aws.String(text)})
	return err
}

// bucketPolicy is a policy of which everything is kept as it was written.
type bucketPolicy struct {
	members    map[string]json.RawMessage
	statements []json.RawMessage
}

func parseBucketPolicy(text string) (*bucketPolicy, error) {
	p := &bucketPolicy{}
	err := json.Unmarshal([]byte(text), &p.members)
	if raw := p.members["Statement"]; err == nil && raw != nil {
		if one := strings.HasPrefix(strings.TrimSpace(string(raw)), "{"); one {
			p.statements = []json.RawMessage{raw}
		} else {
			err = json.Unmarshal(raw, &p.statements)
		}
	}
	if err != nil {
		return nil, &alreadySaid{fmt.Errorf("%w bucket policy: %w", release.ErrInvalid, err)}
	}
	return p, nil
}

// oneOrMore is a string or a list of strings, as policies write them.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(doc []byte) error {
	var one string
	if json.Unmarshal(doc, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(doc, (*[]string)(o))
}

// deniesPlainHTTP reports whether statements deny every action to everybody,
// on the bucket and on its objects, where the transport is not secure.
func (p *bucketPolicy) deniesPlainHTTP(arn string) bool {
	onBucket, onObjects := false, false
	for _, raw := range p.statements {
		for _, resource := range deniedToPlainHTTP(raw) {
			onBucket = onBucket || resource == arn || resource == "*" || resource == arn+"*"
			onObjects = onObjects || resource == arn+"/*" || resource == "*" || resource == arn+"*"
		}
	}
	return onBucket && onObjects
}

// deniedToPlainHTTP returns what a statement denies entirely, to everybody who
// comes without TLS; a condition more would deny less.
func deniedToPlainHTTP(raw json.RawMessage) []string {
	var s struct {
		Effect    string
		Principal json.RawMessage
		Action    oneOrMore
		Resource  oneOrMore
		Condition map[string]map[string]json.RawMessage
	}
	if json.Unmarshal(raw, &s) != nil || s.Effect != "Deny" || len(s.Condition) != 1 || !everybody(s.Principal) ||
		!slices.ContainsFunc(s.Action, func(a string) bool { return a == "*" || strings.EqualFold(a, "s3:*") }) {
		return nil
	}
	for operator, keys := range s.Condition {
		if operator != "Bool" || len(keys) != 1 {
			return nil
		}
		for key, value := range keys {
			text := strings.Trim(string(value), "[ \n\t]")
			if !strings.EqualFold(key, "aws:SecureTransport") || text != `"false"` && text != "false" {
				return nil
			}
		}
	}
	return s.Resource
}

// everybody reports whether a principal is anybody at all.
func everybody(raw json.RawMessage) bool {
	var all oneOrMore
	if json.Unmarshal(raw, &all) == nil {
		return slices.Contains(all, "*")
	}
	var by map[string]oneOrMore
	return json.Unmarshal(raw, &by) == nil && slices.Contains(by["AWS"], "*")
}

// denyPlainHTTP returns the policy with one statement more.
func (p *bucketPolicy) denyPlainHTTP(arn string) (string, error) {
	name := statementName
	for n := 2; p.hasStatement(name); n++ {
		name = fmt.Sprint(statementName, n)
	}
	type object = map[string]any
	ours, err := json.Marshal(object{"Sid": name, "Effect": "Deny", "Principal": "*", "Action": "s3:*",
		"Resource": []string{arn, arn + "/*"}, "Condition": object{"Bool": object{"aws:SecureTransport": "false"}}})
	if err != nil {
		return "", err
	}
	if p.members["Statement"], err = json.Marshal(append(slices.Clone(p.statements), ours)); err != nil {
		return "", err
	}
	text, err := json.Marshal(p.members)
	return string(text), err
}

func (p *bucketPolicy) hasStatement(name string) bool {
	return slices.ContainsFunc(p.statements, func(raw json.RawMessage) bool {
		var s struct{ Sid string }
		return json.Unmarshal(raw, &s) == nil && s.Sid == name
	})
}
