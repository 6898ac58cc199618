package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Token is an API token, without the token itself: that is kept nowhere. Its
// times are of the database's clock.
type Token struct {
	ID        int64
	Name      string // for people; of those that count no two have the same
	Actor     string // whom it stands for
	Hash      string // SHA-256 of the token, in hexadecimal
	Grants    json.RawMessage
	Groups    []string
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // to a minute; zero where it was not used yet
	RevokedAt time.Time // zero where it was not
	RevokedBy string
	Expired   bool // as of when it was read
}

const tokenColumns = "id, name, actor, hash, grants, member_of, created_by, created_at, expires_at, used_at, revoked_at, revoked_by"

// usedEvery is how often the use of a token is written down, at most.
const usedEvery = time.Minute

// CreateToken puts a token on record that counts for as long as lifetime. Name,
// Actor, Hash, Grants, Groups and CreatedBy are those of t. A name that another
// token has, which still counts, is release.ErrConflict.
func (s *Store) CreateToken(ctx context.Context, t Token, lifetime time.Duration) (Token, error) {
	if t.Name == "" || t.Actor == "" || t.Hash == "" || t.CreatedBy == "" || len(t.Grants) == 0 || lifetime <= 0 {
		return Token{}, fmt.Errorf("%w token: it needs a name, somebody whom it stands for, a hash, grants and a lifetime", release.ErrInvalid)
	}
	var made Token
	err := s.db.inTx(ctx, func(q tx) error {
		var now, same int64
		err := q.row(ctx, "SELECT now.at, (SELECT count(*) FROM tokens WHERE name = $1 AND revoked_at = 0 AND expires_at > now.at) FROM (SELECT "+
			q.clock()+" AS at) now", t.Name).Scan(&now, &same)
		if err != nil {
			return fmt.Errorf("creating a token: %w", err)
		}
		if same > 0 {
			return fmt.Errorf("%w: there is a token %q: revoke it first, or write another name", release.ErrConflict, t.Name)
		}
		made, err = scanToken(q.row(ctx, `INSERT INTO tokens (name, actor, hash, grants, member_of, created_by, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING `+tokenColumns+", 0",
			t.Name, t.Actor, t.Hash, string(t.Grants), jsonText(t.Groups), t.CreatedBy, now, now+lifetime.Milliseconds()))
		if err != nil {
			return fmt.Errorf("creating a token: %w", err)
		}
		return s.appendEntries(ctx, q, audit.Entry{Actor: t.CreatedBy, Action: "token.created", Details: map[string]any{
			"token": made.ID, "name": made.Name, "actor": made.Actor, "grants": made.Grants, "groups": made.Groups, "expires_at": made.ExpiresAt}})
	})
	return made, err
}

func scanToken(sc scanner) (Token, error) {
	var t Token
	var grants, groups string
	var created, expires, used, revoked, expired int64
	err := sc.Scan(&t.ID, &t.Name, &t.Actor, &t.Hash, &grants, &groups, &t.CreatedBy, &created, &expires, &used, &revoked, &t.RevokedBy, &expired)
	if err != nil {
		return Token{}, err
	}
	t.Grants, t.Expired = json.RawMessage(grants), expired == 1
	t.CreatedAt, t.ExpiresAt, t.UsedAt, t.RevokedAt = fromMillis(created), fromMillis(expires), fromMillis(used), fromMillis(revoked)
	if err := json.Unmarshal([]byte(groups), &t.Groups); err != nil {
		return Token{}, fmt.Errorf("reading the groups of token %d: %w", t.ID, err)
	}
	return t, nil
}

// expired is the condition, as a number, for a token to have expired.
func expired(q querier) string { return "CASE WHEN expires_at <= " + q.clock() + " THEN 1 ELSE 0 END" }

// TokenByHash finds a token by the hash of what somebody sent, also one that is
// expired or revoked, and writes down that it was used. Without one it is
// release.ErrNotFound.
func (s *Store) TokenByHash(ctx context.Context, hash string) (Token, error) {
	return s.token(ctx, "hash = $1", hash, "a token")
}

// Token finds a token by its id, as TokenByHash does.
func (s *Store) Token(ctx context.Context, id int64) (Token, error) {
	return s.token(ctx, "id = $1", id, fmt.Sprintf("token %d", id))
}

func (s *Store) token(ctx context.Context, where string, arg any, what string) (Token, error) {
	t, err := scanToken(s.db.row(ctx, "SELECT "+tokenColumns+", "+expired(s.db)+" FROM tokens WHERE "+where, arg))
	if noRows(err) {
		return Token{}, fmt.Errorf("%s: %w", what, release.ErrNotFound)
	}
	if err != nil {
		return Token{}, fmt.Errorf("reading %s: %w", what, err)
	}
	if t.Expired || !t.RevokedAt.IsZero() {
		return t, nil
	}
	now := s.db.clock()
	if _, err := s.db.exec(ctx, "UPDATE tokens SET used_at = "+now+" WHERE id = $1 AND used_at <= "+now+" - $2", t.ID, usedEvery.Milliseconds()); err != nil {
		s.log.WarnContext(ctx, "the use of a token cannot be written down", "token", t.ID, "error", err)
	}
	return t, nil
}

// Tokens lists every token, the newest first.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	rs, err := s.db.query(ctx, "SELECT "+tokenColumns+", "+expired(s.db)+" FROM tokens ORDER BY id DESC")
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	all, err := collect(rs, func(r rows) (Token, error) { return scanToken(r) })
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	return all, nil
}

// RevokeToken ends a token at once. One that is revoked already is
// release.ErrConflict, an unknown one release.ErrNotFound.
func (s *Store) RevokeToken(ctx context.Context, id int64, by, reason string) (Token, error) {
	var t Token
	err := s.db.inTx(ctx, func(q tx) error {
		before, err := scanToken(q.row(ctx, "SELECT "+tokenColumns+", 0 FROM tokens WHERE id = $1"+q.lock(), id))
		switch {
		case noRows(err):
			return fmt.Errorf("token %d: %w", id, release.ErrNotFound)
		case err != nil:
			return fmt.Errorf("revoking token %d: %w", id, err)
		case !before.RevokedAt.IsZero():
			return fmt.Errorf("%w: %s has revoked token %d already", release.ErrConflict, before.RevokedBy, id)
		}
		t, err = scanToken(q.row(ctx, "UPDATE tokens SET revoked_at = "+q.clock()+", revoked_by = $2 WHERE id = $1 RETURNING "+tokenColumns+", "+expired(q), id, by))
		if err != nil {
			return fmt.Errorf("revoking token %d: %w", id, err)
		}
		return s.appendEntries(ctx, q, audit.Entry{Actor: by, Action: "token.revoked", Reason: reason, Details: map[string]any{
			"token": t.ID, "name": t.Name, "actor": t.Actor}})
	})
	return t, err
}

// Secret gives 32 random bytes under a name, the same to all who share the
// database: they are made when they are first asked for.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	_, err := s.db.exec(ctx, "INSERT INTO secrets (name, value, created_at) VALUES ($1, $2, "+s.db.clock()+") ON CONFLICT (name) DO NOTHING", name, hex.EncodeToString(fresh))
	var value string
	if err == nil {
		err = s.db.row(ctx, "SELECT value FROM secrets WHERE name = $1", name).Scan(&value)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the secret %q: %w", name, err)
	}
	return hex.DecodeString(value)
}
