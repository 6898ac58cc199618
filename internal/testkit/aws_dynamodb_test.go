package testkit

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// dynamoClient returns the real client with these keys, which asks only once.
func dynamoClient(a *AWS, region, id, secret, token string) *dynamodb.Client {
	return dynamodb.NewFromConfig(aws.Config{Region: region, BaseEndpoint: aws.String(a.Endpoints()["dynamodb"]),
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token), RetryMaxAttempts: 1})
}

func serviceDynamo(a *AWS, region string) *dynamodb.Client {
	id, secret := a.Service()
	return dynamoClient(a, region, id, secret, "")
}

func lockItem(id, info string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"LockID": &types.AttributeValueMemberS{Value: id}, "Info": &types.AttributeValueMemberS{Value: info}}
}

func lockKey(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"LockID": &types.AttributeValueMemberS{Value: id}}
}

// TestAWSTableSettings holds what new tables have and what the kit keeps.
func TestAWSTableSettings(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	a.NeedDynamoDB()
	a.KMSKey("arn:aws:kms:eu-central-1:111122223333:key/0000", "alias/state")
	c, name := serviceDynamo(a, "eu-central-1"), aws.String("locks")
	created, err := c.CreateTable(ctx, &dynamodb.CreateTableInput{TableName: name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions:      []types.AttributeDefinition{{AttributeName: aws.String("LockID"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:                 []types.KeySchemaElement{{AttributeName: aws.String("LockID"), KeyType: types.KeyTypeHash}},
		DeletionProtectionEnabled: aws.Bool(true), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := dynamodb.NewTableExistsWaiter(c).Wait(ctx, &dynamodb.DescribeTableInput{TableName: name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	table := func() *types.TableDescription {
		out, err := c.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: name})
		if err != nil {
			t.Fatal(err)
		}
		return out.Table
	}
	if got := table(); *got.TableArn != "arn:aws:dynamodb:eu-central-1:111122223333:table/locks" || !*got.DeletionProtectionEnabled || got.SSEDescription != nil ||
		got.BillingModeSummary.BillingMode != types.BillingModePayPerRequest || *created.TableDescription.TableArn != *got.TableArn {
		t.Errorf("a new table is %+v", got)
	}
	tags, err := c.ListTagsOfResource(ctx, &dynamodb.ListTagsOfResourceInput{ResourceArn: created.TableDescription.TableArn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Value != "b" {
		t.Errorf("tags = %+v, %v", tags, err)
	}
	recovery := func() types.PointInTimeRecoveryStatus {
		out, err := c.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: name})
		if err != nil {
			t.Fatal(err)
		}
		return out.ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus
	}
	before := recovery()
	if _, err := c.UpdateContinuousBackups(ctx, &dynamodb.UpdateContinuousBackupsInput{TableName: name,
		PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)}}); err != nil {
		t.Fatal(err)
	}
	if after := recovery(); before != types.PointInTimeRecoveryStatusDisabled || after != types.PointInTimeRecoveryStatusEnabled {
		t.Errorf("recovery is %s, then %s", before, after)
	}
	if _, err := c.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: name}); errorCode(err) != "ValidationException" {
		t.Errorf("deleting a protected table: %v", err)
	}
	if _, err := c.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: name, DeletionProtectionEnabled: aws.Bool(false),
		SSESpecification: &types.SSESpecification{Enabled: aws.Bool(true), KMSMasterKeyId: aws.String("alias/state")}}); err != nil {
		t.Fatal(err)
	}
	if got := table(); *got.DeletionProtectionEnabled || got.SSEDescription == nil || !strings.HasSuffix(*got.SSEDescription.KMSMasterKeyArn, "key/0000") {
		t.Errorf("the updated table is %+v", got)
	}
	if _, err := c.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: name}); err != nil {
		t.Error(err)
	}
	if _, err := c.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: name, DeletionProtectionEnabled: aws.Bool(true)}); errorCode(err) != "ResourceNotFoundException" {
		t.Errorf("updating no table: %v", err)
	}
	if _, err := c.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: name}); errorCode(err) != "TableNotFoundException" {
		t.Errorf("backups of no table: %v", err)
	}
}

// TestAWSItems holds conditions, leading keys, and that accounts and Regions are
// apart.
func TestAWSItems(t *testing.T) {
	a, ctx := StartAWS(t), t.Context()
	a.CreateTable("locks", "", "")
	a.CreateTable("locks", "eu-central-1", "")
	full := serviceDynamo(a, "us-east-1")
	locks := aws.String("locks")
	take := func(c *dynamodb.Client, id string) string {
		_, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: locks, Item: lockItem(id, "{}"), ConditionExpression: aws.String("attribute_not_exists(LockID)")})
		return errorCode(err)
	}
	free := func(c *dynamodb.Client, id, info string) string {
		_, err := c.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: locks, Key: lockKey(id), ConditionExpression: aws.String("Info = :i"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":i": &types.AttributeValueMemberS{Value: info}}})
		return errorCode(err)
	}
	a.Role(runRole, RoleOptions{Trusts: []string{userARN}})
	k := assumeRole(t, serviceSTS(a), &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("run"), Policy: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["dynamodb:GetItem","dynamodb:PutItem","dynamodb:DeleteItem"],"Resource":"arn:aws:dynamodb:us-east-1:111122223333:table/locks",
		"Condition":{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["states/one","states/one-md5"]}}}}`)})
	narrow := dynamoClient(a, "us-east-1", *k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	id, secret := a.Principal("arn:aws:iam::" + s3Account + ":user/other")
	for _, c := range []struct{ name, got, want string }{
		{"take", take(narrow, "states/one"), ""},
		{"take again", take(narrow, "states/one"), "ConditionalCheckFailedException"},
		{"take another's", take(narrow, "states/two"), "AccessDeniedException"},
		{"take by full rights", take(full, "states/two"), ""},
		{"free another's", free(narrow, "states/two", "{}"), "AccessDeniedException"},
		{"free what changed", free(narrow, "states/one", "{1}"), "ConditionalCheckFailedException"},
		{"free", free(narrow, "states/one", "{}"), ""},
		{"another Region", take(serviceDynamo(a, "eu-central-1"), "states/two"), ""},
		{"no table there", take(serviceDynamo(a, "eu-west-1"), "states/two"), "ResourceNotFoundException"},
		{"another account", take(dynamoClient(a, "us-east-1", id, secret, ""), "states/two"), "ResourceNotFoundException"},
	} {
		if c.got != c.want {
			t.Errorf("%s: code %q, want %q", c.name, c.got, c.want)
		}
	}
	scan, err := full.Scan(ctx, &dynamodb.ScanInput{TableName: locks})
	if err != nil || len(scan.Items) != 1 || !reflect.DeepEqual(scan.Items[0], lockItem("states/two", "{}")) {
		t.Errorf("scan = %+v, %v", scan, err)
	}
	query, err := full.Query(ctx, &dynamodb.QueryInput{TableName: locks, KeyConditionExpression: aws.String("LockID = :id"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":id": &types.AttributeValueMemberS{Value: "states/two"}}})
	if err != nil || len(query.Items) != 1 {
		t.Errorf("query = %+v, %v", query, err)
	}
	if _, err := narrow.Scan(ctx, &dynamodb.ScanInput{TableName: locks}); errorCode(err) != "AccessDeniedException" {
		t.Errorf("scan by the session: %v", err)
	}
}

func TestAWSDatabasesAreApart(t *testing.T) {
	first, second := StartAWS(t), StartAWS(t)
	first.CreateTable("locks", "", "")
	second.CreateTable("locks", "", "")
	if _, err := serviceDynamo(first, "us-east-1").PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("locks"), Item: lockItem("a", "{}")}); err != nil {
		t.Fatal(err)
	}
	got, err := serviceDynamo(second, "us-east-1").GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("locks"), Key: lockKey("a")})
	if err != nil || got.Item != nil {
		t.Errorf("the second knows the first one's item: %+v, %v", got, err)
	}
}

func TestDynaliteMissingNamesTheScript(t *testing.T) {
	root := t.TempDir()
	if dir, err := findDynalite(root); err == nil || !strings.Contains(err.Error(), "run scripts/dynalite.sh") {
		t.Errorf("findDynalite = %q, %v, want an error that names the script", dir, err)
	}
}

// TestDynaliteIsPinnedWithoutAddresses holds that the lock file fits every
// registry: it has hashes, and no addresses to download from.
func TestDynaliteIsPinnedWithoutAddresses(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(root, "tools", "dynalite", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(lock); strings.Contains(text, `"resolved"`) || !strings.Contains(text, `"integrity": "sha512-`) {
		t.Error("package-lock.json must have hashes and no addresses: write it with npm install --omit-lockfile-registry-resolved")
	}
}

func TestDynaliteStopLeavesNothing(t *testing.T) {
	needDynalite(t)
	p, err := startDynalite()
	if err != nil {
		t.Fatal(err)
	}
	if url, err := p.database(AWSAccount, "us-east-1"); err != nil || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("database = %q, %v", url, err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if _, err := p.database(AWSAccount, "us-east-1"); err == nil {
		t.Error("a database after the end, want an error")
	}
}
