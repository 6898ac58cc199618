package credentials

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// The profiles that a run's configuration file holds.
const (
	runProfile     = "waymark-run"
	accountProfile = "waymark-account"
)

// The files of a grant, in the folder of the run's sessions.
const (
	configFile      = "config"
	credentialsFile = "credentials" // never written: an SDK must not look elsewhere
	runFile         = "run.json"
	accountFile     = "account.json"
)

// Grant is what a phase of a run may use: sessions and how its tools find them.
// Printed, logged or written as JSON it shows no key.
//
// Its sessions are in the environment where one session outlives the phase and
// serves for all of it. Otherwise they are in files, one profile each: SDKs
// read such a session again when it ends, and find what has taken its place.
type Grant struct {
	Run     Session  // reaches the state, and may assume the account's roles
	Account *Session // what the provider uses; nil: Run, too

	env        map[string]string // common to both ways
	inFiles    bool
	ownProfile bool
	refreshAt  time.Time
}

// Environment is what the run's tools get. dir is the absolute path of the
// folder with Files; it need not exist where there are none.
func (g Grant) Environment(dir string) map[string]string {
	env := maps.Clone(g.env)
	env["AWS_CONFIG_FILE"] = filepath.Join(dir, configFile)
	env["AWS_SHARED_CREDENTIALS_FILE"] = filepath.Join(dir, credentialsFile)
	switch {
	case !g.inFiles:
		env["AWS_ACCESS_KEY_ID"] = g.Run.AccessKeyID
		env["AWS_SECRET_ACCESS_KEY"] = g.Run.SecretAccessKey
		env["AWS_SESSION_TOKEN"] = g.Run.SessionToken
		return env
	case g.Account != nil:
		env["AWS_PROFILE"] = accountProfile
	default:
		env["AWS_PROFILE"] = runProfile
	}
	env["AWS_SDK_LOAD_CONFIG"] = "1" // for tools with the SDK's first version
	return env
}

// plainPath is what a shell and the parsers of all SDKs take literally.
var plainPath = regexp.MustCompile(`^/[\w./+=:,@%-]*$`)

// Files are the contents by name in dir, an absolute path; for their reader
// alone (0600). There are none where the environment holds the session. A
// renewed grant's files take the place of the old ones, each by rename.
//
// The error wraps release.ErrInvalid where dir could not be written into a
// command.
func (g Grant) Files(dir string) (map[string][]byte, error) {
	if !g.inFiles {
		return nil, nil
	}
	if !plainPath.MatchString(dir) {
		return nil, fmt.Errorf("%w session: the folder %q cannot stand in an AWS configuration file: move it to a plainer path",
			release.ErrInvalid, dir)
	}
	files := map[string][]byte{
		configFile: []byte(profile(runProfile, filepath.Join(dir, runFile))),
		runFile:    g.Run.processJSON(),
	}
	if g.Account != nil {
		files[configFile] = append(files[configFile], profile(accountProfile, filepath.Join(dir, accountFile))...)
		files[accountFile] = g.Account.processJSON()
	}
	return files, nil
}

// profile is one whose session an SDK asks for again when it has ended.
func profile(name, file string) string {
	return "[profile " + name + "]\ncredential_process = /bin/cat " + file + "\n"
}

// BackendValues are the arguments by which the backend finds its session where
// the provider's is another one; nil where it is the same.
func (g Grant) BackendValues() map[string]string {
	if !g.ownProfile {
		return nil
	}
	return map[string]string{"profile": runProfile}
}

// RefreshAt is when to open the grant again (with Renewal) and replace its
// files; zero where its sessions outlive the phase.
func (g Grant) RefreshAt() time.Time { return g.refreshAt }

// String tells of the sessions without their keys.
func (g Grant) String() string {
	if g.Account == nil {
		return g.Run.String()
	}
	return g.Run.String() + ", " + g.Account.String()
}

// Format prints String for every verb.
func (g Grant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, g.String()) }

// LogValue leaves the keys out.
func (g Grant) LogValue() slog.Value {
	if g.Account == nil {
		return slog.GroupValue(slog.Any("run", g.Run))
	}
	return slog.GroupValue(slog.Any("run", g.Run), slog.Any("account", *g.Account))
}
