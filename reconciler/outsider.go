package reconciler

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// isNobody reports whether an actor stands for nobody in particular: whoever
// reaches an open service, or whoever has the one token.
func isNobody(actor string) bool { return actor == "local" || actor == "token" }

// hand is somebody who had a hand in what a run does.
type hand struct {
	role string // "the tagger"
	who  string // as git or a key says it: "Name <address>", a name or an address
}

// names are the hand's name and address, as far as there are.
func (h hand) names() []string {
	name, rest, _ := strings.Cut(h.who, "<")
	address, _, _ := strings.Cut(rest, ">")
	return slices.DeleteFunc([]string{strings.TrimSpace(name), strings.TrimSpace(address)}, func(s string) bool { return s == "" })
}

// hands lists who made a release and, where a person asked for the run, who that was.
func hands(rel release.Release, run release.Run) []hand {
	all := []hand{{"the tagger", rel.Tagger}, {"the committer", rel.Committer}, {"the author", rel.Author}, {"the signer", rel.SignedBy.Name}}
	if run.Kind == release.Rollback || run.Kind == release.Destroy {
		all = append(all, hand{"whoever asked for the " + string(run.Kind), run.CreatedBy})
	}
	return slices.DeleteFunc(all, func(h hand) bool { return h.who == "" })
}

// knownAs lists by what a person is known: the name, without the issuer's too,
// and the addresses.
func knownAs(actor string, emails []string) []string {
	all := append([]string{actor}, emails...)
	if _, name, ok := strings.Cut(actor, "/"); ok {
		all = append(all, name)
	}
	return slices.DeleteFunc(all, func(s string) bool { return strings.TrimSpace(s) == "" })
}

// overlap reports whether two lists of names have one in common, in whatever case.
func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool { return strings.EqualFold(strings.TrimSpace(x), strings.TrimSpace(y)) })
	})
}

// isSame reports whether an approval was given by the person of a verdict.
func isSame(a release.Approval, v release.Verdict) bool {
	return overlap(knownAs(a.Actor, a.Emails), knownAs(v.Actor, v.Emails))
}

// outsider refuses an approval by somebody who had a hand in what the run does
// and, where the service tells people apart, by somebody of whom that cannot be
// excluded.
func (r *Reconciler) outsider(ctx context.Context, rec store.Record, v release.Verdict) error {
	tells := r.Config.Config.TellsPeople()
	if isNobody(v.Actor) && !tells {
		return nil // everybody is one person here
	}
	rel, err := r.releaseOf(ctx, rec)
	if err != nil {
		return err
	}
	return judgeOutsider(hands(rel, rec.Run), rec.Run, v, tells)
}

func judgeOutsider(all []hand, run release.Run, v release.Verdict, tells bool) error {
	if isNobody(v.Actor) {
		return refuse("%q stands for nobody in particular, and may be the tagger: approve run %d as a person, logged in or with a token of your own", v.Actor, run.ID)
	}
	mine := knownAs(v.Actor, v.Emails)
	for _, h := range all {
		if overlap(mine, h.names()) {
			return refuse("%s is %s of what run %d deploys: another person must approve it", v.Actor, h.role, run.ID)
		}
	}
	if !tells {
		return nil
	}
	for _, h := range all {
		if isNobody(h.who) {
			return refuse("%s of run %d is %q, who may be %s: ask for it anew as a person", h.role, run.ID, h.who, v.Actor)
		}
	}
	switch hasAddress := func(s string) bool { return strings.Contains(s, "@") }; {
	case len(all) == 0 || all[0].role != "the tagger":
		return refuse("nothing says who made the tag of run %d, so it may have been %s: push an annotated tag with a new version", run.ID, v.Actor)
	case !slices.ContainsFunc(mine, hasAddress):
		return refuse("no e-mail address of %s is known, so nothing tells %[1]s from %[2]s, the tagger of run %[3]d: log in by an issuer that gives one, or have a token made for a user who is an address",
			v.Actor, all[0].who, run.ID)
	}
	return nil
}

// releaseOf is the release of a run, with the people of its commit.
func (r *Reconciler) releaseOf(ctx context.Context, rec store.Record) (release.Release, error) {
	rel, err := r.Store.Release(ctx, rec.ReleaseID)
	if err != nil || rel.Author != "" || rel.Committer != "" {
		return rel, err
	}
	w := r.watches[rec.Repository] // recorded before the people of commits were
	if w == nil {
		return rel, fmt.Errorf("%w: repository %q is no longer configured, so nothing tells who made commit %.12s", release.ErrRefused, rec.Repository, rel.Commit)
	}
	seen, err := w.inspect(ctx, []Ref{{Name: rel.Tag, ObjectID: rel.ObjectID, Commit: rel.Commit, Annotated: rel.Tagger != ""}})
	if err != nil {
		return rel, fmt.Errorf("finding out who made commit %.12s: %w", rel.Commit, err)
	}
	rel.Author, rel.Committer = seen[0].Author, seen[0].Committer
	return rel, nil
}
