package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// trouble is a failure that lies outside this process: what is wrong, and what
// to do next. It wraps release.ErrUnavailable and the cause.
type trouble struct {
	what  string
	next  string
	cause error // may be nil
}

func (t *trouble) Error() string {
	s := t.what
	if t.cause != nil {
		s += ": " + t.cause.Error()
	}
	return s + "; " + t.next
}

func (t *trouble) Unwrap() []error {
	if t.cause == nil {
		return []error{release.ErrUnavailable}
	}
	return []error{release.ErrUnavailable, t.cause}
}

// failed names the repository and what was being done. An error that is no
// sentinel and no trouble yet came from the connection.
func (r *Repository) failed(ctx context.Context, doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		err = context.Cause(ctx)
	case ctx.Err() != nil:
		err = &trouble{what: "the remote did not answer in time", cause: context.Cause(ctx),
			next: "check the remote and the network, or allow more time"}
	case isSentinel(err):
	default:
		err = &trouble{what: "the exchange with the remote broke off", cause: err,
			next: "check the network and that the url is a git repository"}
	}
	return fmt.Errorf("repository %q (%s): %s: %w", r.cfg.Name, r.shown, doing, err)
}

func isSentinel(err error) bool {
	for _, s := range []error{release.ErrUnavailable, release.ErrInvalid, release.ErrRefused,
		release.ErrNotFound, ErrMoved, ErrTooLarge, errLocal} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// errLocal marks a failure of our own disk, which no remote is to blame for.
var errLocal = errors.New("local cache")

// remoteSaid turns what the server wrote to stderr or in an ERR line into
// trouble. The text is hostile: it is clipped and quoted.
func remoteSaid(text string, cause error) error {
	low := strings.ToLower(text)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(low, p) {
				return true
			}
		}
		return false
	}
	said := fmt.Sprintf("the remote says %q", clip(strings.TrimSpace(text)))
	switch {
	case has("not our ref"):
		return fmt.Errorf("%w while it was being fetched: %s; list the tags again", ErrMoved, said)
	case has("dubious ownership"):
		return &trouble{what: said, cause: cause,
			next: "the folder belongs to another user: add it to git's safe.directory for the user that runs waymark"}
	case has("does not appear to be a git repository", "repository not found", "does not exist",
		"no such repository", "could not be found", "could not find repository"):
		return &trouble{what: "no repository there: " + said, cause: cause,
			next: "check the url, and that the key or the credentials may read it"}
	case has("permission denied", "access denied", "not authorized", "authentication"):
		return &trouble{what: said, cause: cause, next: "give the key or the credentials read access"}
	case text == "":
		return &trouble{what: "the remote closed the connection without an answer", cause: cause,
			next: "check that the url is a git repository and that the account may run git-upload-pack"}
	}
	return &trouble{what: said, cause: cause, next: "see the remote's own log"}
}
