package notify

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// The kinds of forge.
const (
	GitHub          = "github"
	GitLab          = "gitlab"
	Gitea           = "gitea"
	Forgejo         = "forgejo"
	BitbucketCloud  = "bitbucket-cloud"
	BitbucketServer = "bitbucket-server"
)

// ForgeConfig describes one repository at its forge.
type ForgeConfig struct {
	Kind       string
	URL        string // of the forge, such as "https://git.example.org"
	Repository string // as the forge names it, such as "platform/infra"
	Token      string
	CAFile     string // certificates that are trusted beside the system's own; empty: none
	// Deployments are made at GitHub, beside the commit statuses.
	Deployments bool
}

// Forge sets the statuses of one repository's commits. It sends one request at a
// time, and is not for several goroutines.
type Forge struct {
	wire *wire
	set  func(ctx context.Context, s status) error
}

// NewForge makes the client of a forge. It asks nobody. What cannot work is
// release.ErrInvalid.
func NewForge(cfg ForgeConfig) (*Forge, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("forge: %w address: write https://host", release.ErrInvalid)
	}
	slash := strings.LastIndexByte(cfg.Repository, '/')
	if slash <= 0 || slash == len(cfg.Repository)-1 || cfg.Token == "" {
		return nil, fmt.Errorf("forge: %w: it needs the name of the repository, with that of its owner or project, and a token", release.ErrInvalid)
	}
	w, client, err := newWire(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	base := forgeBase{cfg: cfg, owner: cfg.Repository[:slash], name: cfg.Repository[slash+1:], client: client, url: u}
	makers := map[string]func(forgeBase) (func(context.Context, status) error, error){
		GitHub: newGitHub, GitLab: newGitLab, Gitea: newGitea, Forgejo: newGitea,
		BitbucketCloud: newBitbucketCloud, BitbucketServer: newBitbucketServer,
	}
	build, ok := makers[cfg.Kind]
	if !ok {
		return nil, fmt.Errorf("forge: %w: there is no kind %q", release.ErrInvalid, cfg.Kind)
	}
	f := &Forge{wire: w}
	if f.set, err = build(base); err != nil {
		return nil, fmt.Errorf("forge: %w: %w", release.ErrInvalid, err)
	}
	return f, nil
}

// forgeBase is what every client is made from.
type forgeBase struct {
	cfg         ForgeConfig
	owner, name string
	client      *http.Client
	url         *url.URL
}

// Send sets the status of each notice's commit. It is for one notice at a time:
// where it fails, those before have been told.
func (f *Forge) Send(ctx context.Context, notices []Notice) error {
	for _, n := range notices {
		s, ok := statusOf(n)
		if !ok {
			continue
		}
		f.wire.begin()
		if err := f.set(ctx, s); err != nil {
			return f.wire.judge(err, patience)
		}
	}
	return nil
}

// some gives nil for an empty text, which clients leave out.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
