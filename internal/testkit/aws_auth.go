package testkit

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

// maxAWSBody bounds the body of one request.
const maxAWSBody = 64 << 20

// awsService is one service of the kit.
type awsService struct {
	name string
	// handle answers a request whose signature is right. It calls authorize
	// before any effect, and returns the error to answer instead, if any.
	handle func(w http.ResponseWriter, c *awsCall) *awsError
	// refuse writes an error in the protocol of the service.
	refuse func(w http.ResponseWriter, requestID string, e *awsError)
	// codes are the service's names for what is wrong with a signature.
	codes awsCodes
}

// awsCodes are the error codes that services give different names.
type awsCodes struct {
	unknownKey, wrongToken, expired, mismatch, skewed, denied awsCode
	missing                                                   awsCode // no signature at all
	skew                                                      time.Duration
}

type awsCode struct {
	code   string
	status int
}

// awsError is an error as a service of AWS answers it.
type awsError struct {
	Code, Message string
	Status        int
	Fields        [][2]string // further elements of the answer, in order
}

// awsCall is one request whose signature is right.
type awsCall struct {
	*http.Request
	Body   []byte
	Caller *awsSession
	Region string

	aws     *AWS
	service *awsService
}

// handler serves one service.
func (a *AWS) handler(s *awsService) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := a.issue("request-")
		w.Header().Set("Date", a.now().UTC().Format(http.TimeFormat))
		w.Header().Set("x-amzn-RequestId", id)
		c, refusal := a.authenticate(s, r)
		if refusal == nil {
			refusal = s.handle(w, c)
		}
		if refusal != nil {
			s.refuse(w, id, refusal)
		}
	})
}

// authenticate reads the body and checks the signature and whose it is.
func (a *AWS) authenticate(s *awsService, r *http.Request) (*awsCall, *awsError) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxAWSBody))
	if err != nil {
		return nil, &awsError{Code: "RequestEntityTooLarge", Message: err.Error(), Status: http.StatusRequestEntityTooLarge}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	auth, ok := parseAuthorization(r.Header.Get("Authorization"))
	if !ok {
		return nil, s.codes.missing.error("The request has no AWS4-HMAC-SHA256 signature in its Authorization header.")
	}
	session, refusal := a.caller(s, auth.accessKeyID, r.Header.Get("X-Amz-Security-Token"))
	if refusal != nil {
		return nil, refusal
	}
	if refusal := a.checkDate(s, r, auth); refusal != nil {
		return nil, refusal
	}
	if auth.service != s.name {
		return nil, s.codes.mismatch.error(fmt.Sprintf("Credential should be scoped to correct service: '%s'.", s.name))
	}
	want, err := auth.sign(r, body, session.secret, s.name == "s3")
	if err != nil {
		return nil, s.codes.mismatch.error(err.Error())
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(auth.signature)) != 1 {
		return nil, s.codes.mismatch.error("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	return &awsCall{Request: r, Body: body, Caller: session, Region: auth.region, aws: a, service: s}, nil
}

// caller returns whose access key and session token these are.
func (a *AWS) caller(s *awsService, accessKeyID, token string) (*awsSession, *awsError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	session := a.sessions[accessKeyID]
	switch {
	case session == nil:
		return nil, s.codes.unknownKey.error("The security token included in the request is invalid.")
	case session.token != token:
		return nil, s.codes.wrongToken.error("The security token included in the request is invalid.")
	case !session.expires.IsZero() && !time.Now().Add(a.offset).Before(session.expires):
		return nil, s.codes.expired.error("The security token included in the request is expired")
	}
	return session, nil
}

// checkDate refuses signatures whose time is not about now.
func (a *AWS) checkDate(s *awsService, r *http.Request, auth authorization) *awsError {
	text, now := r.Header.Get("X-Amz-Date"), a.now().UTC()
	at, err := time.Parse(amzDate, text)
	if err != nil {
		return s.codes.mismatch.error("The request has no X-Amz-Date header with a time such as " + amzDate + ".")
	}
	if auth.date != text[:8] {
		return s.codes.mismatch.error(fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", auth.date, text[:8]))
	}
	if at.After(now.Add(-s.codes.skew)) && at.Before(now.Add(s.codes.skew)) {
		return nil
	}
	if s.name == "s3" {
		e := s.codes.skewed.error("The difference between the request time and the current time is too large.")
		e.Fields = [][2]string{{"RequestTime", text}, {"ServerTime", now.Format(time.RFC3339)}, {"MaxAllowedSkewMilliseconds", fmt.Sprint(s.codes.skew.Milliseconds())}}
		return e
	}
	limit, verb, relation := now.Add(-s.codes.skew), "expired", "earlier"
	sign := "-"
	if at.After(now) {
		limit, verb, relation, sign = now.Add(s.codes.skew), "not yet current", "still later", "+"
	}
	return s.codes.skewed.error(fmt.Sprintf("Signature %s: %s is now %s than %s (%s %s %d min.)",
		verb, text, relation, limit.Format(amzDate), now.Format(amzDate), sign, int(s.codes.skew.Minutes())))
}

// authorize asks the caller's policies about an action on a resource, answers
// the fault that a test asked for, and records the request. The operation is
// the call's name; action is without the service. Keys are condition keys of the
// request, beside those that tell of the caller.
func (c *awsCall) authorize(operation, action, resource string, keys map[string][]string) *awsError {
	return c.authorizeWith(operation, action, resource, keys, nil)
}

// authorizeWith is authorize for a resource that has a policy and an owner of
// its own; nil is neither.
func (c *awsCall) authorizeWith(operation, action, resource string, keys map[string][]string, own *awsResource) *awsError {
	return c.ask(c.service.name, operation, action, resource, keys, own)
}

// ask is authorizeWith for an action of another service that this one calls,
// as S3 does with KMS.
func (c *awsCall) ask(service, operation, action, resource string, keys map[string][]string, own *awsResource) *awsError {
	r := AWSRequest{Service: service, Operation: operation, Action: action, Resource: resource, Principal: c.Caller.arn, Region: c.Region}
	refusal := c.aws.fault(r)
	if refusal == nil {
		refusal = c.judge(service+":"+action, resource, keys, own)
		r.Allowed = refusal == nil
	}
	if refusal != nil {
		r.Err = refusal.Code
	}
	c.aws.record(r)
	return refusal
}

// awsResource is a resource with an owner and a policy.
type awsResource struct {
	owner  string       // account
	policy *iamDocument // nil: none
}

// judge says whether the policies allow an action, given as service:Action.
func (c *awsCall) judge(action, resource string, keys map[string][]string, own *awsResource) *awsError {
	all := c.Caller.keys()
	all["aws:RequestedRegion"] = []string{c.Region}
	maps.Copy(all, keys)
	request := iamRequest{action: action, resource: resource, caller: c.Caller, keys: all}
	if why := c.Caller.judge(request, own); why != "" {
		return c.service.codes.denied.error(fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %q %s", c.Caller.arn, action, resource, why))
	}
	return nil
}

// judge returns why the request is denied, in the words of AWS, or "".
func (s *awsSession) judge(r iamRequest, own *awsResource) string {
	var byResource iamDecision
	if own != nil && own.policy != nil {
		byResource = own.policy.decide(r)
	}
	byIdentity, bySession := s.policy.decide(r), iamAllow
	if s.sessionPolicy != nil {
		bySession = s.sessionPolicy.decide(r)
	}
	switch {
	case byIdentity == iamDeny:
		return "with an explicit deny in an identity-based policy"
	case byResource == iamDeny:
		return "with an explicit deny in a resource-based policy"
	case bySession == iamDeny:
		return "with an explicit deny in a session policy"
	case bySession != iamAllow:
		return "because no session policy allows the " + r.action + " action"
	case own != nil && own.owner != s.account() && byResource != iamAllow:
		return "because no resource-based policy allows the " + r.action + " action"
	case byIdentity != iamAllow && (byResource != iamAllow || own.owner != s.account()):
		return "because no identity-based policy allows the " + r.action + " action"
	}
	return ""
}

func (c awsCode) error(message string) *awsError {
	return &awsError{Code: c.code, Message: message, Status: c.status}
}

// jsonAWSCodes are the codes of services that speak JSON, DynamoDB and SQS.
func jsonAWSCodes() awsCodes {
	return awsCodes{
		unknownKey: awsCode{"UnrecognizedClientException", 400}, wrongToken: awsCode{"UnrecognizedClientException", 400},
		expired: awsCode{"ExpiredTokenException", 400}, mismatch: awsCode{"InvalidSignatureException", 400},
		skewed: awsCode{"InvalidSignatureException", 400}, denied: awsCode{"AccessDeniedException", 400},
		missing: awsCode{"MissingAuthenticationTokenException", 400}, skew: 5 * time.Minute,
	}
}
