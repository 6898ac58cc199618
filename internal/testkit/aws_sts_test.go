package testkit

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
)

const (
	runRole  = "arn:aws:iam::111122223333:role/WaymarkRun"
	userARN  = "arn:aws:iam::111122223333:user/waymark"
	farRole  = "arn:aws:iam::444455556666:role/InfraBuildRole"
	denyAll  = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`
	onlyKey1 = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::states/one"},{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::states"}]}`
)

// stsClient returns the real client with these keys, which asks only once.
func stsClient(a *AWS, id, secret, token string) *sts.Client {
	return sts.NewFromConfig(aws.Config{Region: "eu-central-1", BaseEndpoint: aws.String(a.Endpoints()["sts"]),
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token), RetryMaxAttempts: 1})
}

// serviceSTS returns the client of the service's own identity.
func serviceSTS(a *AWS) *sts.Client {
	id, secret := a.Service()
	return stsClient(a, id, secret, "")
}

// assumeRole gives a client's session of a role.
func assumeRole(t *testing.T, client *sts.Client, in *sts.AssumeRoleInput) *types.Credentials {
	t.Helper()
	out, err := client.AssumeRole(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Credentials
}

// errorCode returns the code that AWS gave, or the error's text.
func errorCode(err error) string {
	if err == nil {
		return ""
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return err.Error()
}

func TestAWSRecordsAssumeRole(t *testing.T) {
	a := StartAWS(t)
	a.Role(runRole, RoleOptions{Trusts: []string{userARN}, ExternalID: "ours", MaxDuration: 2 * time.Hour})
	before := time.Now().Truncate(time.Second)
	keys := assumeRole(t, serviceSTS(a), &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("waymark-1"),
		ExternalId: aws.String("ours"), SourceIdentity: aws.String("waymark-run-1"), DurationSeconds: aws.Int32(7200), Policy: aws.String(onlyKey1),
		Tags: []types.Tag{{Key: aws.String("env"), Value: aws.String("dev")}, {Key: aws.String("team"), Value: aws.String("research")}}})
	want := []AssumeRoleCall{{Caller: userARN, RoleARN: runRole, SessionName: "waymark-1", Policy: onlyKey1, Tags: map[string]string{"env": "dev", "team": "research"},
		SourceIdentity: "waymark-run-1", ExternalID: "ours", Duration: 2 * time.Hour, Region: "eu-central-1", AccessKeyID: *keys.AccessKeyId}}
	if got := a.AssumeRoles(); !reflect.DeepEqual(got, want) {
		t.Errorf("recorded %+v\nwant %+v", got, want)
	}
	if d := keys.Expiration.Sub(before); d < 2*time.Hour || d > 2*time.Hour+time.Minute {
		t.Errorf("the session lives for %s, want 2 h", d)
	}
	who, err := stsClient(a, *keys.AccessKeyId, *keys.SecretAccessKey, *keys.SessionToken).GetCallerIdentity(t.Context(), nil)
	if err != nil || *who.Arn != "arn:aws:sts::111122223333:assumed-role/WaymarkRun/waymark-1" || *who.Account != "111122223333" {
		t.Errorf("the session is %+v, %v", who, err)
	}
}

// TestAWSJudgesAssumeRole plays what makes a role refuse.
func TestAWSJudgesAssumeRole(t *testing.T) {
	for name, c := range map[string]struct {
		role RoleOptions
		set  func(*sts.AssumeRoleInput)
		code string
	}{
		"trusted":             {RoleOptions{Trusts: []string{userARN}}, nil, ""},
		"trusted account":     {RoleOptions{Trusts: []string{"arn:aws:iam::111122223333:root"}}, nil, ""},
		"not trusted":         {RoleOptions{Trusts: []string{"arn:aws:iam::111122223333:user/other"}}, nil, "AccessDenied"},
		"no such role":        {RoleOptions{}, func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(farRole) }, "AccessDenied"},
		"external id missing": {RoleOptions{Trusts: []string{userARN}, ExternalID: "x"}, nil, "AccessDenied"},
		"external id wrong":   {RoleOptions{Trusts: []string{userARN}, ExternalID: "x"}, func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("yy") }, "AccessDenied"},
		"external id unasked": {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("yy") }, ""},
		"refuses tags": {RoleOptions{Trusts: []string{userARN}, RefusesTags: true}, func(in *sts.AssumeRoleInput) {
			in.Tags = []types.Tag{{Key: aws.String("env"), Value: aws.String("dev")}}
		}, "AccessDenied"},
		"refuses tags, none":  {RoleOptions{Trusts: []string{userARN}, RefusesTags: true}, nil, ""},
		"refuses identity":    {RoleOptions{Trusts: []string{userARN}, RefusesSourceIdentity: true}, func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("me") }, "AccessDenied"},
		"too long for role":   {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(3601) }, "ValidationError"},
		"too short":           {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(899) }, "ValidationError"},
		"name with a slash":   {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) { in.RoleSessionName = aws.String("dev_x/y") }, "ValidationError"},
		"policy is too long":  {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) { in.Policy = aws.String(denyAll + strings.Repeat(" ", 2048)) }, "ValidationError"},
		"policy is no policy": {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) { in.Policy = aws.String(`{"Statement":[{"Effect":"Maybe"}]}`) }, "MalformedPolicyDocument"},
		"tag value impossible": {RoleOptions{Trusts: []string{userARN}}, func(in *sts.AssumeRoleInput) {
			in.Tags = []types.Tag{{Key: aws.String("env"), Value: aws.String("a;b")}}
		}, "ValidationError"},
		"tag in a condition": {RoleOptions{TrustPolicy: `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"` + userARN + `"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{"aws:RequestTag/env":"prod"}}}]}`},
			func(in *sts.AssumeRoleInput) {
				in.Tags = []types.Tag{{Key: aws.String("env"), Value: aws.String("dev")}}
			}, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			a := StartAWS(t)
			a.Role(runRole, c.role)
			in := &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("waymark-1")}
			if c.set != nil {
				c.set(in)
			}
			_, err := serviceSTS(a).AssumeRole(t.Context(), in)
			if got := errorCode(err); got != c.code {
				t.Errorf("AssumeRole: %v, want code %q", err, c.code)
			}
			if got := a.AssumeRoles(); len(got) != 1 || got[0].Err != c.code {
				t.Errorf("recorded %+v, want one call with code %q", got, c.code)
			}
		})
	}
}

// TestAWSChainsRoles holds what differs where a session assumes a role.
func TestAWSChainsRoles(t *testing.T) {
	a := StartAWS(t)
	a.Role(runRole, RoleOptions{Trusts: []string{userARN}, MaxDuration: 12 * time.Hour})
	a.Role(farRole, RoleOptions{Trusts: []string{runRole}, MaxDuration: 12 * time.Hour})
	a.Role(farRole+"2", RoleOptions{Trusts: []string{runRole}, RefusesSourceIdentity: true})
	chain := func(policy, source string, in *sts.AssumeRoleInput) error {
		first := &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("run")}
		if policy != "" {
			first.Policy = &policy
		}
		if source != "" {
			first.SourceIdentity = &source
		}
		keys := assumeRole(t, serviceSTS(a), first)
		in.RoleSessionName = aws.String("account")
		_, err := stsClient(a, *keys.AccessKeyId, *keys.SecretAccessKey, *keys.SessionToken).AssumeRole(t.Context(), in)
		return err
	}
	allow := func(role string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Resource":"` + role + `"}]}`
	}
	for name, c := range map[string]struct {
		policy, source string
		in             sts.AssumeRoleInput
		code           string
	}{
		"plain":                      {"", "", sts.AssumeRoleInput{RoleArn: aws.String(farRole)}, ""},
		"longer than an hour":        {"", "", sts.AssumeRoleInput{RoleArn: aws.String(farRole), DurationSeconds: aws.Int32(3601)}, "ValidationError"},
		"session policy names it":    {allow(farRole), "", sts.AssumeRoleInput{RoleArn: aws.String(farRole)}, ""},
		"session policy names other": {allow(farRole + "2"), "", sts.AssumeRoleInput{RoleArn: aws.String(farRole)}, "AccessDenied"},
		"identity sticks":            {"", "run-1", sts.AssumeRoleInput{RoleArn: aws.String(farRole + "2")}, "AccessDenied"},
		"identity stays":             {"", "run-1", sts.AssumeRoleInput{RoleArn: aws.String(farRole), SourceIdentity: aws.String("run-1")}, ""},
		"identity cannot change":     {"", "run-1", sts.AssumeRoleInput{RoleArn: aws.String(farRole), SourceIdentity: aws.String("run-2")}, "AccessDenied"},
	} {
		if err := chain(c.policy, c.source, &c.in); errorCode(err) != c.code {
			t.Errorf("%s: %v, want code %q", name, err, c.code)
		}
	}
}

// TestAWSChecksSignatures plays keys, tokens, clocks and bodies that are wrong.
func TestAWSChecksSignatures(t *testing.T) {
	a := StartAWS(t)
	a.Role(runRole, RoleOptions{Trusts: []string{userARN}})
	id, secret := a.Service()
	keys := assumeRole(t, stsClient(a, id, secret, ""), &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("run")})
	identity := func(id, secret, token string) string {
		_, err := stsClient(a, id, secret, token).GetCallerIdentity(context.Background(), nil)
		return errorCode(err)
	}
	for name, c := range map[string][2]string{
		"right":         {identity(id, secret, ""), ""},
		"unknown key":   {identity(id+"x", secret, ""), "InvalidClientTokenId"},
		"wrong secret":  {identity(id, secret+"x", ""), "SignatureDoesNotMatch"},
		"session":       {identity(*keys.AccessKeyId, *keys.SecretAccessKey, *keys.SessionToken), ""},
		"no token":      {identity(*keys.AccessKeyId, *keys.SecretAccessKey, ""), "InvalidClientTokenId"},
		"foreign token": {identity(id, secret, *keys.SessionToken), "InvalidClientTokenId"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: code %q, want %q", name, c[0], c[1])
		}
	}
	a.Clock(6 * time.Minute)
	if code := identity(id, secret, ""); code != "SignatureDoesNotMatch" {
		t.Errorf("a clock 6 min behind: code %q", code)
	}
	a.Clock(0)
	a.ExpireSessions()
	if code := identity(*keys.AccessKeyId, *keys.SecretAccessKey, *keys.SessionToken); code != "ExpiredToken" {
		t.Errorf("an expired session: code %q", code)
	}
	a.Fail("sts", "GetCallerIdentity", "Throttling", 400, 1)
	if first, second := identity(id, secret, ""), identity(id, secret, ""); first != "Throttling" || second != "" {
		t.Errorf("asked for one fault: codes %q and %q", first, second)
	}
}
