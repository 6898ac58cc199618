package backends_test

import (
	"context"
	"encoding/json"
	"maps"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

const account = testkit.AWSAccount

// cloud is a stand-in for AWS and what reaches it.
type cloud struct {
	*testkit.AWS
	states *backends.Client
}

// startCloud gives an empty AWS and a client of the service's own identity.
func startCloud(t *testing.T) *cloud {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a stand-in for AWS")
	}
	kit := testkit.StartAWS(t)
	c := &cloud{AWS: kit}
	c.states = c.as(kit.Service())
	return c
}

// as gives a client of another identity, which asks once.
func (c *cloud) as(id, secret string) *backends.Client {
	return backends.New(backends.S3Config{Endpoints: c.Endpoints(), AWS: aws.Config{Region: "us-east-1",
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: keys(id, secret)}})
}

// spec is a backend whose addresses the configuration names, in the new spelling.
func (c *cloud) spec(t *testing.T, values map[string]string) release.BackendSpec {
	t.Helper()
	ends := c.Endpoints()
	text, err := json.Marshal(map[string]string{"s3": ends["s3"], "dynamodb": ends["dynamodb"], "sts": ends["sts"]})
	must(t, err)
	all := map[string]string{"bucket": "states-dev", "key": "research/dev-global/terraform.tfstate", "region": "us-east-1",
		"encrypt": "true", "endpoints": string(text), "use_path_style": "true"}
	maps.Copy(all, values)
	return release.BackendSpec{Type: "s3", Values: all}
}

// keys is an identity by its access key.
func keys(id, secret string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, nil
	})
}

// buckets is S3 as a person with all rights reaches it by hand.
func (c *cloud) buckets() *awss3.Client {
	return awss3.New(awss3.Options{Region: "us-east-1", BaseEndpoint: aws.String(c.Endpoints()["s3"]), UsePathStyle: true, Credentials: keys(c.Service())})
}

// tables is DynamoDB as a person with all rights reaches it by hand.
func (c *cloud) tables() *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String(c.Endpoints()["dynamodb"]), Credentials: keys(c.Service())})
}

// item gives the strings of an item.
func (c *cloud) item(t *testing.T, table, id string) map[string]string {
	t.Helper()
	out, err := c.tables().GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String(table),
		Key: map[string]dbtypes.AttributeValue{"LockID": &dbtypes.AttributeValueMemberS{Value: id}}})
	must(t, err)
	item := map[string]string{}
	for name, v := range out.Item {
		if s, ok := v.(*dbtypes.AttributeValueMemberS); ok {
			item[name] = s.Value
		}
	}
	return item
}

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
