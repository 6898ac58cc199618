package release

import "time"

// Decision is what became of a tag when it was first seen.
type Decision string

// The decisions on a tag.
const (
	Admitted Decision = "admitted" // a run was queued for it
	Adopted  Decision = "adopted"  // it was there at first contact; nothing runs
	Refused  Decision = "refused"  // a rule said no; Reason says which
)

// Release is a tag as it was first seen. It is evidence: the object id and the
// commit are pinned, and a tag that moves later is a new Refused release.
type Release struct {
	ID         int64
	Repository string
	Tag        string // the whole name, without refs/tags/
	Target     Target // zero where the name is no deployment tag
	Version    string // as written in the tag
	ObjectID   string // of the tag object, or of the commit for a lightweight tag
	Commit     string
	Tagger     string // "Name <address>", empty for a lightweight tag
	TaggedAt   time.Time
	Message    string
	Signature  string // armoured, empty where unsigned
	SignedBy   Signer // whom the signature was verified to be of; zero where it was not
	Author     string // of the commit, "Name <address>"; empty where it was not recorded
	Committer  string // likewise
	SeenAt     time.Time
	Decision   Decision
	Reason     string
}
