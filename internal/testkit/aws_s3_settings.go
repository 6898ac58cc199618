package testkit

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// s3Setting is one configuration of a bucket that the kit keeps as it was put.
type s3Setting struct {
	call   string // the name of the calls, after Get and Put
	remove string // the name of the call that deletes it, "" none
	action string // for policies, after Get and Put
	// removeAction differs from that of putting for bucket policies alone.
	removeAction string
	fresh        string // what a new bucket has
	absent       *awsError
	putStatus    int
	json         bool
}

const s3NS = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`

// s3Settings are the settings by the query parameter that names them. The
// defaults are those of AWS since April 2023.
var s3Settings = map[string]s3Setting{
	"encryption": {call: "BucketEncryption", remove: "DeleteBucketEncryption", action: "EncryptionConfiguration", putStatus: 200, fresh: "<ServerSideEncryptionConfiguration" + s3NS +
		"><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
		absent: s3Absent("ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found")},
	"publicAccessBlock": {call: "PublicAccessBlock", remove: "DeletePublicAccessBlock", action: "BucketPublicAccessBlock", putStatus: 200, fresh: "<PublicAccessBlockConfiguration" + s3NS +
		"><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
		absent: s3Absent("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")},
	"ownershipControls": {call: "BucketOwnershipControls", remove: "DeleteBucketOwnershipControls", action: "BucketOwnershipControls", putStatus: 200, fresh: "<OwnershipControls" + s3NS +
		"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
		absent: s3Absent("OwnershipControlsNotFoundError", "The bucket ownership controls were not found")},
	"policy": {call: "BucketPolicy", remove: "DeleteBucketPolicy", action: "BucketPolicy", removeAction: "DeleteBucketPolicy", putStatus: 204, json: true,
		absent: s3Absent("NoSuchBucketPolicy", "The bucket policy does not exist")},
	"lifecycle": {call: "BucketLifecycleConfiguration", remove: "DeleteBucketLifecycle", action: "LifecycleConfiguration", putStatus: 200,
		absent: s3Absent("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")},
	"logging": {call: "BucketLogging", action: "BucketLogging", putStatus: 200, fresh: "<BucketLoggingStatus" + s3NS + "></BucketLoggingStatus>"},
	"tagging": {call: "BucketTagging", remove: "DeleteBucketTagging", action: "BucketTagging", putStatus: 204,
		absent: s3Absent("NoSuchTagSet", "The TagSet does not exist")},
}

func s3Absent(code, message string) *awsError {
	return &awsError{Code: code, Message: message, Status: http.StatusNotFound}
}

// operation says what a request with the query parameter asks for.
func (s s3Setting) operation(parameter, method string) (s3Operation, bool) {
	switch {
	case method == http.MethodGet:
		return s3Operation{"Get" + s.call, "Get" + s.action, nil, func(c *s3Call, w http.ResponseWriter) *awsError { return c.getSetting(w, parameter) }}, true
	case method == http.MethodPut:
		return s3Operation{"Put" + s.call, "Put" + s.action, nil, func(c *s3Call, w http.ResponseWriter) *awsError { return c.putSetting(w, parameter) }}, true
	case method == http.MethodDelete && s.remove != "":
		action := s.removeAction
		if action == "" {
			action = "Put" + s.action
		}
		return s3Operation{s.remove, action, nil, func(c *s3Call, w http.ResponseWriter) *awsError { return c.removeSetting(w, parameter) }}, true
	}
	return s3Operation{}, false
}

func (c *s3Call) getSetting(w http.ResponseWriter, parameter string) *awsError {
	c.s3.mu.Lock()
	text, ok := c.known.settings[parameter]
	c.s3.mu.Unlock()
	if !ok {
		refusal := *s3Settings[parameter].absent
		refusal.Fields = [][2]string{{"BucketName", c.bucket}}
		return &refusal
	}
	w.Header().Set("Content-Type", "application/xml")
	if s3Settings[parameter].json {
		w.Header().Set("Content-Type", "application/json")
	}
	_, _ = io.WriteString(w, text)
	return nil
}

func (c *s3Call) putSetting(w http.ResponseWriter, parameter string) *awsError {
	var policy *iamDocument
	if s3Settings[parameter].json {
		doc, err := bucketPolicy(string(c.Body), c.bucket)
		if err != nil {
			return &awsError{Code: "MalformedPolicy", Message: err.Error(), Status: http.StatusBadRequest}
		}
		policy = doc
	} else if err := wellFormed(c.Body); err != nil {
		return &awsError{Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema: " + err.Error(), Status: http.StatusBadRequest}
	}
	c.s3.mu.Lock()
	c.known.settings[parameter] = string(c.Body)
	if policy != nil {
		c.known.policy = policy
	}
	c.s3.mu.Unlock()
	w.WriteHeader(s3Settings[parameter].putStatus)
	return nil
}

// removeSetting forgets what was put. Of encryption AWS keeps the default.
func (c *s3Call) removeSetting(w http.ResponseWriter, parameter string) *awsError {
	c.s3.mu.Lock()
	delete(c.known.settings, parameter)
	if parameter == "encryption" {
		c.known.settings[parameter] = s3Settings[parameter].fresh
	}
	if parameter == "policy" {
		c.known.policy = nil
	}
	c.s3.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// bucketPolicy reads a bucket's policy, which is about that bucket alone.
func bucketPolicy(text, bucket string) (*iamDocument, error) {
	doc, err := parsePolicy(text)
	if err != nil {
		return nil, err
	}
	for i, s := range doc.Statement {
		if s.Principal == nil {
			return nil, fmt.Errorf("statement %d: Missing required field Principal", i)
		}
		if len(s.Resource) == 0 && len(s.NotResource) == 0 {
			return nil, fmt.Errorf("statement %d: Missing required field Resource", i)
		}
		for _, r := range s.Resource {
			if name, _, _ := strings.Cut(arnPart(r, 5), "/"); name != bucket && name != "*" {
				return nil, fmt.Errorf("statement %d: Policy has invalid resource %s", i, r)
			}
		}
	}
	return doc, nil
}

// wellFormed says whether text is one XML document.
func wellFormed(text []byte) error {
	d := xml.NewDecoder(strings.NewReader(string(text)))
	for elements := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && elements > 0 {
			return nil
		} else if errors.Is(err, io.EOF) {
			return errors.New("it is empty")
		} else if err != nil {
			return err
		}
		if _, ok := token.(xml.StartElement); ok {
			elements++
		}
	}
}
