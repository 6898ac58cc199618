package page

import "github.com/waymark-cd/waymark/api"

// Target is one target: its past, what changed, and what a person may ask for.
type Target struct {
	api.Target
	Runs     []api.Run
	Next     string    // cursor of older runs; empty: there are none
	Older    bool      // whether Runs are not the latest
	Versions []api.Run // those that succeeded, newest first: what may be compared and gone back to
	Diff     Diff
	Freezes  []api.Freeze // that hold changes up here, or are to
	Closed   string       // why its windows let nothing through now; empty: they do
	May      TargetMay
	// Repositories are those whose tags, branches and commits may be planned.
	Repositories []string
	// Source is where the forge of a repository shows a commit; nil, or an empty
	// answer, where nobody knows.
	Source func(repository, commit string) string
}

// sourceIn is where a commit of a repository is shown; empty: nowhere.
func (t Target) sourceIn(repository, commit string) string {
	if t.Source == nil {
		return ""
	}
	return t.Source(repository, commit)
}

// deployedSource is where the commit is shown that is deployed.
func (t Target) deployedSource() string {
	for _, r := range t.Versions {
		if r.ID == t.Deployed.RunID {
			return t.sourceIn(r.Repository, r.Commit)
		}
	}
	return ""
}

// repository is the one that the target's latest run came from; empty: none did.
func (t Target) repository() string {
	switch {
	case t.LatestRun != nil:
		return t.LatestRun.Repository
	case len(t.Runs) > 0:
		return t.Runs[0].Repository
	}
	return ""
}

// TargetMay is what the person who looks may ask for.
type TargetMay struct{ Plan, Drift, Rollback, Destroy, Unlock, Freeze, Thaw bool }

// Any reports whether there is anything to ask for.
func (m TargetMay) Any() bool { return m != TargetMay{} }

// Diff is what changed from one release to another.
type Diff struct {
	From, To *api.Run
	Commits  []Commit
	More     bool      // there are other commits
	Untold   string    // why the commits cannot be told
	Runs     []api.Run // what was deployed after From, up to To, newest first
	Plan     *api.Plan // of To
}

// Commit is one commit between two releases.
type Commit struct{ ID, Author, Subject string }

// TargetLock is a target with the locks on its state.
type TargetLock struct {
	api.Target
	Locks  []api.Lock
	Untold string // why they cannot be told
	Unlock bool   // whether the person may free those of our dead runs
}

// freeable reports whether one of the locks is of a run of ours that is dead.
func (t TargetLock) freeable() bool {
	for _, l := range t.Locks {
		if t.Unlock && l.RunID != "" && !l.Alive && l.Elsewhere == "" {
			return true
		}
	}
	return false
}

// at is the address of something beneath the target's page.
func at(t api.Target, what string) string { return TargetURL(t.Env, t.Scope, t.Team) + what }

// statePlace is where the state lies: a file, or an object of a bucket.
func statePlace(t api.Target) string {
	if t.Backend.Bucket == "" {
		return t.Backend.Key
	}
	return t.Backend.Bucket + "/" + t.Backend.Key
}

// latest gives the version that is deployed, or none.
func latest(t api.Target) string {
	if t.Deployed == nil {
		return ""
	}
	return t.Deployed.Version
}

// Releases is one page of the tags that were seen.
type Releases struct {
	Target, Decision string // what is asked for
	Rows             []Release
	Next             string
	First            bool // whether these are the newest
}

// Release is a tag, and who has signed it.
type Release struct {
	api.Release
	Signer string // empty: nobody, or it was not looked at
	URL    string // of its target's page; empty where it names none
	Source string // where its forge shows its commit; empty where nobody knows
}

// decisionTone gives a decision its colour.
func decisionTone(decision string) string {
	switch decision {
	case "admitted":
		return "good"
	case "refused":
		return "bad"
	}
	return "calm"
}
