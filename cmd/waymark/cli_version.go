package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/notify"
	"github.com/waymark-cd/waymark/store"
)

// versionInfo is what `waymark version -o json` prints.
type versionInfo struct {
	Version  string         `json:"version"`
	Commit   string         `json:"commit,omitempty"`   // absent where the build does not know it
	Modified bool           `json:"modified,omitempty"` // whether the build had changes that are not in the commit
	Go       string         `json:"go"`
	Platform string         `json:"platform"`
	Formats  versionFormats `json:"formats"`
}

// versionFormats are the versions of what others read, or an older or newer
// waymark does.
type versionFormats struct {
	API        string `json:"api"`
	AuditEntry int    `json:"audit_entry"`
	Webhook    int    `json:"webhook"`  // body of a notification's webhook
	Database   int64  `json:"database"` // newest schema that it brings a database to
}

// newVersionCommand builds `waymark version`.
func newVersionCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version; with -o json also the commit and the versions of formats", Args: exactArgs(),
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if !out.json() {
			_, err := fmt.Fprintln(g.stdout, "waymark", versionText())
			return err
		}
		info, err := versionFacts()
		if err != nil {
			return err
		}
		return printJSON(g.stdout, info, "  ")
	}
	return cmd
}

func versionFacts() (versionInfo, error) {
	schema, err := store.SchemaVersion()
	if err != nil {
		return versionInfo{}, err
	}
	out := versionInfo{Version: versionText(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Formats: versionFormats{API: "v1", AuditEntry: audit.EntryVersion, Webhook: notify.WebhookVersion, Database: schema}}
	out.Commit = commit
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				out.Commit = cmp.Or(out.Commit, s.Value)
			case "vcs.modified":
				out.Modified = s.Value == "true"
			}
		}
	}
	return out, nil
}

// versionText is the version that the build set, or the module's own.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
