package credentials

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/waymark-cd/waymark/release"
)

// maxPolicy is how long STS lets a session policy be, in characters.
const maxPolicy = 2048

// policy is an IAM policy document.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect    string
	Action    list
	Resource  list
	Condition map[string]map[string]list `json:",omitempty"`
}

// list is written as IAM allows: a single value stands for itself.
type list []string

// MarshalJSON writes a single value without brackets.
func (l list) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return encode(l[0])
	}
	return encode([]string(l))
}

// encode is JSON without the escapes that are for HTML, and without spaces.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

func allow(actions, resources list) statement {
	return statement{Effect: "Allow", Action: actions, Resource: resources}
}

func (s statement) when(operator, key string, values ...string) statement {
	s.Condition = map[string]map[string]list{operator: {key: values}}
	return s
}

// SessionPolicy is what the session of this run may do in this phase, as
// compact JSON: reach the state's object and its lock, use the key that encrypts
// them, and assume the account's role. For other backends than "s3" it is the
// last alone. What the run role itself does not allow stays refused.
//
// The error wraps release.ErrInvalid: where something is missing or would be a
// pattern, and where the policy is longer than STS takes; then it says which
// names to shorten.
func SessionPolicy(r Request) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	p := policy{Version: "2012-10-17"}
	if r.Backend.Type == "s3" {
		st, err := r.state()
		if err != nil {
			return "", err
		}
		p.Statement = st.statements()
	}
	if roles := r.roles(); roles != nil {
		p.Statement = append(p.Statement, allow(list{"sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"}, roles))
	}
	if p.Statement == nil { // an empty policy is none, and without one the session is the whole role
		p.Statement = []statement{{Effect: "Deny", Action: list{"*"}, Resource: list{"*"}}}
	}
	text, err := encode(p)
	if err != nil {
		return "", fmt.Errorf("writing the session policy: %w", err)
	}
	if n := utf8.RuneCount(text); n > maxPolicy {
		return "", fmt.Errorf("%w session: its policy is %d characters long, and STS takes %d: shorten %s", release.ErrInvalid, n, maxPolicy, r.longNames())
	}
	return string(text), nil
}

// roles are what the session may assume.
func (r Request) roles() list {
	switch {
	case r.AccountRole != "":
		return list{r.AccountRole}
	case r.Account != "":
		return list{"arn:" + r.partition() + ":iam::" + r.Account + ":role/*"}
	}
	return nil
}

// longNames lists the names that a policy is long by, and their lengths. What
// stands in several places comes first.
func (r Request) longNames() string {
	type name struct {
		what          string
		length, times int
	}
	v := r.Backend.Values
	names := []name{
		{"the backend's key", len(v["key"]), 6}, {"its bucket", len(v["bucket"]), 5},
		{"its dynamodb_table", len(v["dynamodb_table"]), 1}, {"its kms_key_id", len(v["kms_key_id"]), 1},
		{"its workspace_key_prefix", len(v["workspace_key_prefix"]), 1}, {"the role's ARN", len(r.AccountRole), 1},
	}
	slices.SortStableFunc(names, func(a, b name) int { return cmp.Compare(b.length*b.times, a.length*a.times) })
	var out []string
	for _, n := range names {
		if n.length > 0 {
			out = append(out, fmt.Sprintf("%s (%d)", n.what, n.length))
		}
	}
	return strings.Join(out, ", ")
}

// state is one state in S3, as a policy names it.
type state struct {
	partition, account, region string
	bucket, key                string
	lockfile                   bool
	table                      string // ARN; "": none
	prefix                     string // that the engines list
	kms                        string // ARN of a key; "": none
	alias                      string // that the key must have; "": any
	write                      bool
}

// state reads the backend's arguments.
func (r Request) state() (state, error) {
	v := r.Backend.Values
	for _, name := range []string{"bucket", "key", "region", "dynamodb_table", "kms_key_id", "workspace_key_prefix"} {
		if i := strings.IndexAny(v[name], "*?$\"\\"); i >= 0 {
			return state{}, fmt.Errorf("%w backend \"s3\": %s %q holds %q, which policies read as a pattern: choose another name",
				release.ErrInvalid, name, v[name], v[name][i])
		}
	}
	for _, name := range []string{"bucket", "key"} {
		if v[name] == "" {
			return state{}, fmt.Errorf("%w backend \"s3\": %s is not set", release.ErrInvalid, name)
		}
	}
	st := state{
		partition: r.partition(), account: r.home(), region: cmp.Or(v["region"], r.Region),
		bucket: v["bucket"], key: v["key"], lockfile: v["use_lockfile"] == "true",
		prefix: cmp.Or(v["workspace_key_prefix"], "env:") + "/",
		write:  r.Phase == release.PhaseApply,
	}
	if st.region == "" && (v["dynamodb_table"] != "" || v["kms_key_id"] != "") {
		return state{}, fmt.Errorf("%w backend \"s3\": region is not set, and nothing else says where the table and the key are", release.ErrInvalid)
	}
	if table := v["dynamodb_table"]; table != "" {
		st.table = st.arn("dynamodb", "table/", table)
	}
	if err := st.readKey(v["kms_key_id"]); err != nil {
		return state{}, err
	}
	return st, nil
}

// arn completes a bare name in the account of the run role.
func (st state) arn(service, kind, name string) string {
	if strings.HasPrefix(name, "arn:") {
		return name
	}
	return "arn:" + st.partition + ":" + service + ":" + st.region + ":" + st.account + ":" + kind + name
}

// readKey takes a key's or alias's ARN, a key's id, or alias/name. A key is
// named by an alias in a condition alone, because no ARN of a key is known then.
func (st *state) readKey(id string) error {
	if id == "" {
		return nil
	}
	full := st.arn("kms", "key/", id)
	if strings.HasPrefix(id, "alias/") {
		full = st.arn("kms", "", id)
	}
	parts := strings.SplitN(full, ":", 6)
	if len(parts) != 6 || parts[2] != "kms" {
		return fmt.Errorf("%w backend \"s3\": kms_key_id %q is neither a key's id nor an ARN of KMS", release.ErrInvalid, id)
	}
	if strings.HasPrefix(parts[5], "alias/") {
		st.alias = parts[5]
		full = strings.Join(parts[:5], ":") + ":key/*"
	}
	st.kms = full
	return nil
}

// statements are what the engine needs for this state, in this phase.
func (st state) statements() []statement {
	bucket := "arn:" + st.partition + ":s3:::" + st.bucket
	object := allow(list{"s3:GetObject"}, list{bucket + "/" + st.key})
	if st.write {
		object.Action = append(object.Action, "s3:PutObject")
	}
	var more []statement
	listed := []string{st.key}
	if st.lockfile {
		lock := st.key + ".tflock"
		listed = append(listed, lock)
		more = append(more, allow(list{"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}, list{bucket + "/" + lock}))
	}
	// IfExists: S3 says 404, not 403, of an object that is not there yet only where
	// listing is allowed; and that request has no prefix.
	more = append(more, allow(list{"s3:ListBucket"}, list{bucket}).
		when("StringEqualsIfExists", "s3:prefix", append(listed, st.prefix)...))
	if st.table != "" {
		item := st.bucket + "/" + st.key
		more = append(more, allow(list{"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"}, list{st.table}).
			when("ForAllValues:StringEquals", "dynamodb:LeadingKeys", item, item+"-md5"))
	}
	switch use := st.cryptography(); {
	case st.kms == "":
	case st.alias != "":
		more = append(more, allow(use, list{st.kms}).when("ForAnyValue:StringEquals", "kms:ResourceAliases", st.alias))
	default: // one statement less, because there is little room
		object.Action, object.Resource = append(object.Action, use...), append(object.Resource, st.kms)
	}
	return append([]statement{object}, more...)
}

// cryptography is what writing and reading encrypted objects takes.
func (st state) cryptography() list {
	if st.write || st.lockfile {
		return list{"kms:Decrypt", "kms:GenerateDataKey"}
	}
	return list{"kms:Decrypt"}
}
