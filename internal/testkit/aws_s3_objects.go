package testkit

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// awsKey is a KMS key.
type awsKey struct {
	arn     string
	aliases []string
}

// KMSKey makes a key known, with aliases such as alias/state. What its own
// policy would say is left out: identity policies decide.
func (a *AWS) KMSKey(arn string, aliases ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = append(a.keys, awsKey{arn, aliases})
}

// kmsKey finds a key by its ARN, bare id, alias or alias's ARN.
func (a *AWS) kmsKey(name string) (awsKey, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if strings.HasPrefix(name, "arn:") && strings.HasPrefix(arnPart(name, 5), "alias/") {
		name = arnPart(name, 5)
	}
	for _, k := range a.keys {
		if k.arn == name || arnPart(k.arn, 5) == "key/"+name || slices.Contains(k.aliases, name) {
			return k, true
		}
	}
	return awsKey{}, false
}

// objectOperation says what a request about an object asks for.
func (c *s3Call) objectOperation(query url.Values) (s3Operation, bool) {
	if !onlyHas(query, "versionId", "uploads", "uploadId", "partNumber") {
		return s3Operation{}, false
	}
	version := ""
	if query.Get("versionId") != "" {
		version = "Version"
	}
	upload := query.Has("uploads") || query.Has("uploadId")
	switch {
	case upload && c.Method == http.MethodDelete:
		return s3Operation{"AbortMultipartUpload", "AbortMultipartUpload", nil, (*s3Call).pass}, true
	case upload && (c.Method == http.MethodPost || c.Method == http.MethodPut):
		return s3Operation{"MultipartUpload", "PutObject", nil, (*s3Call).passUpload}, true
	case upload || c.Header.Get("X-Amz-Copy-Source") != "":
		return s3Operation{}, false
	case c.Method == http.MethodGet:
		return s3Operation{"GetObject", "GetObject" + version, nil, (*s3Call).getObject}, true
	case c.Method == http.MethodHead:
		return s3Operation{"HeadObject", "GetObject" + version, nil, (*s3Call).getObject}, true
	case c.Method == http.MethodDelete:
		return s3Operation{"DeleteObject", "DeleteObject" + version, nil, (*s3Call).deleteObject}, true
	case c.Method == http.MethodPut:
		return s3Operation{"PutObject", "PutObject", nil, (*s3Call).putObject}, true
	}
	return s3Operation{}, false
}

// getObject answers GetObject and HeadObject. That an object is not there is
// told only to who may list the bucket.
func (c *s3Call) getObject(w http.ResponseWriter) *awsError {
	c.s3.mu.Lock()
	got := c.s3.forward(c.Request, c.bucket, c.key, nil)
	kept := c.known.headers[objectVersion(c.key, got)]
	c.s3.mu.Unlock()
	if got.Code == http.StatusNotFound && c.judge("s3:ListBucket", "arn:"+arnPart(c.Caller.arn, 1)+":s3:::"+c.bucket, nil, c.owned()) != nil {
		return c.service.codes.denied.error("Access Denied")
	}
	if got.Code >= http.StatusBadRequest {
		return replay(w, got)
	}
	if key := kept.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"); key != "" {
		if refusal := c.useKey("Decrypt", key); refusal != nil {
			return refusal
		}
	}
	for name, values := range kept {
		checksum := strings.HasPrefix(name, "X-Amz-Checksum-")
		if checksum && (c.Header.Get("Range") != "" || c.Header.Get("X-Amz-Checksum-Mode") == "") {
			continue // it is that of the whole
		}
		got.Header()[name] = values
	}
	return replay(w, got)
}

// objectVersion names the version of an object that gofakes3 answered with.
func objectVersion(key string, got *httptest.ResponseRecorder) string {
	return key + "\x00" + got.Header().Get("X-Amz-Version-Id")
}

// putObject stores an object. To replace one under If-Match needs permission to
// read it too.
func (c *s3Call) putObject(w http.ResponseWriter) *awsError {
	if refusal := c.mayMatch(); refusal != nil {
		return refusal
	}
	if c.Header.Get("X-Amz-Acl") != "" {
		if refusal := c.authorizeWith("PutObject", "PutObjectAcl", c.arn(), nil, c.owned()); refusal != nil {
			return refusal
		}
	}
	kept := http.Header{}
	for name, values := range c.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") || strings.HasPrefix(name, "X-Amz-Checksum-") && len(name) > len("X-Amz-Checksum-") {
			kept[name] = values
		}
	}
	if refusal := c.encrypt(kept); refusal != nil {
		return refusal
	}
	body, err := c.payload(kept)
	if err != nil {
		return &awsError{Code: "IncompleteBody", Message: err.Error(), Status: http.StatusBadRequest}
	}
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	got := c.s3.forward(c.Request, c.bucket, c.key, body)
	if got.Code == http.StatusOK {
		now := c.s3.forward(httptest.NewRequest(http.MethodHead, "/", nil), c.bucket, c.key, nil)
		c.known.headers[objectVersion(c.key, now)] = kept
		for name, values := range kept {
			if !strings.HasPrefix(name, "X-Amz-Meta-") {
				got.Header()[name] = values
			}
		}
	}
	return replay(w, got)
}

// passUpload lets gofakes3 keep the parts of an upload.
func (c *s3Call) passUpload(w http.ResponseWriter) *awsError {
	kept := http.Header{}
	if refusal := c.encrypt(kept); refusal != nil {
		return refusal
	}
	body, err := c.payload(kept)
	if err != nil {
		return &awsError{Code: "IncompleteBody", Message: err.Error(), Status: http.StatusBadRequest}
	}
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	return replay(w, c.s3.forward(c.Request, c.bucket, c.key, body))
}

// deleteObject deletes an object, under If-Match only the one that is meant.
func (c *s3Call) deleteObject(w http.ResponseWriter) *awsError {
	if refusal := c.mayMatch(); refusal != nil {
		return refusal
	}
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	if want := c.Header.Get("If-Match"); want != "" {
		now := c.s3.forward(httptest.NewRequest(http.MethodHead, "/", nil), c.bucket, c.key, nil)
		switch {
		case now.Code == http.StatusNotFound && want != "*":
			return &awsError{Code: "NoSuchKey", Message: "The specified key does not exist.", Status: http.StatusNotFound, Fields: [][2]string{{"Key", c.key}}}
		case now.Code == http.StatusNotFound, want != "*" && strings.Trim(now.Header().Get("ETag"), `"`) != strings.Trim(want, `"`):
			return &awsError{Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold", Status: http.StatusPreconditionFailed, Fields: [][2]string{{"Condition", "If-Match"}}}
		}
	}
	return replay(w, c.s3.forward(c.Request, c.bucket, c.key, nil))
}

// mayMatch asks for the permission to read, which If-Match on an ETag needs.
func (c *s3Call) mayMatch() *awsError {
	if match := c.Header.Get("If-Match"); match == "" || match == "*" {
		return nil
	}
	return c.authorizeWith(map[string]string{http.MethodPut: "PutObject", http.MethodDelete: "DeleteObject"}[c.Method], "GetObject", c.arn(), nil, c.owned())
}

// encrypt decides how the object is encrypted, by the request or else the
// bucket's default, and asks whether the caller may use the key.
func (c *s3Call) encrypt(kept http.Header) *awsError {
	algorithm, key := c.Header.Get("X-Amz-Server-Side-Encryption"), c.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")
	if algorithm == "" {
		var byDefault struct {
			Algorithm string `xml:"Rule>ApplyServerSideEncryptionByDefault>SSEAlgorithm"`
			Key       string `xml:"Rule>ApplyServerSideEncryptionByDefault>KMSMasterKeyID"`
		}
		c.s3.mu.Lock()
		text := c.known.settings["encryption"]
		c.s3.mu.Unlock()
		if err := xml.Unmarshal([]byte(text), &byDefault); err != nil {
			return &awsError{Code: "InternalError", Message: "reading the bucket's encryption: " + err.Error(), Status: http.StatusInternalServerError}
		}
		algorithm, key = byDefault.Algorithm, byDefault.Key
	}
	kept.Set("X-Amz-Server-Side-Encryption", algorithm)
	if !strings.HasPrefix(algorithm, "aws:kms") || key == "" {
		return nil // without a name it is the key aws/s3, which everybody of the account may use
	}
	known, ok := c.aws.kmsKey(key)
	if !ok {
		return &awsError{Code: "KMS.NotFoundException", Message: "Invalid keyId '" + key + "': tell the test kit of it by KMSKey", Status: http.StatusBadRequest}
	}
	kept.Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", known.arn)
	return c.useKey("GenerateDataKey", known.arn)
}

// useKey asks the caller's policies about an action on a KMS key.
func (c *s3Call) useKey(action, arn string) *awsError {
	key, _ := c.aws.kmsKey(arn)
	keys := map[string][]string{"kms:ViaService": {"s3." + c.Region + ".amazonaws.com"}, "kms:CallerAccount": {c.Caller.account()}}
	if len(key.aliases) > 0 {
		keys["kms:ResourceAliases"] = key.aliases
	}
	return c.ask("kms", action, action, arn, keys, nil)
}

// payload returns the body without the framing that clients put around it when
// they sign it in chunks; checksums behind it go to kept.
func (c *s3Call) payload(kept http.Header) ([]byte, error) {
	if !strings.HasPrefix(c.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return c.Body, nil
	}
	c.Header.Del("Content-Encoding")
	var out []byte
	rest := c.Body
	for {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		size, _, _ := strings.Cut(string(line), ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if !ok || err != nil || int(n) > len(after) {
			return nil, errors.New("the chunks are not whole")
		}
		if n == 0 {
			trailers(after, kept)
			return out, nil
		}
		out = append(out, after[:n]...)
		rest = bytes.TrimPrefix(after[n:], []byte("\r\n"))
	}
}

// trailers takes the checksums that follow the chunks.
func trailers(text []byte, kept http.Header) {
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, "x-amz-checksum-") {
			kept.Set(name, strings.TrimSpace(value))
		}
	}
}

// readCloser returns a body.
func readCloser(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
