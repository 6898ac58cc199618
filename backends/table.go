package backends

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// table looks at a table of locks and hardens it.
type table struct {
	*connection
	store Store
}

func (t *table) name() *string { return aws.String(t.store.Name) }

func (t *table) facets() []facet {
	const describe, update = "dynamodb:DescribeTable", "dynamodb:UpdateTable"
	return []facet{
		{"exists", t.wantExists(), describe, "dynamodb:CreateTable", t.exists, t.create},
		{"billing", "on demand", describe, update, t.billing, t.setBilling},
		{"point-in-time recovery", "on", "dynamodb:DescribeContinuousBackups", "dynamodb:UpdateContinuousBackups", t.recovery, t.setRecovery},
		{"deletion protection", "on", describe, update, t.protection, t.setProtection},
		{"encryption", "a key that AWS owns, or one of yours", describe, "", t.encryption, nil},
	}
}

func (t *table) wantExists() string { return "in " + t.region + ", by LockID (S)" }

func (t *table) describe(ctx context.Context) (*types.TableDescription, error) {
	out, err := t.tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: t.name()})
	if err != nil {
		return nil, err
	}
	if out.Table == nil {
		return &types.TableDescription{}, nil
	}
	return out.Table, nil
}

func (t *table) exists(ctx context.Context) (finding, error) {
	is, err := t.describe(ctx)
	if has(err, "ResourceNotFoundException") {
		return finding{status: StatusMissing, detail: "make it with `waymark backend bootstrap`, or correct the name"}, nil
	}
	if err != nil {
		return finding{}, err
	}
	kind := types.ScalarAttributeType("")
	for _, a := range is.AttributeDefinitions {
		if aws.ToString(a.AttributeName) == "LockID" {
			kind = a.AttributeType
		}
	}
	if len(is.KeySchema) != 1 || aws.ToString(is.KeySchema[0].AttributeName) != "LockID" || kind != types.ScalarAttributeTypeS {
		text := "its key must be LockID, a string, alone, and a key cannot be changed: name another table, or remove this one"
		return finding{status: StatusWeaker, have: "in " + t.region + ", by another key", detail: text, blocked: text}, nil
	}
	f := finding{status: StatusOK, have: t.wantExists()}
	if owner := accountOf(aws.ToString(is.TableArn)); t.store.Account != "" && owner != "" && owner != t.store.Account {
		f.blocked = fmt.Sprintf("this is a table of account %s, and the locks belong into account %s: use credentials of that account", owner, t.store.Account)
		f.status, f.have, f.detail = StatusWeaker, "of account "+owner, f.blocked
	}
	return f, nil
}

// accountOf is the account in an ARN; empty where there is none.
func accountOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

func (t *table) create(ctx context.Context) error {
	_, err := t.tables.CreateTable(ctx, &dynamodb.CreateTableInput{TableName: t.name(), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions:      []types.AttributeDefinition{{AttributeName: aws.String("LockID"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:                 []types.KeySchemaElement{{AttributeName: aws.String("LockID"), KeyType: types.KeyTypeHash}},
		DeletionProtectionEnabled: aws.Bool(true)})
	if err != nil && !has(err, "ResourceInUseException") { // somebody else makes it just now
		return err
	}
	return t.settled(ctx)
}

// settled waits until the table takes changes.
func (t *table) settled(ctx context.Context) error {
	return dynamodb.NewTableExistsWaiter(t.tables, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 200*time.Millisecond, 5*time.Second
	}).Wait(ctx, &dynamodb.DescribeTableInput{TableName: t.name()}, makingPatience)
}

// update changes the table, which takes one change at a time.
func (t *table) update(ctx context.Context, in *dynamodb.UpdateTableInput) error {
	if err := t.settled(ctx); err != nil {
		return err
	}
	in.TableName = t.name()
	if _, err := t.tables.UpdateTable(ctx, in); err != nil {
		return err
	}
	return t.settled(ctx)
}

func (t *table) billing(ctx context.Context) (finding, error) {
	is, err := t.describe(ctx)
	if err != nil {
		return finding{}, err
	}
	if is.BillingModeSummary != nil && is.BillingModeSummary.BillingMode == types.BillingModePayPerRequest {
		return finding{status: StatusOK, have: "on demand"}, nil
	}
	return finding{status: StatusWeaker, have: "provisioned", detail: "runs that start together may be throttled"}, nil
}

func (t *table) setBilling(ctx context.Context) error {
	return t.update(ctx, &dynamodb.UpdateTableInput{BillingMode: types.BillingModePayPerRequest})
}

func (t *table) recovery(ctx context.Context) (finding, error) {
	out, err := t.tables.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: t.name()})
	if err != nil {
		return finding{}, err
	}
	if b := out.ContinuousBackupsDescription; b != nil && b.PointInTimeRecoveryDescription != nil &&
		b.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus == types.PointInTimeRecoveryStatusEnabled {
		return finding{status: StatusOK, have: "on"}, nil
	}
	return finding{status: StatusMissing, have: "off"}, nil
}

func (t *table) setRecovery(ctx context.Context) error {
	if err := t.settled(ctx); err != nil {
		return err
	}
	_, err := t.tables.UpdateContinuousBackups(ctx, &dynamodb.UpdateContinuousBackupsInput{TableName: t.name(),
		PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)}})
	return err
}

func (t *table) protection(ctx context.Context) (finding, error) {
	is, err := t.describe(ctx)
	if err != nil {
		return finding{}, err
	}
	if aws.ToBool(is.DeletionProtectionEnabled) {
		return finding{status: StatusOK, have: "on"}, nil
	}
	return finding{status: StatusMissing, have: "off"}, nil
}

func (t *table) setProtection(ctx context.Context) error {
	return t.update(ctx, &dynamodb.UpdateTableInput{DeletionProtectionEnabled: aws.Bool(true)})
}

// encryption is told and never changed: every table is encrypted.
func (t *table) encryption(ctx context.Context) (finding, error) {
	is, err := t.describe(ctx)
	if err != nil {
		return finding{}, err
	}
	f := finding{status: StatusOK, have: "a key that AWS owns"}
	if s := is.SSEDescription; s != nil && s.KMSMasterKeyArn != nil {
		f.have = "aws:kms by " + *s.KMSMasterKeyArn
		if s.Status == types.SSEStatusUpdating || s.Status == types.SSEStatusEnabling {
			f.detail = "it changes just now"
		}
		if s.InaccessibleEncryptionDateTime != nil {
			f.status, f.detail = StatusWeaker, "DynamoDB cannot use the key: enable it, or restore its policy"
		}
	}
	return f, nil
}
