package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// whoami tells a caller who the service takes it for; nobody needs a role for it.
func (s *Server) whoami(ctx context.Context, _ *noInput) (api.Whoami, error) {
	p := s.person(ctx)
	return api.Whoami{Name: p.Name, Kind: string(p.Kind), Via: p.Via, Subject: p.Subject, Decides: p.Decides,
		Emails: append([]string{}, p.Emails...), Groups: append([]string{}, p.Groups...), Grants: mapped(p.Grants, wireGrant)}, nil
}

func wireGrant(g identity.Grant) api.Grant {
	return api.Grant{Role: string(g.Role), Environments: append([]string{}, g.Environments...), Teams: append([]string{}, g.Teams...)}
}

func wireToken(t store.Token) api.Token {
	out := api.Token{ID: release.FormatID(t.ID), Name: t.Name, User: t.Actor, Groups: append([]string{}, t.Groups...), Grants: []api.Grant{},
		State: api.TokenValid, CreatedBy: t.CreatedBy, CreatedAt: utc(t.CreatedAt), ExpiresAt: utc(t.ExpiresAt), UsedAt: utc(t.UsedAt),
		RevokedAt: utc(t.RevokedAt), RevokedBy: t.RevokedBy}
	var grants []identity.Grant
	if json.Unmarshal(t.Grants, &grants) == nil { // one that cannot be read grants nothing
		out.Grants = mapped(grants, wireGrant)
	}
	switch {
	case !t.RevokedAt.IsZero():
		out.State = api.TokenRevoked
	case t.Expired:
		out.State = api.TokenExpired
	}
	return out
}

func (s *Server) listTokens(ctx context.Context, _ *noInput) (api.TokenList, error) {
	if err := s.may(ctx, identity.Tokens, release.Target{}); err != nil {
		return api.TokenList{}, err
	}
	all, err := s.cfg.Store.Tokens(ctx)
	return api.TokenList{Tokens: mapped(all, wireToken)}, err
}

type createTokenInput struct {
	Body api.NewToken
}

func (s *Server) createToken(ctx context.Context, in *createTokenInput) (api.MadeToken, error) {
	if err := s.may(ctx, identity.Tokens, release.Target{}); err != nil {
		return api.MadeToken{}, err
	}
	t, err := s.newToken(in.Body)
	if err != nil {
		return api.MadeToken{}, err
	}
	secret, hash := identity.NewToken()
	t.Hash, t.CreatedBy = hash, s.actor(ctx)
	made, err := s.cfg.Store.CreateToken(ctx, t, time.Duration(in.Body.ExpiresIn)*time.Second)
	if err != nil {
		return api.MadeToken{}, err
	}
	return api.MadeToken{Token: wireToken(made), Secret: secret}, nil
}

// newToken judges what is asked for.
func (s *Server) newToken(in api.NewToken) (store.Token, error) {
	user := in.User
	if user == "" {
		user = in.Name
	}
	for _, name := range []string{in.Name, user} {
		if err := identity.CheckName(name); err != nil {
			return store.Token{}, err
		}
	}
	for _, g := range in.Groups {
		if err := identity.CheckGroup(g); err != nil {
			return store.Token{}, err
		}
	}
	if err := among("environment", in.Environments, s.cfg.Environments); err != nil {
		return store.Token{}, err
	}
	if err := among("team", in.Teams, s.cfg.Teams); err != nil {
		return store.Token{}, err
	}
	grants, err := json.Marshal([]identity.Grant{{Role: identity.Role(in.Role), Environments: in.Environments, Teams: in.Teams}})
	return store.Token{Name: in.Name, Actor: user, Groups: in.Groups, Grants: grants}, err
}

// among refuses names that are not configured; a token would never be let to
// them, and nobody would know why.
func among(what string, names, known []string) error {
	for _, name := range names {
		if known != nil && !slices.Contains(known, name) {
			return fmt.Errorf("%w %s %.40q: it is not configured; there are %s", release.ErrInvalid, what, name, strings.Join(known, ", "))
		}
	}
	return nil
}

type revokeTokenInput struct {
	ID   string          `path:"id" maxLength:"20" doc:"Decimal id" example:"7"`
	Body *api.Revocation // may be left out
}

func (s *Server) revokeToken(ctx context.Context, in *revokeTokenInput) (api.Token, error) {
	if err := s.may(ctx, identity.Tokens, release.Target{}); err != nil {
		return api.Token{}, err
	}
	id, err := validID("token", in.ID)
	if err != nil {
		return api.Token{}, err
	}
	reason := ""
	if in.Body != nil {
		reason = strings.TrimSpace(in.Body.Reason)
	}
	t, err := s.cfg.Store.RevokeToken(ctx, id, s.actor(ctx), reason)
	return wireToken(t), err
}
