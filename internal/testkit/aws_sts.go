package testkit

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AssumeRoleCall is one AssumeRole call with all its parameters.
type AssumeRoleCall struct {
	Caller, RoleARN, SessionName string
	Policy                       string // the session policy as it was sent; "" none
	PolicyARNs                   []string
	Tags                         map[string]string
	TransitiveTags               []string
	SourceIdentity, ExternalID   string
	Duration                     time.Duration // 0: not sent
	Region                       string        // of the signature's scope
	AccessKeyID                  string        // of the session that was given
	Err                          string        // the error's code; "" a session was given
}

const (
	maxSessionPolicy = 2048 // characters
	maxSessionTags   = 50
)

var (
	stsName     = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	stsTagValue = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$`)
)

func (a *AWS) stsService() *awsService {
	return &awsService{name: "sts", handle: serveSTS, refuse: refuseQuery, codes: awsCodes{
		unknownKey: awsCode{"InvalidClientTokenId", 403}, wrongToken: awsCode{"InvalidClientTokenId", 403},
		expired: awsCode{"ExpiredToken", 403}, mismatch: awsCode{"SignatureDoesNotMatch", 403},
		skewed: awsCode{"SignatureDoesNotMatch", 403}, denied: awsCode{"AccessDenied", 403},
		missing: awsCode{"MissingAuthenticationToken", 403}, skew: 5 * time.Minute,
	}}
}

// refuseQuery writes an error of the query protocol.
func refuseQuery(w http.ResponseWriter, requestID string, e *awsError) {
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	type body struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Type      string   `xml:"Error>Type"`
		Code      string   `xml:"Error>Code"`
		Message   string   `xml:"Error>Message"`
		RequestID string   `xml:"RequestId"`
	}
	writeXML(w, e.Status, body{Type: kind, Code: e.Code, Message: e.Message, RequestID: requestID})
}

// writeXML answers with a document.
func writeXML(w http.ResponseWriter, status int, v any) {
	text, err := xml.Marshal(v)
	if err != nil {
		panic(err) // every type that is written here has an XML form
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), text...))
}

func serveSTS(w http.ResponseWriter, c *awsCall) *awsError {
	form, err := url.ParseQuery(string(c.Body))
	if err != nil {
		return &awsError{Code: "MalformedInput", Message: err.Error(), Status: http.StatusBadRequest}
	}
	switch action := form.Get("Action"); action {
	case "GetCallerIdentity":
		return serveCallerIdentity(w, c)
	case "AssumeRole":
		return serveAssumeRole(w, c, form)
	default:
		return &awsError{Code: "InvalidAction", Message: "Could not find operation " + action + " for version 2011-06-15", Status: http.StatusBadRequest}
	}
}

// serveCallerIdentity answers everybody: no policy is asked, as in AWS.
func serveCallerIdentity(w http.ResponseWriter, c *awsCall) *awsError {
	r := AWSRequest{Service: "sts", Operation: "GetCallerIdentity", Action: "GetCallerIdentity", Resource: "*", Principal: c.Caller.arn, Region: c.Region, Allowed: true}
	if refusal := c.aws.fault(r); refusal != nil {
		r.Allowed, r.Err = false, refusal.Code
		c.aws.record(r)
		return refusal
	}
	c.aws.record(r)
	type body struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
		Arn     string   `xml:"GetCallerIdentityResult>Arn"`
		UserID  string   `xml:"GetCallerIdentityResult>UserId"`
		Account string   `xml:"GetCallerIdentityResult>Account"`
	}
	writeXML(w, http.StatusOK, body{Arn: c.Caller.arn, UserID: "AIDA" + c.Caller.account(), Account: c.Caller.account()})
	return nil
}

func serveAssumeRole(w http.ResponseWriter, c *awsCall, form url.Values) *awsError {
	call := readAssumeRole(form)
	call.Caller, call.Region = c.Caller.arn, c.Region
	session, refusal := c.assume(call)
	if refusal != nil {
		call.Err = refusal.Code
	} else {
		call.AccessKeyID = c.aws.issue("ASIA")
		session.secret = "secret/of+" + call.AccessKeyID
		session.token = "token/of+" + call.AccessKeyID + "=="
	}
	c.aws.mu.Lock()
	c.aws.assumed = append(c.aws.assumed, call)
	if session != nil {
		c.aws.sessions[call.AccessKeyID] = session
	}
	c.aws.mu.Unlock()
	if refusal != nil {
		return refusal
	}
	type body struct {
		XMLName        xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
		ARN            string   `xml:"AssumeRoleResult>AssumedRoleUser>Arn"`
		RoleID         string   `xml:"AssumeRoleResult>AssumedRoleUser>AssumedRoleId"`
		AccessKeyID    string   `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		Secret         string   `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
		Token          string   `xml:"AssumeRoleResult>Credentials>SessionToken"`
		Expiration     string   `xml:"AssumeRoleResult>Credentials>Expiration"`
		SourceIdentity string   `xml:"AssumeRoleResult>SourceIdentity,omitempty"`
	}
	writeXML(w, http.StatusOK, body{ARN: session.arn, RoleID: "AROAEXAMPLE:" + call.SessionName, AccessKeyID: call.AccessKeyID,
		Secret: session.secret, Token: session.token, Expiration: session.expires.UTC().Format(time.RFC3339), SourceIdentity: session.sourceIdentity})
	return nil
}

// readAssumeRole reads the parameters, in the form of the query protocol.
func readAssumeRole(form url.Values) AssumeRoleCall {
	seconds, _ := strconv.Atoi(form.Get("DurationSeconds"))
	call := AssumeRoleCall{RoleARN: form.Get("RoleArn"), SessionName: form.Get("RoleSessionName"), Policy: form.Get("Policy"),
		SourceIdentity: form.Get("SourceIdentity"), ExternalID: form.Get("ExternalId"), Duration: time.Duration(seconds) * time.Second,
		Tags: map[string]string{}}
	for i := 1; form.Has(fmt.Sprintf("Tags.member.%d.Key", i)); i++ {
		call.Tags[form.Get(fmt.Sprintf("Tags.member.%d.Key", i))] = form.Get(fmt.Sprintf("Tags.member.%d.Value", i))
	}
	for i := 1; form.Has(fmt.Sprintf("TransitiveTagKeys.member.%d", i)); i++ {
		call.TransitiveTags = append(call.TransitiveTags, form.Get(fmt.Sprintf("TransitiveTagKeys.member.%d", i)))
	}
	for i := 1; form.Has(fmt.Sprintf("PolicyArns.member.%d.arn", i)); i++ {
		call.PolicyARNs = append(call.PolicyARNs, form.Get(fmt.Sprintf("PolicyArns.member.%d.arn", i)))
	}
	return call
}

// assume judges the call and returns the session to give, without its keys.
func (c *awsCall) assume(call AssumeRoleCall) (*awsSession, *awsError) {
	c.aws.mu.Lock()
	role := c.aws.roles[call.RoleARN]
	c.aws.mu.Unlock()
	source := call.SourceIdentity
	if source == "" {
		source = c.Caller.sourceIdentity // it sticks to every session after
	}
	tags := maps.Clone(c.Caller.transitive)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, call.Tags)
	if refusal := c.mayAssume(call, role, source, tags); refusal != nil {
		return nil, refusal
	}
	policy, refusal := c.checkAssume(call, role)
	if refusal != nil {
		return nil, refusal
	}
	transitive := maps.Clone(c.Caller.transitive)
	if transitive == nil {
		transitive = map[string]string{}
	}
	for _, key := range call.TransitiveTags {
		transitive[key] = call.Tags[key]
	}
	duration := call.Duration
	if duration == 0 {
		duration = time.Hour
	}
	name := role.arn[strings.LastIndexByte(role.arn, '/')+1:]
	return &awsSession{arn: fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", arnPart(role.arn, 1), arnPart(role.arn, 4), name, call.SessionName),
		roleARN: role.arn, policy: role.policy, sessionPolicy: policy, sourceIdentity: source, tags: call.Tags, transitive: transitive,
		expires: c.aws.now().Add(duration).Truncate(time.Second)}, nil
}

// mayAssume asks the caller's policies and the role's trust policy about each
// action that the call needs. AWS lets a trust policy alone suffice for a
// caller of the same account; the kit always asks both.
func (c *awsCall) mayAssume(call AssumeRoleCall, role *awsRole, source string, tags map[string]string) *awsError {
	actions := []string{"AssumeRole"}
	if len(tags) > 0 {
		actions = append(actions, "TagSession")
	}
	if source != "" {
		actions = append(actions, "SetSourceIdentity")
	}
	keys := map[string][]string{"sts:RoleSessionName": {call.SessionName}}
	if call.ExternalID != "" {
		keys["sts:ExternalId"] = []string{call.ExternalID}
	}
	if source != "" {
		keys["sts:SourceIdentity"] = []string{source}
	}
	for k, v := range tags {
		keys["aws:RequestTag/"+k] = []string{v}
	}
	if len(tags) > 0 {
		keys["aws:TagKeys"] = slices.Sorted(maps.Keys(tags))
	}
	if len(call.TransitiveTags) > 0 {
		keys["sts:TransitiveTagKeys"] = call.TransitiveTags
	}
	for _, action := range actions {
		own := &awsResource{owner: arnPart(call.RoleARN, 4), policy: &iamDocument{}}
		if role != nil {
			own.policy = role.trust
		}
		if refusal := c.authorizeTrust(action, call.RoleARN, keys, own); refusal != nil {
			return refusal
		}
	}
	if c.Caller.sourceIdentity != "" && source != c.Caller.sourceIdentity {
		return c.service.codes.denied.error(fmt.Sprintf("User: %s is not authorized to perform: sts:SetSourceIdentity on resource: %s", c.Caller.arn, call.RoleARN))
	}
	return nil
}

// authorizeTrust is authorize that asks the trust policy too. AWS does not say
// which of them refused, nor whether the role exists.
func (c *awsCall) authorizeTrust(action, roleARN string, keys map[string][]string, own *awsResource) *awsError {
	r := AWSRequest{Service: "sts", Operation: "AssumeRole", Action: action, Resource: roleARN, Principal: c.Caller.arn, Region: c.Region}
	refusal := c.aws.fault(r)
	if refusal == nil {
		request := iamRequest{action: "sts:" + action, resource: roleARN, caller: c.Caller, keys: c.Caller.keys()}
		maps.Copy(request.keys, keys)
		r.Allowed = own.policy.decide(request) == iamAllow && c.Caller.judge(request, nil) == ""
		if !r.Allowed {
			refusal = c.service.codes.denied.error(fmt.Sprintf("User: %s is not authorized to perform: sts:%s on resource: %s", c.Caller.arn, action, roleARN))
		}
	}
	if refusal != nil {
		r.Err = refusal.Code
	}
	c.aws.record(r)
	return refusal
}

// checkAssume checks the form of the parameters, and reads the session policy.
func (c *awsCall) checkAssume(call AssumeRoleCall, role *awsRole) (*iamDocument, *awsError) {
	invalid := func(format string, args ...any) (*iamDocument, *awsError) {
		return nil, &awsError{Code: "ValidationError", Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
	}
	switch {
	case !stsName.MatchString(call.SessionName):
		return invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", call.SessionName)
	case call.SourceIdentity != "" && !stsName.MatchString(call.SourceIdentity):
		return invalid("1 validation error detected: Value '%s' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", call.SourceIdentity)
	case len(call.Tags) > maxSessionTags:
		return invalid("1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to %d", maxSessionTags)
	case call.Duration != 0 && call.Duration < 15*time.Minute:
		return invalid("1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900", int(call.Duration.Seconds()))
	case c.Caller.roleARN != "" && call.Duration > time.Hour:
		return invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case call.Duration > role.maxDuration:
		return invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	case len(call.Policy) > maxSessionPolicy:
		return invalid("1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to %d", maxSessionPolicy)
	case len(call.PolicyARNs) > 0:
		return invalid("the test kit has no managed policies")
	}
	for k, v := range call.Tags {
		if k == "" || len(k) > 128 || !stsTagValue.MatchString(k) || !stsTagValue.MatchString(v) {
			return invalid("1 validation error detected: Value '%s=%s' at 'tags' failed to satisfy constraint", k, v)
		}
	}
	if call.Policy == "" {
		return nil, nil
	}
	doc, err := parsePolicy(call.Policy)
	if err == nil && slices.ContainsFunc(doc.Statement, func(s iamStatement) bool { return s.Principal != nil || len(s.Resource)+len(s.NotResource) == 0 }) {
		err = fmt.Errorf("a session policy has resources and no principal")
	}
	if err != nil {
		return nil, &awsError{Code: "MalformedPolicyDocument", Message: "Syntax errors in policy: " + err.Error(), Status: http.StatusBadRequest}
	}
	return doc, nil
}
