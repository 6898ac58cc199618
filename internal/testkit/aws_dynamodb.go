package testkit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dynamoKit is the DynamoDB of one AWS: dynalite keeps tables and items, the kit
// what it lacks.
type dynamoKit struct {
	aws *AWS

	mu        sync.Mutex
	databases map[string]string // URL of dynalite by account and Region
	tables    map[string]*dynamoTable
}

// dynamoTable is what dynalite does not know of a table.
type dynamoTable struct {
	mu          sync.Mutex // held while a call for the table's settings goes on
	hash        string     // name of the partition key
	protected   bool
	encryption  map[string]any // SSEDescription; nil is the key that AWS owns
	recovery    bool           // to a point in time
	recoveryDay int
	since       time.Time
	tags        map[string]string
}

// dynamoDocument is a request or an answer.
type dynamoDocument = map[string]any

// dynamoCall is one request to DynamoDB.
type dynamoCall struct {
	*awsCall
	kit   *dynamoKit
	name  string // of the call
	in    dynamoDocument
	table string
}

const dynamoTarget = "DynamoDB_20120810."

// dynamoOperations are the calls that the kit knows, and what answers them; nil
// is dynalite alone.
var dynamoOperations = map[string]func(*dynamoCall, http.ResponseWriter) *awsError{
	"GetItem": nil, "PutItem": nil, "DeleteItem": nil, "UpdateItem": nil, "Query": nil, "Scan": nil, "ListTables": nil, "DescribeTimeToLive": nil,
	"CreateTable":               (*dynamoCall).createTable,
	"DescribeTable":             (*dynamoCall).describeTable,
	"UpdateTable":               (*dynamoCall).updateTable,
	"DeleteTable":               (*dynamoCall).deleteTable,
	"DescribeContinuousBackups": (*dynamoCall).describeBackups,
	"UpdateContinuousBackups":   (*dynamoCall).updateBackups,
	"TagResource":               (*dynamoCall).tag,
	"UntagResource":             (*dynamoCall).untag,
	"ListTagsOfResource":        (*dynamoCall).listTags,
}

func (a *AWS) dynamoService() *awsService {
	a.dynamo = &dynamoKit{aws: a, databases: map[string]string{}, tables: map[string]*dynamoTable{}}
	return &awsService{name: "dynamodb", handle: a.dynamo.serve, refuse: refuseDynamo, codes: jsonAWSCodes()}
}

// NeedDynamoDB says that the test is going to use DynamoDB: it is skipped with
// -short, and fails at once where dynalite or node is missing. Without this call
// the first request does.
func (a *AWS) NeedDynamoDB() {
	a.t.Helper()
	needDynalite(a.t)
}

// CreateTable makes a table for state locks, with the partition key LockID, as
// somebody would do by hand: paid per request, without deletion protection or
// recovery to a point in time. With "" it is in us-east-1, of AWSAccount. It
// implies NeedDynamoDB.
func (a *AWS) CreateTable(name, region, account string) {
	a.t.Helper()
	a.NeedDynamoDB()
	if region == "" {
		region = "us-east-1"
	}
	if account == "" {
		account = AWSAccount
	}
	answer, status := a.dynamo.send(account, region, "CreateTable", dynamoDocument{"TableName": name, "BillingMode": "PAY_PER_REQUEST",
		"AttributeDefinitions": []any{dynamoDocument{"AttributeName": "LockID", "AttributeType": "S"}},
		"KeySchema":            []any{dynamoDocument{"AttributeName": "LockID", "KeyType": "HASH"}}})
	if status != http.StatusOK {
		a.t.Fatalf("creating the table %s: %d %v", name, status, answer)
	}
	a.dynamo.mu.Lock()
	a.dynamo.tables[dynamoKey(account, region, name)] = &dynamoTable{hash: "LockID", tags: map[string]string{}}
	a.dynamo.mu.Unlock()
	a.dynamo.awaitActive(account, region, name)
}

// PutItem stores an item of strings in a table of AWSAccount in us-east-1,
// without asking anybody.
func (a *AWS) PutItem(table string, item map[string]string) {
	a.t.Helper()
	values := dynamoDocument{}
	for name, text := range item {
		values[name] = dynamoDocument{"S": text}
	}
	if answer, status := a.dynamo.send(AWSAccount, "us-east-1", "PutItem", dynamoDocument{"TableName": table, "Item": values}); status != http.StatusOK {
		a.t.Fatalf("storing an item in %s: %d %v", table, status, answer)
	}
}

// awaitActive waits until the table can be used. Dynalite makes it so at its
// next turn.
func (k *dynamoKit) awaitActive(account, region, name string) {
	k.aws.t.Helper()
	for deadline := time.Now().Add(dynaliteTimeout); time.Now().Before(deadline); {
		answer, _ := k.send(account, region, "DescribeTable", dynamoDocument{"TableName": name})
		if table, _ := answer["Table"].(dynamoDocument); table["TableStatus"] == "ACTIVE" {
			return
		}
	}
	k.aws.t.Fatalf("the table %s is not active after %s", name, dynaliteTimeout)
}

// refuseDynamo writes an error of DynamoDB.
func refuseDynamo(w http.ResponseWriter, _ string, e *awsError) {
	writeDynamo(w, e.Status, dynamoDocument{"__type": "com.amazonaws.dynamodb.v20120810#" + e.Code, "message": e.Message})
}

func writeDynamo(w http.ResponseWriter, status int, v dynamoDocument) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came from JSON
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(text)), 10)) // SDKs compare it
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func dynamoKey(account, region, table string) string { return account + "/" + region + "/" + table }

// serve answers one request.
func (k *dynamoKit) serve(w http.ResponseWriter, call *awsCall) *awsError {
	c := &dynamoCall{awsCall: call, kit: k, name: strings.TrimPrefix(call.Header.Get("X-Amz-Target"), dynamoTarget)}
	run, known := dynamoOperations[c.name]
	if !known {
		return &awsError{Code: "UnknownOperationException", Message: "The test kit does not know the operation " + c.name, Status: http.StatusBadRequest}
	}
	d := json.NewDecoder(bytes.NewReader(call.Body))
	d.UseNumber()
	if err := d.Decode(&c.in); err != nil {
		return &awsError{Code: "SerializationException", Message: err.Error(), Status: http.StatusBadRequest}
	}
	resource := c.resource()
	if refusal := c.authorize(c.name, c.name, resource, c.keys()); refusal != nil {
		return refusal
	}
	if run != nil {
		return run(c, w)
	}
	answer, status := c.send(c.name, c.in)
	writeDynamo(w, status, answer)
	return nil
}

// resource returns the ARN that the request is about, and notes the table.
func (c *dynamoCall) resource() string {
	name, _ := c.in["TableName"].(string)
	if name == "" {
		name, _ = c.in["ResourceArn"].(string)
	}
	if strings.HasPrefix(name, "arn:") {
		c.table = strings.TrimPrefix(arnPart(name, 5), "table/")
		if c.in["TableName"] != nil {
			c.in["TableName"] = c.table
		}
		return name
	}
	c.table = name
	if name == "" {
		return "*"
	}
	return c.arn()
}

func (c *dynamoCall) arn() string {
	return fmt.Sprintf("arn:%s:dynamodb:%s:%s:table/%s", arnPart(c.Caller.arn, 1), c.Region, c.Caller.account(), c.table)
}

// settings returns what the kit keeps of the table, nil where there is none.
func (c *dynamoCall) settings() *dynamoTable {
	c.kit.mu.Lock()
	defer c.kit.mu.Unlock()
	return c.kit.tables[dynamoKey(c.Caller.account(), c.Region, c.table)]
}

// keys returns the condition key of the items that the request names.
func (c *dynamoCall) keys() map[string][]string {
	table := c.settings()
	if table == nil {
		return nil
	}
	var out []string
	add := func(value any) {
		typed, _ := value.(dynamoDocument)
		for _, v := range typed {
			if s := fmt.Sprint(v); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	for _, part := range []string{"Item", "Key"} {
		if item, ok := c.in[part].(dynamoDocument); ok {
			add(item[table.hash])
		}
	}
	if c.name == "Query" { // each value that the condition may compare the key with
		values, _ := c.in["ExpressionAttributeValues"].(dynamoDocument)
		for _, v := range values {
			add(v)
		}
	}
	if out == nil {
		return nil
	}
	return map[string][]string{"dynamodb:LeadingKeys": out}
}

// send asks dynalite in the caller's account and Region.
func (c *dynamoCall) send(name string, in dynamoDocument) (dynamoDocument, int) {
	return c.kit.send(c.Caller.account(), c.Region, name, in)
}

// send asks dynalite. What keeps it from answering fails the test.
func (k *dynamoKit) send(account, region, name string, in dynamoDocument) (dynamoDocument, int) {
	answer, status, err := k.post(account, region, name, in)
	if err != nil {
		k.aws.t.Errorf("asking dynalite for %s: %v", name, err)
		return dynamoDocument{"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": err.Error()}, http.StatusInternalServerError
	}
	return answer, status
}

func (k *dynamoKit) post(account, region, name string, in dynamoDocument) (dynamoDocument, int, error) {
	url, err := k.database(account, region)
	if err != nil {
		return nil, 0, err
	}
	text, err := json.Marshal(in)
	if err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", dynamoTarget+name)
	r.Header.Set("X-Amz-Date", time.Now().UTC().Format(amzDate))
	// Dynalite wants the form of a signature; the real one was checked before.
	r.Header.Set("Authorization", sigV4Algorithm+" Credential=kit/"+time.Now().UTC().Format("20060102")+"/"+region+"/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		return nil, 0, err
	}
	out := dynamoDocument{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, 0, fmt.Errorf("reading %q: %w", body, err)
	}
	return out, got.StatusCode, nil
}

// database returns the URL of dynalite for an account's Region.
func (k *dynamoKit) database(account, region string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := dynamoKey(account, region, "")
	if url := k.databases[key]; url != "" {
		return url, nil
	}
	p, err := theDynalite()
	if err != nil {
		return "", err
	}
	url, err := p.database(account, region)
	if err == nil {
		k.databases[key] = url
	}
	return url, err
}
