package testkit

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// s3Kit is the S3 of one AWS: gofakes3 keeps buckets, objects and versions,
// the kit all that it lacks.
type s3Kit struct {
	aws  *AWS
	fake http.Handler

	mu      sync.Mutex // held while a request has its effect, so that conditions hold
	buckets map[string]*s3Bucket
}

// s3Bucket is what gofakes3 does not know of a bucket.
type s3Bucket struct {
	owner, region string
	created       time.Time
	settings      map[string]string      // by query parameter, as they were put
	policy        *iamDocument           // of settings["policy"]
	headers       map[string]http.Header // of each version, by objectVersion
}

// s3Call is one request to S3.
type s3Call struct {
	*awsCall
	s3          *s3Kit
	bucket, key string
	known       *s3Bucket // nil: there is no such bucket
}

// s3Operation is what a request asks for.
type s3Operation struct {
	name   string // of the call
	action string // that policies are asked about
	keys   map[string][]string
	run    func(c *s3Call, w http.ResponseWriter) *awsError
}

func (a *AWS) s3Service() *awsService {
	skew := awsCode{"RequestTimeTooSkewed", 403}
	a.s3 = &s3Kit{aws: a, buckets: map[string]*s3Bucket{},
		fake: gofakes3.New(s3mem.New(), gofakes3.WithTimeSkewLimit(0)).Server()}
	return &awsService{name: "s3", handle: a.s3.serve, refuse: refuseS3, codes: awsCodes{
		unknownKey: awsCode{"InvalidAccessKeyId", 403}, wrongToken: awsCode{"InvalidToken", 400}, expired: awsCode{"ExpiredToken", 400},
		mismatch: awsCode{"SignatureDoesNotMatch", 403}, skewed: skew, denied: awsCode{"AccessDenied", 403}, missing: awsCode{"AccessDenied", 403},
		skew: 15 * time.Minute,
	}}
}

// CreateBucket makes a bucket as the account would do by hand; with "" in
// us-east-1, for AWSAccount. Like every new bucket of AWS it is encrypted with
// AES256, blocks public access and ignores ACLs.
func (a *AWS) CreateBucket(name, region, account string) {
	a.t.Helper()
	if region == "" {
		region = "us-east-1"
	}
	if account == "" {
		account = AWSAccount
	}
	if refusal := a.s3.create(name, region, account); refusal != nil {
		a.t.Fatalf("creating the bucket %s: %s: %s", name, refusal.Code, refusal.Message)
	}
}

// PutObject stores an object without asking anybody, and without encryption by
// a key.
func (a *AWS) PutObject(bucket, key string, data []byte) {
	a.t.Helper()
	r := httptest.NewRequest(http.MethodPut, "/", bytes.NewReader(data))
	if got := a.s3.forward(r, bucket, key, data); got.Code != http.StatusOK {
		a.t.Fatalf("storing %s/%s: %d %s", bucket, key, got.Code, got.Body)
	}
	now := a.s3.forward(httptest.NewRequest(http.MethodHead, "/", nil), bucket, key, nil)
	a.s3.mu.Lock()
	defer a.s3.mu.Unlock()
	delete(a.s3.buckets[bucket].headers, objectVersion(key, now))
}

// Object returns an object's content without asking anybody.
func (a *AWS) Object(bucket, key string) (data []byte, ok bool) {
	got := a.s3.forward(httptest.NewRequest(http.MethodGet, "/", nil), bucket, key, nil)
	return got.Body.Bytes(), got.Code == http.StatusOK
}

// Objects returns the sorted keys of all objects in the bucket.
func (a *AWS) Objects(bucket string) []string {
	a.t.Helper()
	var out []string
	for marker := ""; ; marker = out[len(out)-1] {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = "marker=" + awsEscape(marker, false)
		var page gofakes3.ListBucketResult
		if err := xml.Unmarshal(a.s3.forward(r, bucket, "", nil).Body.Bytes(), &page); err != nil {
			a.t.Fatalf("listing the bucket %s: %v", bucket, err)
		}
		for _, o := range page.Contents {
			out = append(out, o.Key)
		}
		if !page.IsTruncated || len(page.Contents) == 0 {
			slices.Sort(out)
			return out
		}
	}
}

// Buckets returns the sorted names of all buckets.
func (a *AWS) Buckets() []string {
	a.s3.mu.Lock()
	defer a.s3.mu.Unlock()
	return slices.Sorted(maps.Keys(a.s3.buckets))
}

// refuseS3 writes an error of S3.
func refuseS3(w http.ResponseWriter, requestID string, e *awsError) {
	var fields strings.Builder
	for _, f := range e.Fields {
		fmt.Fprintf(&fields, "<%s>%s</%[1]s>", f[0], xmlText(f[1]))
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("x-amz-request-id", requestID)
	w.WriteHeader(e.Status)
	fmt.Fprintf(w, "%s<Error><Code>%s</Code><Message>%s</Message>%s<RequestId>%s</RequestId></Error>",
		xml.Header, xmlText(e.Code), xmlText(e.Message), fields.String(), requestID)
}

// xmlText escapes text.
func xmlText(s string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(s)) // a buffer takes everything
	return out.String()
}

// serve answers one request: may the caller, is there such a bucket, whose and
// where is it, and then the operation.
func (k *s3Kit) serve(w http.ResponseWriter, call *awsCall) *awsError {
	c := &s3Call{awsCall: call, s3: k}
	c.bucket, c.key, _ = strings.Cut(strings.TrimPrefix(call.URL.Path, "/"), "/")
	k.mu.Lock()
	c.known = k.buckets[c.bucket]
	k.mu.Unlock()
	op, ok := c.operation()
	if !ok {
		return &awsError{Code: "NotImplemented", Message: "The test kit does not know " + call.Method + " " + call.URL.RequestURI(), Status: http.StatusNotImplemented}
	}
	resource := "*"
	if c.bucket != "" {
		resource = c.arn()
	}
	if refusal := c.authorizeWith(op.name, op.action, resource, op.keys, c.owned()); refusal != nil {
		return refusal
	}
	if refusal := c.checkBucket(op.name); refusal != nil {
		if refusal.Code == "PermanentRedirect" {
			w.Header().Set("x-amz-bucket-region", c.known.region)
		}
		return refusal
	}
	return op.run(c, w)
}

// checkBucket refuses what is not there, somebody else's, or elsewhere.
func (c *s3Call) checkBucket(operation string) *awsError {
	if operation == "CreateBucket" || operation == "ListBuckets" {
		return nil
	}
	if c.known == nil {
		return &awsError{Code: "NoSuchBucket", Message: "The specified bucket does not exist", Status: http.StatusNotFound, Fields: [][2]string{{"BucketName", c.bucket}}}
	}
	if expected := c.Header.Get("X-Amz-Expected-Bucket-Owner"); expected != "" && expected != c.known.owner {
		return c.service.codes.denied.error("Access Denied")
	}
	if c.Region != c.known.region && operation != "GetBucketLocation" {
		return &awsError{Code: "PermanentRedirect", Status: http.StatusMovedPermanently,
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.",
			Fields:  [][2]string{{"Endpoint", c.bucket + ".s3." + c.known.region + ".amazonaws.com"}, {"Bucket", c.bucket}}}
	}
	return nil
}

// arn returns what the request is about: the bucket or the object.
func (c *s3Call) arn() string {
	arn := "arn:" + arnPart(c.Caller.arn, 1) + ":s3:::" + c.bucket
	if c.key != "" {
		arn += "/" + c.key
	}
	return arn
}

// owned returns whose bucket it is and what its policy says.
func (c *s3Call) owned() *awsResource {
	if c.known == nil || c.creates() {
		return nil
	}
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	return &awsResource{owner: c.known.owner, policy: c.known.policy}
}

// creates says whether the request makes a bucket, which is nobody's yet.
func (c *s3Call) creates() bool {
	return c.Method == http.MethodPut && c.key == "" && c.URL.RawQuery == ""
}

// operation says what the request asks for.
func (c *s3Call) operation() (s3Operation, bool) {
	query := c.URL.Query()
	query.Del("x-id") // the SDK's name of the call
	switch {
	case c.bucket == "":
		return s3Operation{"ListBuckets", "ListAllMyBuckets", nil, (*s3Call).listBuckets}, c.Method == http.MethodGet
	case c.key != "":
		return c.objectOperation(query)
	}
	for name, s := range s3Settings {
		if query.Has(name) {
			return s.operation(name, c.Method)
		}
	}
	name, action := "", ""
	run := (*s3Call).pass
	switch {
	case query.Has("location") && c.Method == http.MethodGet:
		name, run = "GetBucketLocation", (*s3Call).location
	case query.Has("versioning") && c.Method == http.MethodGet:
		name = "GetBucketVersioning"
	case query.Has("versioning") && c.Method == http.MethodPut:
		name = "PutBucketVersioning"
	case query.Has("versions") && c.Method == http.MethodGet:
		name, action = "ListObjectVersions", "ListBucketVersions"
	case c.Method == http.MethodGet && onlyHas(query, "list-type", "prefix", "delimiter", "max-keys", "marker", "continuation-token", "start-after", "encoding-type", "fetch-owner"):
		name, action = "ListObjects", "ListBucket"
		if query.Get("list-type") == "2" {
			name = "ListObjectsV2"
		}
	case len(query) > 0:
		return s3Operation{}, false
	case c.Method == http.MethodHead:
		name, action, run = "HeadBucket", "ListBucket", (*s3Call).head
	case c.Method == http.MethodPut:
		name, run = "CreateBucket", (*s3Call).createBucket
	case c.Method == http.MethodDelete:
		name, run = "DeleteBucket", (*s3Call).deleteBucket
	}
	if action == "" {
		action = name
	}
	return s3Operation{name, action, listKeys(query), run}, name != ""
}

// listKeys returns the condition keys of a listing.
func listKeys(query map[string][]string) map[string][]string {
	keys := map[string][]string{}
	for _, name := range []string{"prefix", "delimiter", "max-keys"} {
		if v, ok := query[name]; ok {
			keys["s3:"+name] = v
		}
	}
	return keys
}

// onlyHas says whether the query has no other parameters than these.
func onlyHas(query map[string][]string, names ...string) bool {
	for name := range query {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

func (c *s3Call) listBuckets(w http.ResponseWriter) *awsError {
	type bucket struct{ Name, CreationDate, BucketRegion string }
	type body struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   string   `xml:"Owner>ID"`
		Buckets []bucket `xml:"Buckets>Bucket"`
	}
	out := body{Owner: c.Caller.account()}
	c.s3.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(c.s3.buckets)) {
		if b := c.s3.buckets[name]; b.owner == c.Caller.account() {
			out.Buckets = append(out.Buckets, bucket{name, b.created.UTC().Format(time.RFC3339), b.region})
		}
	}
	c.s3.mu.Unlock()
	writeXML(w, http.StatusOK, out)
	return nil
}

func (c *s3Call) location(w http.ResponseWriter) *awsError {
	constraint := c.known.region
	if constraint == "us-east-1" {
		constraint = ""
	}
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `%s<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</LocationConstraint>`, xml.Header, constraint)
	return nil
}

func (c *s3Call) head(w http.ResponseWriter) *awsError {
	w.Header().Set("x-amz-bucket-region", c.known.region)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (c *s3Call) createBucket(w http.ResponseWriter) *awsError {
	var wanted struct{ LocationConstraint string }
	if len(c.Body) > 0 {
		if err := xml.Unmarshal(c.Body, &wanted); err != nil {
			return &awsError{Code: "MalformedXML", Message: err.Error(), Status: http.StatusBadRequest}
		}
	}
	region := wanted.LocationConstraint
	switch {
	case region == "us-east-1":
		return &awsError{Code: "InvalidLocationConstraint", Message: "The specified location-constraint is not valid", Status: http.StatusBadRequest}
	case region == "" && c.Region != "us-east-1", region != "" && region != c.Region && c.Region != "us-east-1":
		return &awsError{Code: "IllegalLocationConstraintException", Status: http.StatusBadRequest,
			Message: "The " + cmp.Or(region, "unspecified") + " location constraint is incompatible for the region specific endpoint this request was sent to."}
	case region == "":
		region = "us-east-1"
	}
	if refusal := c.s3.create(c.bucket, region, c.Caller.account()); refusal != nil {
		return refusal
	}
	w.Header().Set("Location", "/"+c.bucket)
	w.WriteHeader(http.StatusOK)
	return nil
}

// create makes a bucket with the settings that AWS gives to new ones. In
// us-east-1 AWS takes making one's own bucket again for done.
func (k *s3Kit) create(name, region, account string) *awsError {
	k.mu.Lock()
	defer k.mu.Unlock()
	if b := k.buckets[name]; b != nil && b.owner != account {
		return &awsError{Code: "BucketAlreadyExists", Status: http.StatusConflict,
			Message: "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."}
	} else if b != nil && (b.region != region || region != "us-east-1") {
		return &awsError{Code: "BucketAlreadyOwnedByYou", Message: "Your previous request to create the named bucket succeeded and you already own it.", Status: http.StatusConflict}
	} else if b != nil {
		return nil
	}
	got := httptest.NewRecorder()
	k.fake.ServeHTTP(got, httptest.NewRequest(http.MethodPut, "/"+name, nil))
	if got.Code != http.StatusOK {
		return &awsError{Code: "InvalidBucketName", Message: "The specified bucket is not valid.", Status: http.StatusBadRequest}
	}
	b := &s3Bucket{owner: account, region: region, created: k.aws.now(), settings: map[string]string{}, headers: map[string]http.Header{}}
	for name, s := range s3Settings {
		if s.fresh != "" {
			b.settings[name] = s.fresh
		}
	}
	k.buckets[name] = b
	return nil
}

func (c *s3Call) deleteBucket(w http.ResponseWriter) *awsError {
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	got := httptest.NewRecorder()
	c.s3.fake.ServeHTTP(got, httptest.NewRequest(http.MethodDelete, "/"+c.bucket, nil))
	if got.Code == http.StatusNoContent {
		delete(c.s3.buckets, c.bucket)
	}
	return replay(w, got)
}

// pass lets gofakes3 answer.
func (c *s3Call) pass(w http.ResponseWriter) *awsError {
	return replay(w, c.s3.forward(c.Request, c.bucket, c.key, c.Body))
}

// replay answers with what gofakes3 did.
func replay(w http.ResponseWriter, got *httptest.ResponseRecorder) *awsError {
	for name, values := range got.Header() {
		if !strings.HasPrefix(name, "Access-Control-") && name != "Server" && name != "Date" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(got.Code)
	_, _ = w.Write(got.Body.Bytes())
	return nil
}

// forward asks gofakes3. What AWS adds to requests stays here: gofakes3 would
// keep it with the object and tell it to whoever reads that.
func (k *s3Kit) forward(r *http.Request, bucket, key string, body []byte) *httptest.ResponseRecorder {
	out := r.Clone(r.Context())
	out.URL.Path, out.URL.RawPath = "/"+bucket+"/"+key, ""
	if key == "" {
		out.URL.Path = "/" + bucket
	}
	for name := range out.Header {
		if strings.HasPrefix(name, "X-Amz-") || name == "Authorization" {
			out.Header.Del(name)
		}
	}
	if out.Method == http.MethodHead {
		out.Method = http.MethodGet // gofakes3 takes no version in HEAD, and names one where there is none
	}
	out.Body, out.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		out.Body = readCloser(body)
	}
	out.Header.Set("Content-Length", fmt.Sprint(len(body)))
	got := httptest.NewRecorder()
	k.fake.ServeHTTP(got, out)
	return got
}
