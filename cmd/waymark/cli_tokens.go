package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

// newWhoamiCommand builds `waymark whoami`.
func newWhoamiCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Say who the service takes you for, and what you may do",
		Args:  exactArgs(),
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			who, err := c.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, who, "  ")
			}
			g.renderWhoami(who)
			return nil
		})
	}
	return cmd
}

func (g *globals) renderWhoami(who api.Whoami) {
	how := map[string]string{"local": "whoever reaches an open service", "token": "by the service's own token",
		"api_token": "by the token " + who.Via, "oidc": "by " + who.Via}[who.Kind]
	fmt.Fprintf(g.stdout, "%s, %s\n", clean(who.Name), clean(how))
	if len(who.Groups) > 0 {
		fmt.Fprintf(g.stdout, "groups: %s\n", clean(strings.Join(who.Groups, ", ")))
	}
	if len(who.Grants) == 0 {
		fmt.Fprintln(g.stdout, "no role: ask whoever keeps the access blocks of the service's configuration")
		return
	}
	t := table{header: []string{"ROLE", "ENVIRONMENTS", "TEAMS"}}
	for _, grant := range who.Grants {
		t.row(grant.Role, orAll(grant.Environments), orAll(grant.Teams))
	}
	t.write(g.stdout, g.colour)
}

func orAll(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ", ")
}

// newTokensCommand builds `waymark tokens`.
func newTokensCommand(g *globals) *cobra.Command {
	return group("tokens", "Make, list and revoke API tokens; for admins of the whole service",
		newTokensCreateCommand(g), newTokensListCommand(g), newTokensRevokeCommand(g))
}

func newTokensCreateCommand(g *globals) *cobra.Command {
	var t api.NewToken
	var expires string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an API token and print it, this once",
		Long: "Make an API token for a person or a pipeline. It is printed on standard output, alone, and kept nowhere:\n" +
			"put it where WAYMARK_TOKEN comes from. Its uses are in the record under the name of --user.",
		Example: "  waymark tokens create nightly --role viewer --expires 90d\n" +
			"  waymark tokens create alice-laptop --user alice@example.org --role approver --env prod --group release",
		Args: exactArgs("NAME"),
	}
	flags := cmd.Flags()
	flags.StringVar(&t.User, "user", "", "whom it stands for in the record (default NAME)")
	flags.StringVar(&t.Role, "role", "", "viewer, operator, approver or admin")
	flags.StringSliceVar(&t.Environments, "env", nil, "`environments` where the role holds (default all)")
	flags.StringSliceVar(&t.Teams, "team", nil, "`teams` for whose targets it holds (default all)")
	flags.StringSliceVar(&t.Groups, "group", nil, "`groups` that it counts as a member of, where approvals are asked from groups")
	flags.StringVar(&expires, "expires", "90d", "for how long it counts, such as 12h or 90d; 366d at most")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.Name = args[0]
		if err := oneOf("--role", t.Role, identity.Roles()...); err != nil {
			return err
		}
		if t.Role == "" {
			return usageErrorf("tokens create needs --role: viewer, operator, approver or admin")
		}
		lasts, err := parseLifetime(expires)
		if err != nil {
			return err
		}
		t.ExpiresIn = int64(lasts / time.Second)
		return g.withClient(func(c *api.Client) error {
			made, err := c.CreateToken(cmd.Context(), t)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, made, "  ")
			}
			fmt.Fprintf(g.stderr, "token %s (%s) stands for %s until %s; it is shown this once\n", clean(made.Token.ID), clean(made.Token.Name),
				clean(made.Token.User), made.Token.ExpiresAt.Format(time.RFC3339))
			_, err = fmt.Fprintln(g.stdout, clean(made.Secret))
			return err
		})
	}
	return cmd
}

// maxLifetime is how long a token may count.
const maxLifetime = 366 * 24 * time.Hour

// parseLifetime reads a duration that may be in days.
func parseLifetime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		var n int64
		if n, err = strconv.ParseInt(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d < time.Minute || d > maxLifetime {
		return 0, usageErrorf("--expires %q: write a time such as 12h or 90d, from 1m to 366d", s)
	}
	return d, nil
}

func newTokensListCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List API tokens, the newest first", Args: exactArgs()}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			list, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, list, "  ")
			}
			g.renderTokens(list, time.Now())
			return nil
		})
	}
	return cmd
}

func (g *globals) renderTokens(list api.TokenList, now time.Time) {
	if len(list.Tokens) == 0 {
		fmt.Fprintln(g.stdout, "No tokens. waymark tokens create makes one.")
		return
	}
	t := table{header: []string{"ID", "NAME", "USER", "ROLE", "STATE", "EXPIRES", "USED", "CREATED BY"},
		cut: []string{"CREATED BY", "USED", "ROLE", "USER", "EXPIRES"}}
	for _, k := range list.Tokens {
		used := "never"
		if !k.UsedAt.IsZero() {
			used = ago(now, k.UsedAt)
		}
		state := cell{k.State, green}
		if k.State != api.TokenValid {
			state.paint = red
		}
		t.row(k.ID, k.Name, k.User, grantsText(k.Grants), state, k.ExpiresAt.UTC().Format(time.DateOnly), used, k.CreatedBy)
	}
	t.write(g.stdout, g.colour)
}

func grantsText(grants []api.Grant) string {
	var out []string
	for _, grant := range grants {
		text := grant.Role
		if len(grant.Environments)+len(grant.Teams) > 0 {
			text += " (" + orAll(grant.Environments) + "; " + orAll(grant.Teams) + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func newTokensRevokeCommand(g *globals) *cobra.Command {
	var r api.Revocation
	cmd := &cobra.Command{
		Use:   "revoke ID|NAME",
		Short: "End an API token at once, and the sessions that began with it",
		Args:  exactArgs("ID|NAME"),
	}
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why; it is kept in the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.withClient(func(c *api.Client) error {
			id, err := findToken(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			t, err := c.RevokeToken(cmd.Context(), id, r)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, t, "  ")
			}
			_, err = fmt.Fprintf(g.stdout, "revoked: token %s (%s) of %s\n", clean(t.ID), clean(t.Name), clean(t.User))
			return err
		})
	}
	return cmd
}

// findToken finds the id of a token by its id or its name. Of several with one
// name it is the only one that counts.
func findToken(ctx context.Context, c *api.Client, name string) (string, error) {
	list, err := c.Tokens(ctx)
	if err != nil {
		return "", err
	}
	var names, found []string
	for _, t := range list.Tokens {
		if t.ID == name {
			return t.ID, nil
		}
		if t.State == api.TokenValid {
			names = append(names, t.Name)
		}
		if t.Name == name && t.State == api.TokenValid {
			found = append(found, t.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", &exitError{exitNotFound, fmt.Errorf("token %q %w: %s", name, release.ErrNotFound, chosen(name, names, "waymark tokens list shows which there are"))}
	case 1:
		return found[0], nil
	}
	return "", usageErrorf("%d tokens are called %q: write the id of one: %s", len(found), name, strings.Join(found, ", "))
}
