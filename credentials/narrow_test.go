package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/internal/testkit"
)

// clients are what code in a run can make of the run's session.
type clients struct {
	s3       *s3.Client
	sts      *sts.Client
	dynamodb *dynamodb.Client
}

func clientsOf(a *testkit.AWS, s credentials.Session) clients {
	cfg := aws.Config{Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: sdkcredentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, s.SessionToken)}
	return clients{
		s3.NewFromConfig(cfg, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = aws.String(a.Endpoints()["s3"]), true }),
		sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = aws.String(a.Endpoints()["sts"]) }),
		dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
			o.Region, o.BaseEndpoint = "eu-central-1", aws.String(a.Endpoints()["dynamodb"])
		}),
	}
}

func (c clients) get(bucket, key string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		return err
	}
}

func (c clients) put(bucket, key string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
		return err
	}
}

func (c clients) remove(bucket, key string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
		return err
	}
}

func (c clients) list(bucket, prefix string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
		return err
	}
}

// item is put into the table, read and removed.
func (c clients) item(table, id string) func(context.Context) error {
	return func(ctx context.Context) error {
		key := map[string]types.AttributeValue{"LockID": &types.AttributeValueMemberS{Value: id}}
		_, put := c.dynamodb.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: key})
		_, get := c.dynamodb.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: key})
		_, remove := c.dynamodb.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &table, Key: key})
		if (put == nil) != (get == nil) || (put == nil) != (remove == nil) {
			return fmt.Errorf("put: %v, get: %v, delete: %v", put, get, remove)
		}
		return put
	}
}

func (c clients) scan(table string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.dynamodb.Scan(ctx, &dynamodb.ScanInput{TableName: &table})
		return err
	}
}

func (c clients) assume(role string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("code")})
		return err
	}
}

// TestWhatCodeCanDoWithItsSession asks as code in a run would. The role itself
// may do anything; the session's policy alone stands in the way.
func TestWhatCodeCanDoWithItsSession(t *testing.T) {
	a, b := start(t)
	const prodRole, denied = "arn:aws:iam::777788889999:role/InfraBuildRole", "AccessDenied"
	a.Role(prodRole, testkit.RoleOptions{Trusts: []string{runRole}})
	a.Role("arn:aws:iam::444455556666:role/Admin", testkit.RoleOptions{Trusts: []string{runRole}})
	a.CreateBucket("states-dev", "", "")
	a.CreateBucket("states-prod", "", "")
	a.CreateTable("locks-dev", "eu-central-1", "")
	a.PutObject("states-dev", "risk/dev-us-east-1/terraform.tfstate", []byte("secret"))
	a.PutObject("states-prod", stateKey, []byte("secret"))
	lock := stateKey + ".tflock"
	open := func(edits ...func(*credentials.Request)) clients {
		g, err := b.Open(t.Context(), request(append(edits, with("use_lockfile", "true", "dynamodb_table", "locks-dev"))...))
		must(t, err)
		return clientsOf(a, g.Run)
	}
	plan, apply := open(planning), open()
	chained := open(func(r *credentials.Request) { r.AccountRole = applyRole })
	for _, c := range []struct {
		name string
		try  func(context.Context) error
		code string
	}{
		{"plan: a state that is not there yet", plan.get("states-dev", stateKey), "NoSuchKey"},
		{"plan: takes the lock", plan.put("states-dev", lock), ""},
		{"plan: reads the lock", plan.get("states-dev", lock), ""},
		{"plan: frees the lock", plan.remove("states-dev", lock), ""},
		{"plan: lists workspaces", plan.list("states-dev", "env:/"), ""},
		{"plan: writes its state", plan.put("states-dev", stateKey), denied},
		{"apply: writes its state", apply.put("states-dev", stateKey), ""},
		{"apply: reads its state", apply.get("states-dev", stateKey), ""},
		{"apply: removes its state", apply.remove("states-dev", stateKey), denied},
		{"apply: reads another's", apply.get("states-dev", "risk/dev-us-east-1/terraform.tfstate"), denied},
		{"apply: writes another's", apply.put("states-dev", "risk/dev-us-east-1/terraform.tfstate"), denied},
		{"apply: locks another's", apply.put("states-dev", "risk/dev-us-east-1/terraform.tfstate.tflock"), denied},
		{"apply: looks for others", apply.list("states-dev", "risk/"), denied},
		{"apply: reads prod's", apply.get("states-prod", stateKey), denied},
		{"apply: lists prod's", apply.list("states-prod", "env:/"), denied},
		{"plan: its lock's item", plan.item("locks-dev", "states-dev/"+stateKey), ""},
		{"apply: its digest's item", apply.item("locks-dev", "states-dev/"+stateKey+"-md5"), ""},
		{"apply: another's item", apply.item("locks-dev", "states-dev/risk/dev-us-east-1/terraform.tfstate"), denied + "Exception"},
		{"apply: all items", apply.scan("locks-dev"), denied + "Exception"},
		{"apply: its account", apply.assume("arn:aws:iam::444455556666:role/Admin"), ""},
		{"apply: another account", apply.assume(prodRole), denied},
		{"with a role: that role", chained.assume(applyRole), ""},
		{"with a role: another of the account", chained.assume("arn:aws:iam::444455556666:role/Admin"), denied},
	} {
		if got := codeOf(c.try(t.Context())); got != c.code {
			t.Errorf("%s: %q, want %q", c.name, got, c.code)
		}
	}
}

// codeOf is the code of AWS's answer, or the error's text.
func codeOf(err error) string {
	var said smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &said):
		return said.ErrorCode()
	}
	return err.Error()
}

// CodeCommit takes the password of a user and that of a role's session, which
// it then refuses for what the session may not do.
func TestCodeCommitTakesTheCredentials(t *testing.T) {
	a, b := start(t)
	url := a.CodeCommit(testkit.NewRemote(t), "eu-central-1", "infra")
	g, err := b.Open(t.Context(), request())
	must(t, err)
	if answer := list(t, b, url); !strings.HasPrefix(answer, "200 OK ") || !strings.Contains(answer, "git-upload-pack") {
		t.Errorf("user: %s", answer)
	}
	be(t, g.Run.AccessKeyID, g.Run.SecretAccessKey, g.Run.SessionToken)
	if answer := list(t, broker(t, a), url); !strings.Contains(answer, "AccessDenied") {
		t.Errorf("session: %s", answer)
	}
	be(t, g.Run.AccessKeyID, g.Run.SecretAccessKey, "another")
	if answer := list(t, broker(t, a), url); !strings.Contains(answer, "WrongSessionToken") {
		t.Errorf("another session: %s", answer)
	}
}

// list asks a remote for its refs, as git does first.
func list(t *testing.T, b *credentials.Broker, url string) string {
	t.Helper()
	user, password, err := b.GitCredentials(t.Context(), url, "eu-central-1")
	must(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/info/refs?service=git-upload-pack", nil)
	must(t, err)
	r.SetBasicAuth(user, password)
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.Status + " " + string(text)
}
