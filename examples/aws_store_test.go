package examples_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waymark-cd/waymark/backends"
)

// storage is what reaches S3 and DynamoDB with these keys.
func (a accounts) storage(id, secret, token string) backends.S3Config {
	return backends.S3Config{Endpoints: a.Endpoints(), AWS: aws.Config{Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: sdkcredentials.NewStaticCredentialsProvider(id, secret, token)}}
}

// The operator's policy allows all that bootstrap and verify ask for.
func TestAnOperatorMakesTheStorage(t *testing.T) {
	a := newAccounts(t)
	a.NeedDynamoDB()
	id, secret := a.Principal("arn:aws:iam::"+tooling+":user/operator", a.policy("operator.json"))
	client := backends.New(a.storage(id, secret, ""))
	stores, err := backends.Stores([]backends.Use{{Spec: request().Backend, Account: tooling}})
	if err != nil || len(stores) != 2 {
		t.Fatalf("%v, %v", stores, err)
	}
	steps, _, err := client.Plan(t.Context(), stores, backends.Hardening{})
	if err != nil || len(steps) == 0 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	if err := client.Bootstrap(t.Context(), steps, nil); err != nil {
		t.Fatal(err)
	}
	found, err := client.Verify(t.Context(), stores, backends.Hardening{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if p.Status != backends.StatusOK {
			t.Errorf("%+v", p)
		}
	}
	for _, r := range a.Requests() {
		if !r.Allowed {
			t.Errorf("%s on %s was refused", r.Action, r.Resource)
		}
	}
}

// The run role's policy keeps a run to the lock of its own state, too.
func TestARunLocksItsOwnStateAlone(t *testing.T) {
	a := newAccounts(t)
	a.NeedDynamoDB()
	id, secret := a.Principal("arn:aws:iam::" + tooling + ":user/anything")
	owner := backends.New(a.storage(id, secret, ""))
	stores, err := backends.Stores([]backends.Use{{Spec: request().Backend, Account: tooling}})
	if err != nil {
		t.Fatal(err)
	}
	steps, _, err := owner.Plan(t.Context(), stores, backends.Hardening{})
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Bootstrap(t.Context(), steps, nil); err != nil {
		t.Fatal(err)
	}
	k := a.unnarrowed("dev", "research")
	locks := dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: aws.String(a.Endpoints()["dynamodb"]), RetryMaxAttempts: 1,
		Credentials: sdkcredentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)})
	for key, want := range map[string]bool{
		"example-tf-state-dev/research/dev-us-east-1/terraform.tfstate":     true,
		"example-tf-state-dev/research/dev-us-east-1/terraform.tfstate-md5": true,
		"example-tf-state-dev/research/dev-eu-central-1/terraform.tfstate":  false,
		"example-tf-state-dev/risk/dev-us-east-1/terraform.tfstate":         false,
	} {
		_, err := locks.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("example-tf-state-lock-dev"),
			Item: map[string]types.AttributeValue{"LockID": &types.AttributeValueMemberS{Value: key}}})
		if (err == nil) != want {
			t.Errorf("%s: %v", key, err)
		}
	}
}
