package policies

import (
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// TagInput is what is known of a tag before it is admitted: the document that
// rules on tags see as "input". Every field is always present in its JSON and no
// list is null. Times are RFC 3339 in UTC, and empty where they are not known.
type TagInput struct {
	Format     int       `json:"format"` // the version of this document: 2
	Target     Target    `json:"target"`
	Repository string    `json:"repository"` // name of its repository block
	Tag        string    `json:"tag"`        // the whole name
	Version    string    `json:"version"`    // as written in the tag
	ObjectID   string    `json:"object_id"`
	Commit     string    `json:"commit"`
	Annotated  bool      `json:"annotated"` // made with git tag -a
	Reachable  bool      `json:"reachable"` // from the configured branch
	Tagger     Person    `json:"tagger"`    // as the tag says; anybody can write any name
	TaggedAt   string    `json:"tagged_at"` // as the tag says
	Message    string    `json:"message"`
	Signed     bool      `json:"signed"`   // there is a signature, whatever it is worth
	Signer     Signer    `json:"signer"`   // of a verified signature
	Deployed   []PastTag `json:"deployed"` // the version that is deployed: one entry, or none
	Earlier    []PastTag `json:"earlier"`  // tags of the target that were seen before, newest first, 50 at most
	Now        string    `json:"now"`
}

// Person is a name as git writes it.
type Person struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Signer is who signed a tag; all fields are empty where nobody is known.
type Signer struct {
	Name string `json:"name"` // a user id of an OpenPGP key, or a principal of an SSH key
	Key  string `json:"key"`  // fingerprint
	Kind string `json:"kind"` // OpenPGP or SSH
}

// PastTag is an earlier tag of the same target.
type PastTag struct {
	Version  string `json:"version"`
	Tag      string `json:"tag"`
	Commit   string `json:"commit"`
	RunID    string `json:"run_id"`   // of the deployed one; empty for others
	Decision string `json:"decision"` // admitted, adopted or refused; empty for the deployed one
	At       string `json:"at"`       // when it was deployed, or seen
}

// tagInput makes the document of what is known.
func tagInput(f release.TagFacts, spec release.PolicySpec) TagInput {
	spec.Target, spec.Account = f.Target, f.Account
	in := TagInput{Format: InputFormat, Target: targetOf(spec), Repository: f.Repository, Tag: f.Tag, Version: f.Version,
		ObjectID: f.ObjectID, Commit: f.Commit, Annotated: f.Annotated, Reachable: f.Reachable, Tagger: person(f.Tagger),
		TaggedAt: moment(f.TaggedAt), Message: strings.ToValidUTF8(f.Message, "\uFFFD"), Signed: f.Signed,
		Signer: Signer(f.SignedBy), Deployed: []PastTag{}, Earlier: []PastTag{}, Now: moment(f.Now)}
	if f.Deployed != nil {
		in.Deployed = append(in.Deployed, pastTag(*f.Deployed))
	}
	for _, v := range f.Earlier {
		in.Earlier = append(in.Earlier, pastTag(v))
	}
	return in
}

func pastTag(v release.TagVersion) PastTag {
	p := PastTag{Version: v.Version, Tag: v.Tag, Commit: v.Commit, Decision: string(v.Decision), At: moment(v.At)}
	if v.RunID != 0 {
		p.RunID = release.FormatID(v.RunID)
	}
	return p
}

// person reads "Name <address>".
func person(s string) Person {
	s = strings.ToValidUTF8(s, "\uFFFD")
	i := strings.LastIndexByte(s, '<')
	if i < 0 {
		return Person{Name: strings.TrimSpace(s)}
	}
	email, _, _ := strings.Cut(s[i+1:], ">")
	return Person{Name: strings.TrimSpace(s[:i]), Email: strings.TrimSpace(email)}
}

// moment prints a time; empty for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
