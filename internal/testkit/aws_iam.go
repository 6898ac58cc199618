package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// iamDocument is a policy of IAM, as far as the kit judges it. What it does not
// know is an error, never ignored.
type iamDocument struct {
	Version, ID string
	Statement   iamStatements
}

type iamStatement struct {
	Sid, Effect           string
	Principal             iamPrincipal
	Action, NotAction     iamStrings
	Resource, NotResource iamStrings
	Condition             map[string]map[string]iamStrings // operator, key, values
}

type (
	iamStatements []iamStatement        // in JSON one object, or a list
	iamStrings    []string              // one value, or a list
	iamPrincipal  map[string]iamStrings // "*", or by kind
)

// iamDecision is what one policy says of a request.
type iamDecision int

const (
	iamSilent iamDecision = iota
	iamAllow
	iamDeny
)

// iamRequest is what a policy is asked about.
type iamRequest struct {
	action, resource string // "s3:GetObject", an ARN
	caller           *awsSession
	keys             map[string][]string // condition keys; a missing one is not in the request
}

// iamOperators are the comparisons of conditions, without the quantifier
// before them and IfExists after.
var iamOperators = map[string]struct {
	negated bool
	match   func(pattern, value string) bool
}{
	"StringEquals":              {false, func(p, v string) bool { return p == v }},
	"StringNotEquals":           {true, func(p, v string) bool { return p == v }},
	"StringEqualsIgnoreCase":    {false, strings.EqualFold},
	"StringNotEqualsIgnoreCase": {true, strings.EqualFold},
	"StringLike":                {false, iamLike},
	"StringNotLike":             {true, iamLike},
	"ArnEquals":                 {false, iamLike},
	"ArnLike":                   {false, iamLike},
	"ArnNotEquals":              {true, iamLike},
	"ArnNotLike":                {true, iamLike},
	"Bool":                      {false, strings.EqualFold},
}

// parsePolicy reads a policy and refuses what the kit could not judge.
func parsePolicy(text string) (*iamDocument, error) {
	var doc iamDocument
	if err := decodeStrictly([]byte(text), &doc); err != nil {
		return nil, err
	}
	if len(doc.Statement) == 0 {
		return nil, errors.New("it has no statement")
	}
	for i, s := range doc.Statement {
		if err := s.validate(); err != nil {
			return nil, fmt.Errorf("statement %d: %w", i, err)
		}
	}
	return &doc, nil
}

func (s iamStatement) validate() error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		return fmt.Errorf("the effect is %q, want Allow or Deny", s.Effect)
	}
	if (len(s.Action) == 0) == (len(s.NotAction) == 0) {
		return errors.New("it needs either Action or NotAction")
	}
	for operator := range s.Condition {
		name, _, _ := iamOperator(operator)
		if _, ok := iamOperators[name]; !ok && operator != "Null" {
			return fmt.Errorf("the kit does not know the condition operator %s", operator)
		}
	}
	return nil
}

// decide says what the policy means for the request: one deny outweighs all.
func (d *iamDocument) decide(r iamRequest) iamDecision {
	out := iamSilent
	for _, s := range d.Statement {
		if !s.applies(r) {
			continue
		}
		if s.Effect == "Deny" {
			return iamDeny
		}
		out = iamAllow
	}
	return out
}

// applies says whether the statement is about the request.
func (s iamStatement) applies(r iamRequest) bool {
	if s.Principal != nil && !s.Principal.names(r.caller) {
		return false
	}
	like := func(pattern string) bool { return iamLike(strings.ToLower(pattern), strings.ToLower(r.action)) }
	if len(s.Action) > 0 && !slices.ContainsFunc(s.Action, like) || slices.ContainsFunc(s.NotAction, like) {
		return false
	}
	about := func(pattern string) bool { return iamLike(r.fill(pattern), r.resource) }
	if len(s.Resource) > 0 && !slices.ContainsFunc(s.Resource, about) || slices.ContainsFunc(s.NotResource, about) {
		return false
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			if !r.meets(operator, key, values) {
				return false
			}
		}
	}
	return true
}

// meets says whether one line of a condition holds.
func (r iamRequest) meets(operator, key string, patterns []string) bool {
	values, exists := r.values(key)
	if operator == "Null" {
		return exists != slices.Contains(patterns, "true")
	}
	name, quantifier, ifExists := iamOperator(operator)
	op := iamOperators[name]
	if !exists {
		return ifExists || op.negated || quantifier == "ForAllValues"
	}
	holds := func(value string) bool {
		return op.negated != slices.ContainsFunc(patterns, func(p string) bool { return op.match(r.fill(p), value) })
	}
	if quantifier == "ForAllValues" || op.negated && quantifier == "" {
		return !slices.ContainsFunc(values, func(v string) bool { return !holds(v) })
	}
	return slices.ContainsFunc(values, holds)
}

// values returns a condition key's values; the names of keys have no case.
func (r iamRequest) values(key string) ([]string, bool) {
	for k, v := range r.keys {
		if strings.EqualFold(k, key) {
			return v, true
		}
	}
	return nil, false
}

// iamVariable is a policy variable such as ${aws:PrincipalTag/team}.
var iamVariable = regexp.MustCompile(`\$\{([^}]*)\}`)

// fill puts the request's values in place of policy variables. One without a
// value stays as it is, and so matches nothing.
func (r iamRequest) fill(pattern string) string {
	return iamVariable.ReplaceAllStringFunc(pattern, func(variable string) string {
		if v, ok := r.values(variable[2 : len(variable)-1]); ok && len(v) == 1 {
			return v[0]
		}
		return variable
	})
}

// iamOperator takes a condition operator apart.
func iamOperator(operator string) (name, quantifier string, ifExists bool) {
	name = operator
	for _, q := range []string{"ForAllValues", "ForAnyValue"} {
		if rest, ok := strings.CutPrefix(name, q+":"); ok {
			name, quantifier = rest, q
		}
	}
	name, ifExists = strings.CutSuffix(name, "IfExists")
	return name, quantifier, ifExists
}

// names says whether the principal of a statement is the caller.
func (p iamPrincipal) names(s *awsSession) bool {
	for _, name := range p["AWS"] {
		switch name {
		case "*", s.arn, s.principalARN(), s.account(), "arn:" + arnPart(s.arn, 1) + ":iam::" + s.account() + ":root":
			return true
		}
	}
	return false
}

// iamLike matches a pattern in which * stands for any characters, ? for one.
func iamLike(pattern, s string) bool {
	star, from := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// UnmarshalJSON takes one statement or a list.
func (s *iamStatements) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("{")) {
		*s = make(iamStatements, 1)
		return decodeStrictly(text, &(*s)[0])
	}
	return decodeStrictly(text, (*[]iamStatement)(s))
}

// UnmarshalJSON takes one value or a list; a boolean is a value too.
func (s *iamStrings) UnmarshalJSON(text []byte) error {
	var list []any
	if !bytes.HasPrefix(text, []byte("[")) {
		text = append(append([]byte("["), text...), ']')
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	*s = iamStrings{}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			*s = append(*s, v)
		case bool:
			*s = append(*s, fmt.Sprint(v))
		default:
			return fmt.Errorf("%v is neither a string nor a boolean", v)
		}
	}
	return nil
}

// UnmarshalJSON takes "*" or an object.
func (p *iamPrincipal) UnmarshalJSON(text []byte) error {
	if string(text) == `"*"` {
		*p = iamPrincipal{"AWS": {"*"}}
		return nil
	}
	return decodeStrictly(text, (*map[string]iamStrings)(p))
}

// decodeStrictly refuses names that the target does not have.
func decodeStrictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows after the policy")
	}
	return nil
}
