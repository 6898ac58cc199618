package identity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/waymark-cd/waymark/release"
)

// metadata gives what the issuer tells of itself, asked for at the first need
// and once a day. An issuer that does not answer then is believed as before; one
// that never did is asked again after fetchPause. The error is a *Failure.
func (i *Issuer) metadata(ctx context.Context) (*metadata, error) {
	if meta, due := i.known(); !due {
		return i.unless(meta)
	}
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return nil, failf(Unavailable, ctx.Err(), "the issuer of oidc %q does not answer: try again in a moment", i.cfg.Name)
	}
	meta, due := i.known()
	if !due { // somebody has asked meanwhile
		return i.unless(meta)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
	defer cancel()
	fresh, err := i.discover(ctx, meta)
	i.mu.Lock()
	i.tried, i.failed = i.cfg.Now(), err
	if err == nil {
		i.meta = fresh
	}
	meta = i.meta
	i.mu.Unlock()
	return i.unless(meta)
}

// known gives what was told last, nil for nothing, and whether to ask again.
func (i *Issuer) known() (meta *metadata, due bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.cfg.Now()
	if pause := now.Sub(i.tried); pause >= 0 && pause < fetchPause {
		return i.meta, false
	}
	if i.meta == nil {
		return nil, true
	}
	age := now.Sub(i.meta.read)
	return i.meta, age < 0 || age > staleMeta
}

func (i *Issuer) unless(meta *metadata) (*metadata, error) {
	if meta != nil {
		return meta, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return nil, failf(Unavailable, i.failed, "the issuer of oidc %q does not answer: try again in a moment", i.cfg.Name)
}

// discover asks the issuer (OpenID Connect Discovery 1.0, section 4). The keys
// of before are kept where they are at the same address.
func (i *Issuer) discover(ctx context.Context, before *metadata) (*metadata, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client), i.cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("asking %s who it is: %.300w", i.cfg.URL, err)
	}
	var said struct {
		Keys       string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := provider.Claims(&said); err != nil {
		return nil, fmt.Errorf("reading what %s says of itself: %w", i.cfg.URL, err)
	}
	meta := &metadata{endpoint: provider.Endpoint(), read: i.cfg.Now().Round(time.Second)}
	for what, address := range map[string]string{"authorization_endpoint": meta.endpoint.AuthURL, "token_endpoint": meta.endpoint.TokenURL, "jwks_uri": said.Keys} {
		if !secureURL(address) {
			return nil, fmt.Errorf("%w: %s of %s is %.100q, which is not reached by https", release.ErrRefused, what, i.cfg.URL, address)
		}
	}
	for _, a := range said.Algorithms {
		if slices.Contains(algorithms, jose.SignatureAlgorithm(a)) {
			meta.algorithms = append(meta.algorithms, a)
		}
	}
	if len(meta.algorithms) == 0 {
		meta.algorithms = []string{string(jose.RS256)} // which every issuer must have
	}
	if before != nil && before.keys.url == said.Keys {
		meta.keys = before.keys
	} else {
		meta.keys = newKeySet(said.Keys, i.client, i.cfg.Now)
	}
	return meta, nil
}
