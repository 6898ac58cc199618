package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

// withIdentity gives the server what the configuration says of who people are.
func withIdentity(cfg *config.Config, web server.Config) (server.Config, error) {
	web.Token, web.URL = cfg.Server.Token.Reveal(), strings.TrimSuffix(cfg.Server.URL, "/")
	for _, s := range cfg.Server.TrustedProxies {
		p, err := config.ParseProxy(s)
		if err != nil {
			return web, fmt.Errorf("%w proxy %q: %w", release.ErrInvalid, s, err)
		}
		web.TrustedProxies = append(web.TrustedProxies, p)
	}
	for _, e := range cfg.Environments {
		web.Environments = append(web.Environments, e.Name)
	}
	web.Teams = cfg.Teams
	var err error
	web.Issuers, err = openIssuers(cfg)
	return web, err
}

// openIssuers makes the configured issuers ready; none of them is asked anything
// yet, so that the service starts without them.
func openIssuers(cfg *config.Config) ([]*identity.Issuer, error) {
	var rules identity.Rules
	for _, a := range cfg.Access {
		rules = append(rules, identity.Rule{Users: a.Users, Groups: a.Groups,
			Grant: identity.Grant{Role: identity.Role(a.Role), Environments: a.Environments, Teams: a.Teams}})
	}
	var out []*identity.Issuer
	for _, o := range cfg.OIDC {
		ic := identity.IssuerConfig{Name: o.Name, Prefix: cfg.OIDCPrefix(o.Name), URL: o.Issuer, ClientID: o.ClientID,
			ClientSecret: o.ClientSecret.Reveal(), UserClaim: o.UserClaim, GroupsClaim: o.GroupsClaim,
			Audiences: o.Audiences, Scopes: o.Scopes, Rules: rules}
		if o.CAFile != "" {
			pem, err := os.ReadFile(o.CAFile)
			if err != nil {
				return nil, fmt.Errorf("%w: oidc %q: ca_file: %w", release.ErrInvalid, o.Name, err)
			}
			if ic.CAs = x509.NewCertPool(); !ic.CAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%w: oidc %q: ca_file %s holds no certificate", release.ErrInvalid, o.Name, o.CAFile)
			}
		}
		issuer, err := identity.NewIssuer(ic)
		if err != nil {
			return nil, err
		}
		out = append(out, issuer)
	}
	return out, nil
}
