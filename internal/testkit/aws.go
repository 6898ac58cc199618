package testkit

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// AWSAccount is the account of the identity that AWS.Service gives.
const AWSAccount = "111122223333"

// AWS stands for Amazon Web Services, as far as deployments touch it: servers
// on loopback that speak the real wire protocols to real clients. Each request's
// signature is checked, each action is judged by the caller's policies, and all
// of it is recorded. There is one address per service for all Regions and
// accounts; the Region is the one that the signature names, the account that
// of the caller.
//
// The kit stands for HTTPS endpoints although it speaks HTTP: to policies, the
// condition key aws:SecureTransport is always true.
type AWS struct {
	t       testing.TB
	servers map[string]*httptest.Server // by service

	s3     *s3Kit
	dynamo *dynamoKit

	mu       sync.Mutex
	sessions map[string]*awsSession // by access key id
	roles    map[string]*awsRole    // by ARN
	keys     []awsKey
	faults   []*awsFault
	requests []AWSRequest
	assumed  []AssumeRoleCall
	offset   time.Duration // of the kit's clock from the machine's
	issued   int           // access keys and request ids so far

	queues map[string]*sqsQueue // by URL
}

// AWSRequest is one request whose signature was right, and what became of it.
type AWSRequest struct {
	Service   string // "s3"
	Operation string // the name of the call: "HeadObject"
	Action    string // the one that policies are asked about, without the service: "GetObject"
	Resource  string // its ARN, or "*"
	Principal string // ARN of the caller; for a session that of the assumed role
	Region    string // of the signature's scope
	Allowed   bool   // whether the policies let it through
	Err       string // the code of the answer where it was refused; empty for what the service itself answered
}

// RoleOptions say who may assume a role, and what its sessions may do.
type RoleOptions struct {
	// Trusts holds the ARNs of users, roles, sessions or accounts (…:root).
	Trusts []string
	// ExternalID, where set, is what callers must give.
	ExternalID string
	// RefusesTags and RefusesSourceIdentity leave sts:TagSession and
	// sts:SetSourceIdentity out of the trust policy.
	RefusesTags, RefusesSourceIdentity bool
	// TrustPolicy is a whole trust policy as JSON, instead of the above.
	TrustPolicy string
	// MaxDuration is the longest session; 0 means an hour, as in AWS.
	MaxDuration time.Duration
	// Policy is what its sessions may do, as JSON; "" allows everything.
	Policy string
}

// awsSession is whom an access key belongs to.
type awsSession struct {
	arn, roleARN     string // roleARN is empty for a user
	secret, token    string // token is empty for a user
	policy           *iamDocument
	sessionPolicy    *iamDocument // nil: none
	sourceIdentity   string
	tags, transitive map[string]string
	expires          time.Time // zero: never
}

type awsRole struct {
	arn         string
	trust       *iamDocument
	policy      *iamDocument
	maxDuration time.Duration
}

// awsFault is an answer that replaces the next ones to an operation.
type awsFault struct {
	service, action, code string
	status, left          int
}

// allowEverything is the policy of who has none of their own.
const allowEverything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// StartAWS starts the services; they stop when the test ends. Nothing is shared
// with another AWS, not the names of buckets either.
func StartAWS(t testing.TB) *AWS {
	t.Helper()
	a := &AWS{t: t, servers: map[string]*httptest.Server{}, sessions: map[string]*awsSession{}, roles: map[string]*awsRole{}}
	for _, s := range a.awsServices() {
		server := httptest.NewServer(a.handler(s))
		a.servers[s.name] = server
		t.Cleanup(server.Close)
	}
	return a
}

// Endpoints returns the base URL of each service: sts, s3, dynamodb and so on.
func (a *AWS) Endpoints() map[string]string {
	out := map[string]string{}
	for name, server := range a.servers {
		out[name] = server.URL
	}
	return out
}

// Handler returns what answers at a service's endpoint, for tests that put
// something before it, such as TLS or a proxy.
func (a *AWS) Handler(service string) http.Handler { return a.servers[service].Config.Handler }

// Service returns new keys of arn:aws:iam::111122223333:user/waymark, which may
// do anything.
func (a *AWS) Service() (accessKeyID, secret string) {
	return a.Principal("arn:aws:iam::" + AWSAccount + ":user/waymark")
}

// Principal returns new keys of a user. It may do what the policies say that
// are given as JSON; without one, anything.
func (a *AWS) Principal(arn string, policies ...string) (accessKeyID, secret string) {
	a.t.Helper()
	if len(policies) == 0 {
		policies = []string{allowEverything}
	}
	policy := &iamDocument{}
	for _, text := range policies {
		policy.Statement = append(policy.Statement, a.mustPolicy(text).Statement...)
	}
	id := a.issue("AKIA")
	s := &awsSession{arn: arn, secret: "secret/of+" + id, policy: policy}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions[id] = s
	return id, s.secret
}

// Role makes the role, or replaces it; sessions that it has given stay as they are.
func (a *AWS) Role(arn string, o RoleOptions) {
	a.t.Helper()
	r := &awsRole{arn: arn, maxDuration: o.MaxDuration}
	if r.maxDuration == 0 {
		r.maxDuration = time.Hour
	}
	if o.Policy == "" {
		o.Policy = allowEverything
	}
	if o.TrustPolicy == "" {
		o.TrustPolicy = trustPolicy(o)
	}
	r.policy, r.trust = a.mustPolicy(o.Policy), a.mustPolicy(o.TrustPolicy)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roles[arn] = r
}

// trustPolicy writes down what the options say.
func trustPolicy(o RoleOptions) string {
	type object = map[string]any
	allow := func(actions ...string) object {
		return object{"Effect": "Allow", "Principal": object{"AWS": append([]string{}, o.Trusts...)}, "Action": actions}
	}
	assume := allow("sts:AssumeRole")
	if o.ExternalID != "" {
		assume["Condition"] = object{"StringEquals": object{"sts:ExternalId": o.ExternalID}}
	}
	statements := []object{assume}
	if !o.RefusesTags {
		statements = append(statements, allow("sts:TagSession"))
	}
	if !o.RefusesSourceIdentity {
		statements = append(statements, allow("sts:SetSourceIdentity"))
	}
	text, err := json.Marshal(object{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		panic(err) // strings alone
	}
	return string(text)
}

// mustPolicy parses a policy that a test wrote.
func (a *AWS) mustPolicy(text string) *iamDocument {
	a.t.Helper()
	doc, err := parsePolicy(text)
	if err != nil {
		a.t.Fatalf("reading the policy %s: %v", text, err)
	}
	return doc
}

// AssumeRoles returns every AssumeRole call so far, in order.
func (a *AWS) AssumeRoles() []AssumeRoleCall {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.assumed)
}

// Requests returns every request so far, in order.
func (a *AWS) Requests() []AWSRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// Fail makes the next so many requests for the action of the service fail with
// an error code of AWS. The action may also be the name of the call (where they
// differ, as in HeadObject and GetObject) or "*".
func (a *AWS) Fail(service, action, code string, status, times int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, &awsFault{service: service, action: action, code: code, status: status, left: times})
}

// Clock moves the kit's clock to the machine's plus offset. It decides whether
// sessions have expired and signatures are too old, and is told in each answer.
func (a *AWS) Clock(offset time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offset = offset
}

// ExpireSessions ends every session of a role that was given so far.
func (a *AWS) ExpireSessions() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		if s.token != "" {
			s.expires = time.Now().Add(a.offset)
		}
	}
}

func (a *AWS) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Add(a.offset)
}

// issue returns a name that was never given before, in the form of an access
// key id.
func (a *AWS) issue(prefix string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued++
	return fmt.Sprintf("%s%016d", prefix, a.issued)
}

// fault returns the error to answer instead, where a test asked for one.
func (a *AWS) fault(r AWSRequest) *awsError {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.faults {
		if f.left > 0 && f.service == r.Service && (f.action == "*" || f.action == r.Action || f.action == r.Operation) {
			f.left--
			return &awsError{Code: f.code, Status: f.status, Message: "The test asked for " + f.code + "."}
		}
	}
	return nil
}

func (a *AWS) record(r AWSRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r)
}

// account returns the account that the caller belongs to.
func (s *awsSession) account() string { return arnPart(s.arn, 4) }

// keys returns the condition keys that tell of the caller.
func (s *awsSession) keys() map[string][]string {
	out := map[string][]string{"aws:PrincipalArn": {s.principalARN()}, "aws:PrincipalAccount": {s.account()}, "aws:SecureTransport": {"true"}}
	if s.sourceIdentity != "" {
		out["aws:SourceIdentity"] = []string{s.sourceIdentity}
	}
	for k, v := range s.allTags() {
		out["aws:PrincipalTag/"+k] = []string{v}
	}
	return out
}

// allTags returns the session's own tags over those that it inherited.
func (s *awsSession) allTags() map[string]string {
	out := maps.Clone(s.transitive)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, s.tags)
	return out
}

// principalARN returns the ARN of the role where the caller is a session of one.
func (s *awsSession) principalARN() string {
	if s.roleARN != "" {
		return s.roleARN
	}
	return s.arn
}

// arnPart returns one of the parts of arn:partition:service:region:account:resource.
func arnPart(arn string, part int) string {
	parts := strings.SplitN(arn, ":", 6)
	if part >= len(parts) {
		return ""
	}
	return parts[part]
}
