package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysFresh   = time.Hour        // keys are fetched again after it
	keysLast    = 24 * time.Hour   // keys that cannot be fetched again count so long
	fetchPause  = 20 * time.Second // between two fetches, whoever asks
	fetchWithin = 5 * time.Second
	maxAnswer   = 1 << 20 // bytes of an issuer's answer
)

// algorithms are those of ID tokens that count: all of them need a private key
// that the issuer alone has.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// errKeyless: the issuer's keys do not have the one that a token names.
var errKeyless = errors.New("the issuer has no such key")

// keySet holds the public keys of one issuer, fetched when they are needed. A
// token that names an unknown key makes it look again, and not more often than
// every fetchPause: whoever sends such tokens must not make it a load on the
// issuer.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time
	turn   chan struct{} // held by the one that fetches

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys were
	tried   time.Time // when it was last tried
	failed  error     // how that ended
}

func newKeySet(url string, client *http.Client, now func() time.Time) *keySet {
	return &keySet{url: url, client: client, now: now, turn: make(chan struct{}, 1)}
}

// VerifySignature is part of oidc.KeySet: it gives the payload of a token that
// one of the keys has signed.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, err
	}
	if len(jws.Signatures) != 1 {
		return nil, errors.New("it has not exactly one signature")
	}
	id := jws.Signatures[0].Header.KeyID
	k.refresh(ctx, id)
	keys, err := k.usable()
	if err != nil {
		return nil, err
	}
	named := false
	for _, key := range keys {
		if id != "" && key.KeyID != id || key.Algorithm != "" && key.Algorithm != jws.Signatures[0].Header.Algorithm {
			continue
		}
		named = true
		if payload, err := jws.Verify(key); err == nil {
			return payload, nil
		}
	}
	if !named {
		return nil, errKeyless
	}
	return nil, errors.New("the signature is not by the key that it names")
}

// told remembers how one verification ended, which the library says in words
// alone.
type told struct {
	*keySet
	err error
}

// VerifySignature is part of oidc.KeySet.
func (v *told) VerifySignature(ctx context.Context, token string) (payload []byte, err error) {
	payload, v.err = v.keySet.VerifySignature(ctx, token)
	return payload, v.err
}

// usable gives the keys that count now.
func (k *keySet) usable() ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if age := k.now().Sub(k.fetched); k.keys == nil || age > keysLast || age < -keysLast {
		return nil, failf(Unavailable, k.failed, "the issuer's keys cannot be fetched: try again in a moment")
	}
	return k.keys, nil
}

// due reports whether the keys should be fetched now for a token that names id.
// A clock that was set back makes old keys due, not young.
func (k *keySet) due(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if pause := now.Sub(k.tried); pause >= 0 && pause < fetchPause {
		return false
	}
	if age := now.Sub(k.fetched); k.keys == nil || age < 0 || age > keysFresh {
		return true
	}
	for _, key := range k.keys {
		if id == "" || key.KeyID == id {
			return false
		}
	}
	return true
}

// refresh fetches the keys where that is due. It waits for whoever does it
// already, and for nobody where the caller gives up.
func (k *keySet) refresh(ctx context.Context, id string) {
	if !k.due(id) {
		return
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return
	}
	if !k.due(id) { // somebody has done it meanwhile
		return
	}
	// Whoever asks may leave, and the keys are for all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
	defer cancel()
	keys, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.failed = k.now(), err
	if err == nil {
		k.keys, k.fetched = keys, k.tried
	}
}

// fetch reads the keys. One that cannot verify ID tokens is left out, so that
// a secret that stands among them is never used as one.
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", k.url, resp.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	data, err := io.ReadAll(resp.Body) // bounded by the client
	if err == nil {
		err = json.Unmarshal(data, &set)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys at %s: %w", k.url, err)
	}
	keys := make([]jose.JSONWebKey, 0, len(set.Keys))
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && key.IsPublic() && key.Valid() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key for signatures at %s", k.url)
	}
	return keys, nil
}
