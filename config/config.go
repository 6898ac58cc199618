package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// maxFile is the most bytes that a configuration file may have.
const maxFile = 1 << 20

// Config is a configuration file, decoded and checked. Every path in it is
// absolute; relative ones were read from the file's folder.
type Config struct {
	File         string // as given to Load or Parse
	Text         string // the file as read, with the files of its policy folders; what is written out in it may be secret
	Digest       string // SHA-256 of Text in hexadecimal: replicas that read the same file have the same
	Server       Server
	Repositories []Repository // at least one, in file order
	Engine       Engine
	Backend      Backend
	Stack        Stack
	GlobalRegion string   // Region that global resources are deployed from; empty: there are no global targets
	Teams        []string // at least one
	Environments []Environment
	AWS          AWS
	Credentials  Credentials
	Triggers     []Trigger
	Gates        []GateConfig // all of them, also those that are not enabled
	Waivers      []Waiver     // in file order, also those that have expired
	Policy       Policy
	Runner       Runner
	Pools        []Pool // in file order
	Blobs        Blobs
	Retention    Retention
	Audit        Audit
	Consumers    []Consumer // in file order
	Signers      []Signers  // in file order
	Access       []Access   // in file order
	OIDC         []OIDC     // in file order

	Notifications []Notification // in file order
	Telemetry     Telemetry

	lookupEnv func(string) (string, bool)
	notices   Problems // see Warnings
}

// Server says where the service listens and keeps its data.
type Server struct {
	Listen        string        // host:port
	DataDir       string        // absolute
	Database      Secret        // "sqlite", or a postgres:// URL, which may hold a password
	Token         Secret        // bearer token; empty only on a loopback address
	MaxRuns       int           // runs side by side, at least 1
	ShutdownGrace time.Duration // how long a stopping service waits for its runs
	Heartbeat     time.Duration // without a sign of life for so long an instance is dead

	DebugListen    string   // loopback host:port of profiles; empty: none are served
	URL            string   // by which people reach the page; empty: how a caller on loopback addresses it
	TrustedProxies []string // addresses and ranges, as ParseProxy reads them
}

// Repository is one git repository whose tags are watched.
type Repository struct {
	Name            string
	URL             string // holds no password
	Branch          string
	Poll            time.Duration
	Webhook         Webhook
	Forge           Forge
	FirstContact    string // "adopt" or "deploy"
	LightweightTags string // "refuse" or "allow"
	SSHKey          string // absolute path, or empty
	KnownHosts      string // absolute path, or empty
	Username        string
	Password        Secret
	CAFile          string // absolute path, or empty
	// CodeCommit is the Region of a CodeCommit repository, whose passwords are
	// made from the service's AWS identity; empty for any other repository.
	CodeCommit string
}

// Webhook is how the forge proves that a push message is its own.
type Webhook struct {
	Secret Secret // empty: no webhook is accepted
}

// Engine is the program that plans and applies.
type Engine struct {
	Kind      string // "tofu" or "terraform"
	Path      string // absolute, or a bare name to look up on PATH; empty: the kind's own name
	Version   string // constraint, such as "1.12.6" or ">= 1.10, < 2.0"; empty: any
	PluginDir string // filesystem mirror of providers, absolute; empty: the registry
	Env       map[string]Secret
	Timeout   time.Duration // of the plan half and of the apply half; 0 for none
}

// Backend is where states live: one Terraform backend type and its arguments.
// Without a backend block it is the embedded one, of type "local".
type Backend struct {
	Type string
	// Values are the arguments as templates; Deployment.Backend has them evaluated.
	Values map[string]Template
	// Embedded is true where Waymark chooses the path of each local state.
	Embedded bool
}

// Stack maps a target onto the repository's code. Resolve evaluates it.
type Stack struct {
	Path      Template // of a string
	VarFiles  Template // of a list of strings
	Variables Template // of an object
	Module    Template // of a string
	Account   Template // of a string of 12 digits
}

// Environment is what the tags of one environment may do.
type Environment struct {
	Name         string
	Regions      []string
	PromotesFrom string // environment in which a commit must have succeeded before; empty: none
	// PromotionScopes are where in it: SameScope, AllScopes or names; empty: SameScope.
	PromotionScopes Words
	Soak            time.Duration // how long ago, at least
	Approvals       int           // people who must approve a plan
	// Approvers may approve: users and, as "group:NAME", groups; empty: whoever may
	// approve runs of the target.
	Approvers      []string
	ApprovalExpiry time.Duration // how long a plan can be approved and applied; 0: for ever
	Downgrade      string        // "refuse" or "allow"
	Queue          string        // "all" or "supersede"
	Unknown        string        // what becomes of an unknown run: "ask" or "replan"
	// Windows and Freezes say when changes may happen; see Opening. Outside is what
	// becomes of a run at another time: "wait" or "refuse".
	Windows []Window
	Freezes []Freeze
	Outside string
	// Destroy is whether targets may be removed, "refuse" or "allow", and
	// DestroyApprovals how many people must approve that.
	Destroy          string
	DestroyApprovals int
	Speculative      string // what may be planned without a tag: "branch", "any" or "off"
	Accounts         []string
	// RequireSignature refuses tags that none of the signers have signed.
	RequireSignature bool
	Signers          []string // names of those who may sign; empty: all
	// Public: anybody may look at its runs and badges, without a login.
	Public bool
	// Protected: the bundled rules let the code start no programs here.
	Protected bool
	// Gates judge its runs, SoftGates those of them that never fail one, and
	// GateFailOn says by gate how severe findings must be where that differs.
	Gates      []string
	SoftGates  []string
	GateFailOn map[string]string
}

// AWS is how the service and its runs reach AWS.
type AWS struct {
	Region    string            // where nothing else names one; empty: the SDK's own choice
	Profile   string            // of the service's own identity; empty: the SDK's default chain
	Endpoints map[string]string // URL by service, such as "s3"
	CABundle  string            // absolute path, or empty
	Proxy     string            // URL, or empty for what the process's environment says
}

// Credentials are the roles of a run, as templates of role ARNs.
type Credentials struct {
	RunRole        Template
	PlanRole       Template
	ApplyRole      Template
	ExternalID     Template
	SourceIdentity string // "run" or "none"
}

// Trigger is a queue of events that make the service look at a repository.
type Trigger struct {
	Kind     string // "sqs"
	QueueURL string
	Region   string // empty: that of the URL
}

// Runner says what the processes of a run may touch.
type Runner struct {
	Writable []string // absolute folders beyond the working copy
	Readable []string // absolute folders beyond the system's own
	Sandbox  string   // "auto", "require" or "off"
	Mask     []string // patterns of what must not be shown, in the syntax of RE2
	Keep     bool     // keep working copies of ended runs
}

// Repository returns the repository of that name, or false.
func (c *Config) Repository(name string) (Repository, bool) {
	for _, r := range c.Repositories {
		if r.Name == name {
			return r, true
		}
	}
	return Repository{}, false
}

// Environment returns the environment of that name, or false.
func (c *Config) Environment(name string) (Environment, bool) {
	for _, e := range c.Environments {
		if e.Name == name {
			return e, true
		}
	}
	return Environment{}, false
}

// Load reads and checks the configuration file at path. lookupEnv answers the
// function env(), as os.LookupEnv does. What is wrong with the file comes back
// as Problems, a file that cannot be read as another error; both wrap
// release.ErrInvalid.
func Load(path string, lookupEnv func(string) (string, bool)) (*Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no configuration file %q: name one with --config", release.ErrInvalid, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", release.ErrInvalid, err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: reading the configuration: %w", release.ErrInvalid, err)
	}
	return Parse(path, src, lookupEnv)
}

// Reparse checks another configuration's Text as if it stood in this file: with
// its folder and its environment, but with the other's policy files. Errors are
// those of Parse.
func (c *Config) Reparse(text string) (*Config, error) {
	text, files, found, err := splitPolicies(text)
	if err != nil {
		return nil, err
	}
	if !found {
		files = nil
	} else if files == nil {
		files = []release.PolicyFile{}
	}
	return parse(c.File, []byte(text), c.lookupEnv, files)
}

// Parse checks the text of a configuration file. filename is shown in problems,
// and relative paths in src are read from its folder. lookupEnv answers the
// function env(); nil stands for an empty environment. Every mistake in src
// comes back at once, as Problems in the order of the file.
func Parse(filename string, src []byte, lookupEnv func(string) (string, bool)) (*Config, error) {
	return parse(filename, src, lookupEnv, nil)
}

// parse does what Parse does, with policy files that were kept in place of those
// that are on disk; nil: none were.
func parse(filename string, src []byte, lookupEnv func(string) (string, bool), kept []release.PolicyFile) (*Config, error) {
	dir, err := filepath.Abs(filepath.Dir(filename))
	if err != nil {
		return nil, fmt.Errorf("%w: finding the folder of %q: %w", release.ErrInvalid, filename, err)
	}
	if lookupEnv == nil {
		lookupEnv = func(string) (string, bool) { return "", false }
	}
	body, problems := parseBody(filename, src)
	if problems != nil {
		return nil, problems
	}
	cfg := &Config{File: filename, lookupEnv: lookupEnv}
	d := newDecoder(filename, dir, lookupEnv)
	d.root(body, cfg)
	if cfg.Policy.Files = kept; kept == nil {
		d.readPolicies(cfg)
	}
	d.check(cfg)
	if problems := d.sorted(); len(problems) > 0 {
		return nil, problems
	}
	cfg.Text = withPolicies(string(src), cfg.Policy)
	digest := sha256.Sum256([]byte(cfg.Text))
	cfg.Digest = hex.EncodeToString(digest[:])
	return cfg, nil
}
