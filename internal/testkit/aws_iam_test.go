package testkit

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestPolicyDecides is the evaluator's table: a policy's statement, a request,
// and what the policy says of it.
func TestPolicyDecides(t *testing.T) {
	role := &awsSession{arn: "arn:aws:sts::111122223333:assumed-role/WaymarkRun/run", roleARN: runRole, policy: &iamDocument{}}
	one := func(key string, values ...string) map[string][]string { return map[string][]string{key: values} }
	for name, c := range map[string]struct {
		statement        string // without the effect
		action, resource string
		keys             map[string][]string
		want             bool
	}{
		"exact":                      {`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/k"`, "s3:GetObject", "arn:aws:s3:::b/k", nil, true},
		"longer":                     {`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/k"`, "s3:GetObject", "arn:aws:s3:::b/k2", nil, false},
		"no case in actions":         {`"Action":"S3:getobject","Resource":"*"`, "s3:GetObject", "arn:aws:s3:::b/k", nil, true},
		"case in resources":          {`"Action":"*","Resource":"arn:aws:s3:::b/K"`, "s3:GetObject", "arn:aws:s3:::b/k", nil, false},
		"star in the action":         {`"Action":"s3:Get*","Resource":"*"`, "s3:GetObject", "x", nil, true},
		"star crosses slashes":       {`"Action":"*","Resource":"arn:aws:s3:::b/*/t"`, "s3:GetObject", "arn:aws:s3:::b/x/y/t", nil, true},
		"star backs up":              {`"Action":"*","Resource":"a*bc"`, "x:Y", "abbcbc", nil, true},
		"question mark is one":       {`"Action":"*","Resource":"a?c"`, "x:Y", "ac", nil, false},
		"not action":                 {`"NotAction":"s3:*","Resource":"*"`, "s3:GetObject", "x", nil, false},
		"not resource":               {`"Action":"*","NotResource":"arn:aws:s3:::b/*"`, "s3:GetObject", "arn:aws:s3:::c/k", nil, true},
		"lists":                      {`"Action":["a:A","s3:GetObject"],"Resource":["x","y"]`, "s3:GetObject", "y", nil, true},
		"equals":                     {`"Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":["a","b"]}}`, "s3:ListBucket", "x", one("s3:prefix", "b"), true},
		"equals, key has no case":    {`"Action":"*","Resource":"*","Condition":{"StringEquals":{"S3:Prefix":"b"}}`, "s3:ListBucket", "x", one("s3:prefix", "b"), true},
		"equals, missing":            {`"Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"b"}}`, "s3:ListBucket", "x", nil, false},
		"equals is no pattern":       {`"Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"*"}}`, "s3:ListBucket", "x", one("s3:prefix", "b"), false},
		"if exists, missing":         {`"Action":"*","Resource":"*","Condition":{"StringEqualsIfExists":{"s3:prefix":"b"}}`, "s3:ListBucket", "x", nil, true},
		"if exists, other":           {`"Action":"*","Resource":"*","Condition":{"StringEqualsIfExists":{"s3:prefix":"b"}}`, "s3:ListBucket", "x", one("s3:prefix", ""), false},
		"like":                       {`"Action":"*","Resource":"*","Condition":{"StringLike":{"s3:prefix":"a*"}}`, "s3:ListBucket", "x", one("s3:prefix", "ab"), true},
		"not equals, missing":        {`"Action":"*","Resource":"*","Condition":{"StringNotEquals":{"s3:prefix":"a"}}`, "s3:ListBucket", "x", nil, true},
		"not equals, one of":         {`"Action":"*","Resource":"*","Condition":{"StringNotEquals":{"s3:prefix":["a","b"]}}`, "s3:ListBucket", "x", one("s3:prefix", "b"), false},
		"all values":                 {`"Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"k":["a","b"]}}`, "x:Y", "x", one("k", "a", "b"), true},
		"all values, one is other":   {`"Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"k":["a","b"]}}`, "x:Y", "x", one("k", "a", "c"), false},
		"all values, missing":        {`"Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"k":"a"}}`, "x:Y", "x", nil, true},
		"any value":                  {`"Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"k":"a"}}`, "x:Y", "x", one("k", "a", "c"), true},
		"any value, missing":         {`"Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"k":"a"}}`, "x:Y", "x", nil, false},
		"bool":                       {`"Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":false}}`, "x:Y", "x", one("aws:SecureTransport", "true"), false},
		"null":                       {`"Action":"*","Resource":"*","Condition":{"Null":{"k":"true"}}`, "x:Y", "x", one("k", "a"), false},
		"both conditions":            {`"Action":"*","Resource":"*","Condition":{"StringEquals":{"k":"a"},"StringLike":{"l":"*"}}`, "x:Y", "x", one("k", "a"), false},
		"variable":                   {`"Action":"*","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/team}/*"`, "s3:GetObject", "arn:aws:s3:::b/risk/k", one("aws:PrincipalTag/team", "risk"), true},
		"variable without a value":   {`"Action":"*","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/team}/*"`, "s3:GetObject", "arn:aws:s3:::b//k", nil, false},
		"principal, role":            {`"Principal":{"AWS":"` + runRole + `"},"Action":"*"`, "sts:AssumeRole", "x", nil, true},
		"principal, session":         {`"Principal":{"AWS":["arn:aws:sts::111122223333:assumed-role/WaymarkRun/run"]},"Action":"*"`, "sts:AssumeRole", "x", nil, true},
		"principal, account":         {`"Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"*"`, "sts:AssumeRole", "x", nil, true},
		"principal, everybody":       {`"Principal":"*","Action":"*"`, "sts:AssumeRole", "x", nil, true},
		"principal, another session": {`"Principal":{"AWS":"arn:aws:sts::111122223333:assumed-role/WaymarkRun/other"},"Action":"*"`, "sts:AssumeRole", "x", nil, false},
		"principal, a service":       {`"Principal":{"Service":"s3.amazonaws.com"},"Action":"*"`, "sts:AssumeRole", "x", nil, false},
	} {
		request := iamRequest{action: c.action, resource: c.resource, caller: role, keys: c.keys}
		for effect, decision := range map[string]iamDecision{"Allow": iamAllow, "Deny": iamDeny} {
			doc, err := parsePolicy(`{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `",` + c.statement + `}]}`)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := doc.decide(request) == decision; got != c.want {
				t.Errorf("%s: %s applies: %v, want %v", name, effect, got, c.want)
			}
		}
	}
}

// TestPoliciesTogether holds who outweighs whom.
func TestPoliciesTogether(t *testing.T) {
	policy := func(effects ...string) *iamDocument {
		doc := &iamDocument{}
		for _, e := range effects {
			doc.Statement = append(doc.Statement, iamStatement{Effect: e, Action: iamStrings{"*"}})
		}
		return doc
	}
	allow, deny, silent := policy("Allow"), policy("Allow", "Deny"), policy()
	const ours, theirs = "111122223333", "444455556666"
	for name, c := range map[string]struct {
		identity, session, resource *iamDocument
		owner                       string // "" no resource of its own
		denied                      string
	}{
		"identity allows":                     {allow, nil, nil, "", ""},
		"identity is silent":                  {silent, nil, nil, "", "no identity-based policy"},
		"identity denies":                     {deny, nil, nil, "", "explicit deny in an identity-based"},
		"session is silent":                   {allow, silent, nil, "", "no session policy"},
		"session denies":                      {allow, deny, nil, "", "explicit deny in a session"},
		"session allows more":                 {silent, allow, nil, "", "no identity-based policy"},
		"both allow":                          {allow, allow, nil, "", ""},
		"own, resource denies":                {allow, nil, deny, ours, "explicit deny in a resource-based"},
		"own, resource allows alone":          {silent, nil, allow, ours, ""},
		"own, resource allows, session not":   {silent, silent, allow, ours, "no session policy"},
		"another's, resource is silent":       {allow, nil, nil, theirs, "no resource-based policy"},
		"another's, resource allows":          {allow, nil, allow, theirs, ""},
		"another's, only the resource allows": {silent, nil, allow, theirs, "no identity-based policy"},
	} {
		s := &awsSession{arn: "arn:aws:iam::" + ours + ":user/u", policy: c.identity, sessionPolicy: c.session}
		var own *awsResource
		if c.owner != "" {
			own = &awsResource{owner: c.owner, policy: c.resource}
		}
		got := s.judge(iamRequest{action: "s3:GetObject", resource: "x", caller: s}, own)
		if (got == "") != (c.denied == "") || !strings.Contains(got, c.denied) {
			t.Errorf("%s: %q, want %q in it", name, got, c.denied)
		}
	}
}

func TestPolicyIsReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                "unexpected EOF",
		`{"Statement":[]}`: "no statement",
		`{"Statement":{"Effect":"Allow","Action":"*","Resources":"*"}}`:                                        "unknown field",
		`{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`:                                         "want Allow or Deny",
		`{"Statement":{"Effect":"Allow","Resource":"*"}}`:                                                      "Action or NotAction",
		`{"Statement":{"Effect":"Allow","Action":7,"Resource":"*"}}`:                                           "neither a string",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"a":"b"}}}}`:     "does not know the condition operator IpAddress",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}} {"Statement":{"Effect":"Deny"}}`:         "after the policy",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Numeric":{"a":{"b":"c"}}}}}`: "",
	} {
		if _, err := parsePolicy(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
}

// TestAWSSignatureCoversTheRequest changes signed requests on their way.
func TestAWSSignatureCoversTheRequest(t *testing.T) {
	a := StartAWS(t)
	a.CreateBucket("states", "", "")
	id, secret := a.Service()
	ask := func(change func(*http.Request)) int {
		const hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" // of "foo"
		r, err := http.NewRequest(http.MethodPut, a.Endpoints()["s3"]+"/states/a%20b?x-id=PutObject", strings.NewReader("foo"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", hash)
		sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err := sign.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, r, hash, "s3", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		change(r)
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		return got.StatusCode
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"nothing":             {func(*http.Request) {}, 200},
		"no signature":        {func(r *http.Request) { r.Header.Del("Authorization") }, 403},
		"another method":      {func(r *http.Request) { r.Method = http.MethodDelete }, 403},
		"another key":         {func(r *http.Request) { r.URL.Path = "/states/b" }, 403},
		"another query":       {func(r *http.Request) { r.URL.RawQuery = "x-id=Other" }, 403},
		"another body":        {func(r *http.Request) { r.Body = io.NopCloser(bytes.NewReader([]byte("bar"))) }, 403},
		"another header":      {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, 403},
		"an unsigned header":  {func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, 403},
		"another host":        {func(r *http.Request) { r.Host = "example.org" }, 403},
		"another Region":      {rewrite("us-east-1", "us-west-2"), 403},
		"another service":     {rewrite("/s3/", "/sts/"), 403},
		"another day":         {rewrite(time.Now().UTC().Format("/20060102/"), "/20010101/"), 403},
		"another access key":  {rewrite(id, id+"x"), 403},
		"a token besides":     {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "t") }, 400},
		"a date long ago":     {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20010101T000000Z") }, 403},
		"a header that is no": {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }, 403},
	} {
		if got := ask(c.change); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
}

// rewrite changes the Authorization header.
func rewrite(from, to string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
	}
}
