package credentials

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// Broker opens sessions with the service's own identity. It keeps none.
type Broker struct {
	cfg aws.Config
	set Settings
	now func() time.Time
}

// New makes a broker from what Load returned for the same settings.
func New(cfg aws.Config, s Settings) *Broker {
	return &Broker{cfg: cfg, set: s, now: time.Now}
}

// Open assumes the run role with a policy for this run and phase alone and,
// where one is named, the account's role with that session. Nothing is cached:
// each call gives new sessions.
//
// Errors say what to do about them. They wrap release.ErrUnavailable where AWS
// could not be asked or told to come back, release.ErrInvalid where the request
// can never be granted, and nothing where AWS refused: then somebody has to
// change something, and the run can be tried again.
func (b *Broker) Open(ctx context.Context, r Request) (Grant, error) {
	if r.Region == "" {
		r.Region = b.cfg.Region
	}
	policy, err := SessionPolicy(r)
	if err != nil {
		return Grant{}, err
	}
	if err := b.ready(ctx, r.Region); err != nil {
		return Grant{}, err
	}
	began := b.now()
	own := b.client(r.Region, b.cfg.Credentials)
	run, err := b.assume(ctx, own, r.input(r.RunRole, policy, r.duration(maxSession)), r, "")
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Run: run, env: b.environment(r.Region), ownProfile: r.ownProfile()}
	if r.AccountRole != "" {
		chained := b.client(r.Region, sdkcredentials.NewStaticCredentialsProvider(run.AccessKeyID, run.SecretAccessKey, run.SessionToken))
		account, err := b.assume(ctx, chained, r.input(r.AccountRole, "", r.duration(hourSession)), r, run.ARN)
		if err != nil {
			return Grant{}, err
		}
		g.Account = &account
	}
	g.refreshAt = refreshAt(g, r, began)
	g.inFiles = r.inFiles() || !g.refreshAt.IsZero()
	return g, nil
}

// client is one for STS, at the regional endpoint or that of the settings.
func (b *Broker) client(region string, who aws.CredentialsProvider) *sts.Client {
	return sts.NewFromConfig(b.cfg, func(o *sts.Options) {
		o.Region, o.Credentials = region, who
		if at := b.set.Endpoints["sts"]; at != "" {
			o.BaseEndpoint = aws.String(at)
		}
	})
}

// input makes the request for a role. External id and source identity go with
// the run role alone: the account's role trusts one role and no service, and a
// chained session has its source identity already, which can never change.
func (r Request) input(role, policy string, lasting time.Duration) *sts.AssumeRoleInput {
	in := &sts.AssumeRoleInput{
		RoleArn:         aws.String(role),
		RoleSessionName: aws.String(r.sessionName()),
		DurationSeconds: aws.Int32(int32(lasting / time.Second)),
		Tags:            r.tags(),
	}
	if policy != "" {
		in.Policy = aws.String(policy)
	}
	if role != r.RunRole {
		return in
	}
	if r.ExternalID != "" {
		in.ExternalId = aws.String(r.ExternalID)
	}
	if r.SourceIdentity != "" {
		in.SourceIdentity = aws.String(r.SourceIdentity)
	}
	return in
}

// assume asks for the role, once more for an hour where the role or the
// service's own session allows no longer. caller is the ARN that asks, "" where
// only STS knows it.
func (b *Broker) assume(ctx context.Context, client *sts.Client, in *sts.AssumeRoleInput, r Request, caller string) (Session, error) {
	out, err := client.AssumeRole(ctx, in)
	if tooLong(err) && *in.DurationSeconds > int32(hourSession/time.Second) {
		in.DurationSeconds = aws.Int32(int32(hourSession / time.Second))
		out, err = client.AssumeRole(ctx, in)
	}
	if err != nil {
		return Session{}, b.explain(ctx, client, in, r, caller, err)
	}
	c := out.Credentials
	return Session{
		AccessKeyID: aws.ToString(c.AccessKeyId), SecretAccessKey: aws.ToString(c.SecretAccessKey),
		SessionToken: aws.ToString(c.SessionToken), Expires: aws.ToTime(c.Expiration),
		RoleARN: *in.RoleArn, ARN: aws.ToString(out.AssumedRoleUser.Arn), Name: *in.RoleSessionName,
	}, nil
}

// tooLong recognises STS's answer to a duration that it does not give.
func tooLong(err error) bool {
	var said smithy.APIError
	return errors.As(err, &said) && said.ErrorCode() == "ValidationError" && strings.Contains(said.ErrorMessage(), "DurationSeconds")
}

// refreshAt is when the first session of the grant that does not outlive the
// phase is to be replaced: a quarter of an hour before its end, or when two
// thirds of it are over. SDKs ask again five minutes before the end at most.
func refreshAt(g Grant, r Request, now time.Time) time.Time {
	var first time.Time
	for _, s := range []*Session{&g.Run, g.Account} {
		if s == nil || r.Lifetime > 0 && !s.Expires.Before(now.Add(r.Lifetime+slack/2)) {
			continue
		}
		at := s.Expires.Add(-min(15*time.Minute, s.Expires.Sub(now)/3))
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// environment is what all runs get: where AWS is, and that there is nothing to
// look for on the machine.
func (b *Broker) environment(region string) map[string]string {
	env := map[string]string{
		"AWS_REGION":                 region,
		"AWS_DEFAULT_REGION":         region,
		"AWS_EC2_METADATA_DISABLED":  "true",
		"AWS_STS_REGIONAL_ENDPOINTS": "regional",
	}
	if b.set.CABundle != "" {
		env["AWS_CA_BUNDLE"] = b.set.CABundle
	}
	if b.set.Proxy != "" {
		env["HTTPS_PROXY"] = b.set.Proxy
		if hosts := noProxy(); hosts != "" {
			env["NO_PROXY"] = hosts
		}
	}
	return env
}
