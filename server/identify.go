package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// identifyWithin bounds how long it may take to find out who somebody is.
const identifyWithin = 10 * time.Second

// closed reports whether callers must show who they are.
func (s *Server) closed() bool { return s.cfg.Token != "" || len(s.cfg.Issuers) > 0 }

// identify says who a request comes from. A nameless person has shown nothing; the
// error says why what was shown does not count.
func (s *Server) identify(r *http.Request) (caller, error) {
	ctx, cancel := context.WithTimeout(r.Context(), identifyWithin)
	defer cancel()
	token, shown := bearerOf(r)
	switch {
	case shown && (s.closed() || identity.LooksLikeToken(token)):
		p, err := s.byToken(ctx, r, token)
		return caller{Person: p}, err
	case !s.closed():
		return caller{Person: identity.Anybody()}, nil
	case r.Header.Get("Authorization") != "": // of another scheme: no session beside it counts
		return caller{}, nil
	}
	p, err := s.bySession(ctx, r)
	return caller{Person: p, bySession: true}, err
}

// bearerOf gives the token of a request's header, if it has one.
func bearerOf(r *http.Request) (token string, shown bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// byToken says whom a token of any kind stands for. Failures are counted against
// the caller's address and the token's beginning; too many, and what was not good
// a while ago is not looked at any more.
func (s *Server) byToken(ctx context.Context, r *http.Request, token string) (identity.Person, error) {
	hash := sha256.Sum256([]byte(token))
	keys := limitKeys(s.clientAddr(r), token)
	if wait := s.limits.wait(s.now(), hash, keys); wait > 0 {
		return identity.Person{}, s.failed(ctx, r, &tooMany{wait})
	}
	p, err := s.holderOf(ctx, token)
	var failure *identity.Failure
	switch {
	case err == nil:
		s.limits.good(s.now(), hash)
	case errors.As(err, &failure) && failure.Why != identity.Unavailable:
		s.limits.bad(s.now(), hash, keys)
	}
	return p, s.failed(ctx, r, err)
}

// holderOf says whom a token stands for.
func (s *Server) holderOf(ctx context.Context, token string) (identity.Person, error) {
	switch {
	case s.isToken(token):
		return identity.Master(), nil
	case identity.LooksLikeToken(token):
		hash, err := identity.TokenHash(token)
		if err != nil {
			return identity.Person{}, &identity.Failure{Why: identity.Malformed, Detail: "what was sent " + err.Error(), Cause: err}
		}
		kept, err := s.cfg.Store.TokenByHash(ctx, hash)
		if err == nil && subtle.ConstantTimeCompare([]byte(kept.Hash), []byte(hash)) != 1 {
			err = release.ErrNotFound
		}
		return holder(kept, err)
	}
	claimed := identity.IssuerOf(token)
	for _, i := range s.cfg.Issuers {
		if i.Issued(token) {
			return i.Verify(ctx, token)
		}
	}
	if claimed != "" {
		return identity.Person{}, &identity.Failure{Why: identity.Unknown, Detail: "the ID token is of no issuer that this service knows"}
	}
	return identity.Person{}, &identity.Failure{Why: identity.Unknown, Detail: "this is no token of this service"}
}

// holder gives the person of an API token as it was found.
func holder(t store.Token, err error) (identity.Person, error) {
	switch {
	case errors.Is(err, release.ErrNotFound):
		return identity.Person{}, &identity.Failure{Why: identity.Unknown, Detail: "this is no token of this service"}
	case err != nil:
		return identity.Person{}, err
	case !t.RevokedAt.IsZero():
		return identity.Person{}, &identity.Failure{Why: identity.Revoked, Detail: fmt.Sprintf("the token %q was revoked: ask an admin for a new one (waymark tokens create)", t.Name)}
	case t.Expired:
		return identity.Person{}, &identity.Failure{Why: identity.Expired, Detail: fmt.Sprintf("the token %q has expired: ask an admin for a new one (waymark tokens create)", t.Name)}
	}
	return identity.TokenHolder(t.Name, t.Actor, t.Groups, t.Grants)
}

// isToken compares with the service's own token, in constant time whatever the
// length.
func (s *Server) isToken(token string) bool {
	hash := sha256.Sum256([]byte(token))
	return s.cfg.Token != "" && subtle.ConstantTimeCompare(hash[:], s.tokenHash[:]) == 1
}

// failed counts and logs why somebody was not let in, and passes it on.
func (s *Server) failed(ctx context.Context, r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	why := identity.Why("error")
	var failure *identity.Failure
	var limited *tooMany
	switch {
	case errors.As(err, &limited):
		why = identity.Limited
	case errors.As(err, &failure):
		why = failure.Why
	}
	s.door.failures.WithLabelValues(string(why)).Inc()
	var cause error
	if failure != nil {
		cause = failure.Cause
	}
	s.log.WarnContext(ctx, "somebody was not let in", "request_id", requestID(ctx), "why", string(why), "address", s.clientAddr(r).String(), "error", err, "cause", cause)
	return err
}

// tooMany says that there were too many failures before, and how long to wait.
type tooMany struct{ wait time.Duration }

// Error says what to do.
func (t *tooMany) Error() string {
	return fmt.Sprintf("too many tokens that were none came from this address, or this one too often: wait %s", t.wait.Round(time.Second))
}

// seconds is the wait as Retry-After has it.
func (t *tooMany) seconds() string { return strconv.Itoa(int(t.wait/time.Second) + 1) }
