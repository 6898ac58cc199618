// Package gitrepo talks to the git remotes that Waymark watches: it lists
// tags, fetches exactly the tags that are new together with the configured
// branch, tells what a tag object says and whether its commit lies on the
// branch, and writes a commit's tree to a folder.
//
// What the remote sends is hostile until parsed: the number of refs, the size
// of packs, objects and trees are bounded, and no path or symlink leaves the
// folder that Export writes. Tag names never reach the file system or a shell.
//
// The package speaks git's protocol (version 2, or 0 where the server knows no
// other) over HTTP(S), over SSH, and with "git upload-pack" for a local
// repository, the only case in which it starts a process. Objects are read,
// indexed and stored with go-git.
//
// It also tells who signed a tag object, by keys that the caller gives: see
// Signers. That part is pure: it neither asks a remote nor runs a program.
//
// It must never decide whether a tag may be deployed, or retry: it reports, and
// the caller judges.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/waymark-cd/waymark/release"
)

// Sentinels that callers branch on, besides those of release. Everything that
// the network, the credentials or the remote are to blame for wraps
// release.ErrUnavailable and says what to do next.
var (
	// ErrMoved: a tag is not, or no longer, what Fetch was asked for. List
	// again; a tag that moved is never deployed.
	ErrMoved = errors.New("tag moved")
	// ErrTooLarge: the remote holds more than a bound of Config allows.
	ErrTooLarge = errors.New("too large")
)

// Config describes one repository. The zero value of a bound means its default.
type Config struct {
	Name   string // for messages and logs
	URL    string // http, https, ssh, user@host:path, file, or a local path
	Branch string // without refs/heads/; tags must be reachable from it
	// CacheDir is the folder of the bare copy. It is created, must be empty or
	// an earlier cache, and belongs to this Repository alone: an unusable or
	// foreign-URL cache is emptied and fetched anew.
	CacheDir string

	SSHKeyFile     string // private key without a passphrase; needed for ssh
	KnownHostsFile string // default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts
	Username       string // HTTP basic; overrides a user in the URL
	Password       string // HTTP basic: password or token
	CAFile         string // PEM certificates trusted besides the system's

	// Credentials, where set, gives the user name and password for HTTP(S); a
	// Username or Password beside it is invalid. It is asked anew for each
	// exchange, because a password may be a signature that is soon too old, and
	// once more for a request that the server refuses with what it gave. The url
	// is the clone address without credentials. Other schemes never ask.
	Credentials func(ctx context.Context, url string) (username, password string, err error)

	MaxRefs        int   // tags in one listing; default 1,000,000
	MaxPackBytes   int64 // of one fetch; default 4 GiB
	MaxObjectBytes int64 // of one inflated object; default 256 MiB
	MaxFiles       int   // files and folders of one tree; default 200,000
	MaxTreeBytes   int64 // of one exported tree; default 2 GiB

	Logger *slog.Logger // default: discard
}

// withDefaults is the one place that holds the defaults.
func (c Config) withDefaults() Config {
	c.MaxRefs = orDefault(c.MaxRefs, 1_000_000)
	c.MaxPackBytes = orDefault(c.MaxPackBytes, 4<<30)
	c.MaxObjectBytes = orDefault(c.MaxObjectBytes, 256<<20)
	c.MaxFiles = orDefault(c.MaxFiles, 200_000)
	c.MaxTreeBytes = orDefault(c.MaxTreeBytes, 2<<30)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T int | int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Repository is one remote and the local copy of what was needed of it. Its
// methods may be called from many goroutines: fetches run one at a time, List
// and Export run beside anything, and the quick reads (Tag, Reachable,
// ReadFile) take turns. A call waits for a silent remote as long as its context
// allows: give List and Fetch one with a deadline.
type Repository struct {
	cfg    Config
	shown  string // the URL without credentials
	dialer dialer
	log    *slog.Logger

	listing struct {
		sync.Mutex
		last Listing
	}

	fetching turn         // held by the one Fetch that runs
	files    sync.RWMutex // held for writing while the cache is emptied

	reading turn // guards all below
	store   *filesystem.Storage
	tip     plumbing.Hash // of the branch as last fetched; zero before
	walk    *ancestry     // of tip
	damaged bool          // the next fetch starts over
	foreign bool          // the store is somebody's clone, and no cache of ours
}

// Open checks the configuration and opens or creates the cache; it does not
// touch the network. A wrong configuration wraps release.ErrInvalid. The URL's
// credentials never appear in an error or a log line.
func Open(cfg Config) (*Repository, error) {
	cfg = cfg.withDefaults()
	addr, err := parseAddress(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w: %w", cfg.Name, release.ErrInvalid, err)
	}
	r := &Repository{cfg: cfg, shown: addr.shown(), fetching: newTurn(), reading: newTurn(),
		log: cfg.Logger.With("repository", cfg.Name)}
	if err := checkBranch(cfg.Branch); err != nil {
		return nil, r.invalid(err)
	}
	if r.dialer, err = newDialer(cfg, addr); err != nil {
		return nil, r.invalid(err)
	}
	if cfg.CacheDir == "" {
		return nil, r.invalid(errors.New("no cache folder is set"))
	}
	if r.cfg.CacheDir, err = filepath.Abs(cfg.CacheDir); err != nil {
		return nil, r.invalid(err)
	}
	if err := r.openCache(); err != nil {
		return nil, fmt.Errorf("repository %q: opening the cache: %w", cfg.Name, err)
	}
	return r, nil
}

// Close frees the cache's file descriptors.
func (r *Repository) Close() error {
	if err := r.reading.take(context.Background()); err != nil {
		return err
	}
	defer r.reading.give()
	return r.store.Close()
}

func (r *Repository) invalid(err error) error {
	return fmt.Errorf("repository %q (%s): %w: %w", r.cfg.Name, r.shown, release.ErrInvalid, err)
}

// turn is a mutex that gives up when the context does.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) give() { <-t }

// parseID reads a full object id. The error wraps release.ErrInvalid.
func parseID(s string) (plumbing.Hash, error) {
	if !isHexID([]byte(s)) {
		return plumbing.ZeroHash, fmt.Errorf("%w: %q is no object id of 40 lower-case hex digits", release.ErrInvalid, clip(s))
	}
	return plumbing.NewHash(s), nil
}
