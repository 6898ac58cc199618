package backends

import (
	"fmt"
	"maps"
	"slices"

	"github.com/waymark-cd/waymark/release"
)

// The kinds of stores.
const (
	StoreBucket = "bucket"
	StoreTable  = "table"
)

// Use is a target's use of a backend.
type Use struct {
	Spec    release.BackendSpec
	Account string // that bucket and table belong to, 12 digits; empty where it is not known
}

// Store is a bucket of states or a table of locks.
type Store struct {
	Kind    string `json:"kind"` // StoreBucket or StoreTable
	Name    string `json:"name"`
	Region  string `json:"region,omitempty"`  // empty: the client's own
	Account string `json:"account,omitempty"` // empty: not known, and the owner is not checked
	KMSKey  string `json:"kms_key,omitempty"` // that all its states name; empty: none, or several

	place s3Place
	keys  []string // of the states in a bucket
	acl   string   // that the engine sets on states, where object ownership would forbid it
}

func (s Store) String() string { return fmt.Sprintf("%s %q", s.Kind, s.Name) }

// Stores returns each bucket and table once that backends of type "s3" name, in
// order. Other backends have none. Errors wrap release.ErrInvalid: one bucket
// in two Regions or accounts is a mistake, a table's name is used in each.
func Stores(uses []Use) ([]Store, error) {
	found := map[string]*Store{}
	for _, u := range uses {
		if u.Spec.Type != s3Type {
			continue
		}
		p, err := s3PlaceOf(u.Spec)
		if err != nil {
			return nil, err
		}
		bucket := Store{Kind: StoreBucket, Name: p.bucket, Region: p.region, Account: u.Account, KMSKey: p.kms, place: p}
		kept, err := gather(found, fmt.Sprint("bucket ", p.bucket, p.endpoints), bucket)
		if err != nil {
			return nil, err
		}
		kept.keys = append(kept.keys, p.key)
		if p.acl != "" && p.acl != "bucket-owner-full-control" {
			kept.acl = p.acl
		}
		if p.table == "" {
			continue
		}
		table := Store{Kind: StoreTable, Name: p.table, Region: p.region, Account: u.Account, place: p}
		if _, err := gather(found, fmt.Sprint("table ", p.table, p.region, u.Account, p.endpoints), table); err != nil {
			return nil, err
		}
	}
	var out []Store
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[name])
	}
	return out, nil
}

// gather keeps a store, or finds that it is known and in the same place.
func gather(found map[string]*Store, name string, s Store) (*Store, error) {
	known := found[name]
	if known == nil {
		found[name] = &s
		return &s, nil
	}
	if known.Region != s.Region || known.Account != s.Account {
		return nil, fmt.Errorf("%w backend %q: %s is in %s for one target and in %s for another: give each Region and account a name of its own",
			release.ErrInvalid, s3Type, s, whereIs(*known), whereIs(s))
	}
	if known.KMSKey != s.KMSKey {
		known.KMSKey = "" // each state's own key is named when it is written
	}
	return known, nil
}

func whereIs(s Store) string {
	region := s.Region
	if region == "" {
		region = "no Region"
	}
	if s.Account != "" {
		return region + " of account " + s.Account
	}
	return region
}
