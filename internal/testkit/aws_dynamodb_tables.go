package testkit

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// unixSeconds is the form of times in DynamoDB's JSON.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func dynamoInvalid(format string, args ...any) *awsError {
	return &awsError{Code: "ValidationException", Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// createTable keeps what dynalite ignores, and lets it make the table.
func (c *dynamoCall) createTable(w http.ResponseWriter) *awsError {
	table := &dynamoTable{tags: map[string]string{}}
	if tags, _ := c.in["Tags"].([]any); len(tags) > 0 {
		if refusal := c.authorize("CreateTable", "TagResource", c.arn(), nil); refusal != nil {
			return refusal
		}
		table.addTags(tags)
	}
	schema, _ := c.in["KeySchema"].([]any)
	for _, e := range schema {
		if e, _ := e.(dynamoDocument); e["KeyType"] == "HASH" {
			table.hash, _ = e["AttributeName"].(string)
		}
	}
	if refusal := c.configure(table); refusal != nil {
		return refusal
	}
	delete(c.in, "Tags")
	answer, status := c.send("CreateTable", c.in)
	if status == http.StatusOK {
		c.kit.mu.Lock()
		c.kit.tables[dynamoKey(c.Caller.account(), c.Region, c.table)] = table
		c.kit.mu.Unlock()
		table.describe(answer["TableDescription"])
	}
	writeDynamo(w, status, answer)
	return nil
}

// configure takes the settings that the kit keeps out of the request.
func (c *dynamoCall) configure(table *dynamoTable) *awsError {
	if on, ok := c.in["DeletionProtectionEnabled"].(bool); ok {
		table.protected = on
	}
	if s, ok := c.in["SSESpecification"].(dynamoDocument); ok {
		table.encryption = nil
		if s["Enabled"] == true {
			arn := fmt.Sprintf("arn:%s:kms:%s:%s:key/00000000-0000-0000-0000-000000000000", arnPart(c.Caller.arn, 1), c.Region, c.Caller.account())
			if name, _ := s["KMSMasterKeyId"].(string); name != "" {
				key, known := c.aws.kmsKey(name)
				if !known {
					return dynamoInvalid("KMS validation error: %s is not found; tell the test kit of it by KMSKey", name)
				}
				arn = key.arn
			}
			table.encryption = dynamoDocument{"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": arn}
		}
	}
	delete(c.in, "DeletionProtectionEnabled")
	delete(c.in, "SSESpecification")
	return nil
}

// describe adds what the kit keeps to the description of a table.
func (t *dynamoTable) describe(description any) {
	if d, ok := description.(dynamoDocument); ok {
		d["DeletionProtectionEnabled"] = t.protected
		if t.encryption != nil {
			d["SSEDescription"] = t.encryption
		}
	}
}

func (c *dynamoCall) describeTable(w http.ResponseWriter) *awsError {
	answer, status := c.send("DescribeTable", c.in)
	if table := c.settings(); table != nil {
		table.mu.Lock()
		table.describe(answer["Table"])
		table.mu.Unlock()
	}
	writeDynamo(w, status, answer)
	return nil
}

// updateTable changes what the kit keeps, and lets dynalite change the rest.
func (c *dynamoCall) updateTable(w http.ResponseWriter) *awsError {
	table := c.settings()
	if table == nil {
		return c.noTable("ResourceNotFoundException")
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	if refusal := c.configure(table); refusal != nil {
		return refusal
	}
	name, part := "UpdateTable", "TableDescription"
	if len(c.in) == 1 { // the table's name alone is left
		name, part = "DescribeTable", "Table"
	}
	answer, status := c.send(name, c.in)
	if status == http.StatusOK {
		table.describe(answer[part])
		answer = dynamoDocument{"TableDescription": answer[part]}
	}
	writeDynamo(w, status, answer)
	return nil
}

func (c *dynamoCall) deleteTable(w http.ResponseWriter) *awsError {
	table := c.settings()
	if table == nil {
		return c.noTable("ResourceNotFoundException")
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	if table.protected {
		return dynamoInvalid("Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.")
	}
	answer, status := c.send("DeleteTable", c.in)
	if status == http.StatusOK {
		c.kit.mu.Lock()
		delete(c.kit.tables, dynamoKey(c.Caller.account(), c.Region, c.table))
		c.kit.mu.Unlock()
	}
	writeDynamo(w, status, answer)
	return nil
}

// noTable is the answer where there is no such table. The calls for backups
// have a code of their own.
func (c *dynamoCall) noTable(code string) *awsError {
	message := "Requested resource not found: Table: " + c.table + " not found"
	if code == "TableNotFoundException" {
		message = "Table not found: " + c.table
	}
	return &awsError{Code: code, Message: message, Status: http.StatusBadRequest}
}

func (c *dynamoCall) describeBackups(w http.ResponseWriter) *awsError {
	table := c.settings()
	if table == nil {
		return c.noTable("TableNotFoundException")
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	point := dynamoDocument{"PointInTimeRecoveryStatus": "DISABLED"}
	if table.recovery {
		point = dynamoDocument{"PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": table.recoveryDay,
			"EarliestRestorableDateTime": unixSeconds(table.since), "LatestRestorableDateTime": unixSeconds(c.aws.now())}
	}
	writeDynamo(w, http.StatusOK, dynamoDocument{"ContinuousBackupsDescription": dynamoDocument{"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": point}})
	return nil
}

func (c *dynamoCall) updateBackups(w http.ResponseWriter) *awsError {
	table := c.settings()
	if table == nil {
		return c.noTable("TableNotFoundException")
	}
	wanted, _ := c.in["PointInTimeRecoverySpecification"].(dynamoDocument)
	on, ok := wanted["PointInTimeRecoveryEnabled"].(bool)
	if !ok {
		return dynamoInvalid("1 validation error detected: Value null at 'pointInTimeRecoverySpecification.pointInTimeRecoveryEnabled' failed to satisfy constraint: Member must not be null")
	}
	table.mu.Lock()
	if on && !table.recovery {
		table.since = c.aws.now()
	}
	table.recovery, table.recoveryDay = on, 35
	if days := fmt.Sprint(wanted["RecoveryPeriodInDays"]); wanted["RecoveryPeriodInDays"] != nil {
		_, _ = fmt.Sscan(days, &table.recoveryDay)
	}
	table.mu.Unlock()
	return c.describeBackups(w)
}

// addTags adds tags in the form of DynamoDB.
func (t *dynamoTable) addTags(tags []any) {
	for _, tag := range tags {
		tag, _ := tag.(dynamoDocument)
		t.tags[fmt.Sprint(tag["Key"])] = fmt.Sprint(tag["Value"])
	}
}

func (c *dynamoCall) tag(w http.ResponseWriter) *awsError {
	return c.changeTags(w, func(t *dynamoTable) {
		tags, _ := c.in["Tags"].([]any)
		t.addTags(tags)
	})
}

func (c *dynamoCall) untag(w http.ResponseWriter) *awsError {
	return c.changeTags(w, func(t *dynamoTable) {
		keys, _ := c.in["TagKeys"].([]any)
		for _, key := range keys {
			delete(t.tags, fmt.Sprint(key))
		}
	})
}

// changeTags does the change, and answers with nothing.
func (c *dynamoCall) changeTags(w http.ResponseWriter, change func(*dynamoTable)) *awsError {
	table := c.settings()
	if table == nil {
		return c.noTable("ResourceNotFoundException")
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	change(table)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (c *dynamoCall) listTags(w http.ResponseWriter) *awsError {
	table := c.settings()
	if table == nil {
		return c.noTable("ResourceNotFoundException")
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	tags := []any{}
	for _, key := range slices.Sorted(maps.Keys(table.tags)) {
		tags = append(tags, dynamoDocument{"Key": key, "Value": table.tags[key]})
	}
	writeDynamo(w, http.StatusOK, dynamoDocument{"Tags": tags})
	return nil
}
