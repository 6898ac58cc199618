package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Grant is a role, and where it holds.
type Grant struct {
	Role         string   `json:"role" enum:"viewer,operator,approver,admin"`
	Environments []string `json:"environments" nullable:"false" doc:"Empty: all"`
	Teams        []string `json:"teams" nullable:"false" doc:"Empty: all"`
}

// Whoami is who the service takes a caller for.
type Whoami struct {
	Name    string   `json:"name" doc:"As it stands in the record" example:"alice@example.org"`
	Kind    string   `json:"kind" enum:"local,token,api_token,oidc" doc:"How it was told: by nothing on an open service, by the service's own token, by an API token, by an issuer"`
	Via     string   `json:"via,omitempty" doc:"Name of the API token or of the issuer"`
	Subject string   `json:"subject,omitempty" doc:"The issuer's own name of the person"`
	Emails  []string `json:"emails" nullable:"false"`
	Groups  []string `json:"groups" nullable:"false"`
	Grants  []Grant  `json:"grants" nullable:"false" doc:"They add up"`
	Decides bool     `json:"decides" doc:"False for a session that reads alone"`
}

// Token is an API token, without the token itself.
type Token struct {
	ID        string    `json:"id" doc:"Decimal id" example:"7"`
	Name      string    `json:"name"`
	User      string    `json:"user" doc:"Whom it stands for in the record"`
	Groups    []string  `json:"groups" nullable:"false"`
	Grants    []Grant   `json:"grants" nullable:"false"`
	State     string    `json:"state" enum:"valid,expired,revoked"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	UsedAt    time.Time `json:"used_at,omitzero" doc:"Its last use, to a minute; absent before the first"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	RevokedBy string    `json:"revoked_by,omitempty"`
}

// The states of a token, as on the wire.
const (
	TokenValid   = "valid"
	TokenExpired = "expired"
	TokenRevoked = "revoked"
)

// TokenList is the answer to GET tokens, the newest first.
type TokenList struct {
	Tokens []Token `json:"tokens" nullable:"false"`
}

// NewToken is the body of POST tokens.
type NewToken struct {
	_            struct{} `additionalProperties:"false"` // a misspelt member is an error
	Name         string   `json:"name" minLength:"1" maxLength:"100" doc:"For people; no two that count have the same"`
	User         string   `json:"user,omitempty" maxLength:"256" doc:"Whom it stands for in the record; left out: its name"`
	Role         string   `json:"role" enum:"viewer,operator,approver,admin"`
	Environments []string `json:"environments,omitempty" maxItems:"100" nullable:"false" doc:"Where the role holds; left out: all"`
	Teams        []string `json:"teams,omitempty" maxItems:"100" nullable:"false" doc:"For whose targets it holds; left out: all"`
	Groups       []string `json:"groups,omitempty" maxItems:"100" nullable:"false" doc:"That it counts as a member of, where approvals are asked from groups"`
	ExpiresIn    int64    `json:"expires_in" minimum:"60" maximum:"31622400" doc:"Seconds, a leap year at most"`
}

// MadeToken is the answer to POST tokens: the only one that holds the token.
type MadeToken struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret" doc:"The token itself; it is shown this once"`
}

// Revocation is the body of revoke.
type Revocation struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Whoami asks who the service takes this client for.
func (c *Client) Whoami(ctx context.Context) (Whoami, error) {
	return get[Whoami](ctx, c, "whoami", nil)
}

// Tokens lists every API token, also those that have expired or were revoked.
func (c *Client) Tokens(ctx context.Context) (TokenList, error) {
	return get[TokenList](ctx, c, "tokens", nil)
}

// CreateToken makes an API token.
func (c *Client) CreateToken(ctx context.Context, t NewToken) (MadeToken, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return MadeToken{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[MadeToken](ctx, c, http.MethodPost, "tokens", nil, body)
}

// RevokeToken ends an API token at once, and the sessions that began with it.
func (c *Client) RevokeToken(ctx context.Context, id string, r Revocation) (Token, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Token{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[Token](ctx, c, http.MethodPost, "tokens/"+escape(id, "revoke"), nil, body)
}
