package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func newToken(name, hash string) store.Token {
	return store.Token{Name: name, Actor: "ci", Hash: strings.Repeat(hash, 32), CreatedBy: "alice", Groups: []string{"release"},
		Grants: json.RawMessage(`[{"role":"operator"}]`)}
}

func TestTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		made, err := s.CreateToken(t.Context(), newToken("deploys", "a1"), time.Hour)
		if err != nil || made.ID == 0 || made.ExpiresAt.Sub(made.CreatedAt) != time.Hour || !made.UsedAt.IsZero() {
			t.Fatalf("%+v, %v", made, err)
		}
		if _, err := s.CreateToken(t.Context(), newToken("deploys", "b2"), time.Hour); !errors.Is(err, release.ErrConflict) {
			t.Errorf("a second one of that name: %v", err)
		}
		if _, err := s.CreateToken(t.Context(), newToken("", "b2"), time.Hour); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("one without a name: %v", err)
		}
		found, err := s.TokenByHash(t.Context(), made.Hash)
		if err != nil || !reflect.DeepEqual(found, made) {
			t.Errorf("found %+v, %v; want %+v", found, err, made)
		}
		if _, err := s.TokenByHash(t.Context(), strings.Repeat("c3", 32)); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("an unknown one: %v", err)
		}
		used, err := s.Token(t.Context(), made.ID)
		if err != nil || used.UsedAt.IsZero() {
			t.Errorf("its use was not written down: %+v, %v", used, err)
		}
		again, err := s.Token(t.Context(), made.ID)
		if err != nil || again.UsedAt != used.UsedAt {
			t.Errorf("its use was written down twice in a minute: %v, then %v, %v", used.UsedAt, again.UsedAt, err)
		}
		do(t, raw(t, url), "UPDATE tokens SET used_at = used_at - 61000")
		if _, err := s.Token(t.Context(), made.ID); err != nil {
			t.Fatal(err)
		}
		if later, err := s.Token(t.Context(), made.ID); err != nil || later.UsedAt.Before(used.UsedAt) {
			t.Errorf("its use a minute later was not written down: %v, %v", later.UsedAt, err)
		}
		revoked, err := s.RevokeToken(t.Context(), made.ID, "bob", "leaked")
		if err != nil || revoked.RevokedAt.IsZero() || revoked.RevokedBy != "bob" {
			t.Errorf("%+v, %v", revoked, err)
		}
		if _, err := s.RevokeToken(t.Context(), made.ID, "eve", ""); !errors.Is(err, release.ErrConflict) || !strings.Contains(err.Error(), "bob has revoked") {
			t.Errorf("revoked twice: %v", err)
		}
		if _, err := s.RevokeToken(t.Context(), 99, "eve", ""); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("an unknown one revoked: %v", err)
		}
		if _, err := s.CreateToken(t.Context(), newToken("deploys", "b2"), time.Millisecond); err != nil {
			t.Errorf("the name of a revoked one is free: %v", err)
		}
		do(t, raw(t, url), "UPDATE tokens SET expires_at = expires_at - 60000")
		all, err := s.Tokens(t.Context())
		if err != nil || len(all) != 2 || !all[0].Expired || all[1].Expired || all[1].ID != made.ID {
			t.Errorf("listed %+v, %v", all, err)
		}
		if late, err := s.TokenByHash(t.Context(), strings.Repeat("b2", 32)); err != nil || !late.Expired || !late.UsedAt.IsZero() {
			t.Errorf("an expired one: %+v, %v", late, err)
		}
		var told []string
		for _, e := range entries(t, s) {
			told = append(told, e.Actor+" "+e.Action+" "+e.Reason)
			if data, _ := json.Marshal(e.Details); strings.Contains(string(data), made.Hash) || !strings.Contains(string(data), `"name":"deploys"`) {
				t.Errorf("details %s", data)
			}
		}
		if want := []string{"alice token.created ", "bob token.revoked leaked", "alice token.created "}; !reflect.DeepEqual(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestSecretIsTheSameForAll(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		var got [8][]byte
		var g sync.WaitGroup
		for i := range got {
			g.Go(func() {
				secret, err := s.Secret(t.Context(), "sessions")
				if err != nil {
					t.Error(err)
				}
				got[i] = secret
			})
		}
		g.Wait()
		for _, secret := range got {
			if len(secret) != 32 || !bytes.Equal(secret, got[0]) {
				t.Errorf("secrets %x and %x", got[0], secret)
			}
		}
		other, err := s.Secret(t.Context(), "other")
		if err != nil || bytes.Equal(other, got[0]) {
			t.Errorf("another name gave %x, %v", other, err)
		}
	})
}
