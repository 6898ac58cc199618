package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// approvalsInReach refuses a configuration whose approvals nobody could give,
// because the service would not know one person from another.
func approvalsInReach(cfg *config.Config) error {
	if cfg.TellsPeople() {
		return nil
	}
	one := func(who string) bool { return who == "token" || who == "local" }
	for _, e := range cfg.Environments {
		const next = "say who people are by oidc and access blocks"
		switch {
		case e.Approvals > 1:
			return fmt.Errorf("%w: environment %q: approvals = %d can never be reached: without access blocks the service knows one person, whoever holds the token, and each counts once; %s, or write approvals = 1",
				release.ErrInvalid, e.Name, e.Approvals, next)
		case e.Destroy == "allow" && e.DestroyApprovals > 1:
			return fmt.Errorf("%w: environment %q: destroy_approvals = %d can never be reached: without access blocks the service knows one person, whoever holds the token, and each counts once; %s, or write destroy_approvals = 1",
				release.ErrInvalid, e.Name, e.DestroyApprovals, next)
		case len(e.Approvers) > 0 && !slices.ContainsFunc(e.Approvers, one):
			return fmt.Errorf("%w: environment %q: approvers = [%s] can never be reached: without access blocks the service knows nobody by name; %s, or take approvers out",
				release.ErrInvalid, e.Name, strings.Join(e.Approvers, ", "), next)
		}
	}
	return nil
}
