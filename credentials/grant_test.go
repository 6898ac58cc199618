package credentials_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/release"
)

// common is what every run's environment holds.
func common(more ...string) map[string]string {
	env := map[string]string{
		"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_STS_REGIONAL_ENDPOINTS": "regional",
		"AWS_CONFIG_FILE": "/sessions/7/config", "AWS_SHARED_CREDENTIALS_FILE": "/sessions/7/credentials",
	}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

const runProfile = "[profile waymark-run]\ncredential_process = /bin/cat /sessions/7/run.json\n"

func TestWhatARunGets(t *testing.T) {
	for name, c := range map[string]struct {
		edit    func(*credentials.Request)
		profile string // "": the keys are in the environment
		config  string
		files   []string
		backend map[string]string
	}{
		"keys":  {func(*credentials.Request) {}, "", "", nil, nil},
		"files": {func(r *credentials.Request) { r.Lifetime = 0 }, "waymark-run", runProfile, []string{"config", "run.json"}, nil},
		"two roles": {everything, "waymark-account", runProfile + "[profile waymark-account]\ncredential_process = /bin/cat /sessions/7/account.json\n",
			[]string{"account.json", "config", "run.json"}, map[string]string{"profile": "waymark-run"}},
		"the other phase has two": {func(r *credentials.Request) { r.TwoProfiles = true }, "waymark-run", runProfile, []string{"config", "run.json"},
			map[string]string{"profile": "waymark-run"}},
	} {
		_, b := start(t)
		g, err := b.Open(t.Context(), request(func(r *credentials.Request) { r.Lifetime = time.Minute; c.edit(r) }))
		must(t, err)
		want := common("AWS_PROFILE", c.profile, "AWS_SDK_LOAD_CONFIG", "1")
		if c.profile == "" {
			want = common("AWS_ACCESS_KEY_ID", g.Run.AccessKeyID, "AWS_SECRET_ACCESS_KEY", g.Run.SecretAccessKey, "AWS_SESSION_TOKEN", g.Run.SessionToken)
		}
		if got := g.Environment("/sessions/7"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: environment %v, want %v", name, got, want)
		}
		if got := g.BackendValues(); !reflect.DeepEqual(got, c.backend) {
			t.Errorf("%s: backend %v, want %v", name, got, c.backend)
		}
		files, err := g.Files("/sessions/7")
		must(t, err)
		if string(files["config"]) != c.config || len(files) != len(c.files) {
			t.Errorf("%s: files %s", name, files)
		}
		for _, file := range c.files {
			if file != "config" {
				checkProcessJSON(t, g, file, files[file])
			}
		}
	}
}

func checkProcessJSON(t *testing.T, g credentials.Grant, file string, text []byte) {
	t.Helper()
	s := &g.Run
	if file == "account.json" {
		s = g.Account
	}
	var got, want any
	must(t, json.Unmarshal(text, &got))
	want = map[string]any{"Version": 1.0, "AccessKeyId": s.AccessKeyID, "SecretAccessKey": s.SecretAccessKey,
		"SessionToken": s.SessionToken, "Expiration": s.Expires.UTC().Format(time.RFC3339)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", file, got, want)
	}
}

func TestFilesNeedAPlainPath(t *testing.T) {
	_, b := start(t)
	g, err := b.Open(t.Context(), request(everything))
	must(t, err)
	for _, dir := range []string{"", "sessions", "/a b", "/a;b", "/$(x)", "/a'b", "/a\nb", "/a#b"} {
		if _, err := g.Files(dir); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "move it to a plainer path") {
			t.Errorf("%q: got %v", dir, err)
		}
	}
}

func TestNothingPrintsKeys(t *testing.T) {
	_, b := start(t)
	g, err := b.Open(t.Context(), request(everything))
	must(t, err)
	for _, v := range []any{g, &g, g.Run, &g.Run, g.Account, struct{ G credentials.Grant }{g}, []any{g}, map[string]any{"g": &g}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		must(t, err)
		out.Write(text)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		for _, s := range []credentials.Session{g.Run, *g.Account} {
			for _, secret := range []string{s.SecretAccessKey, s.SessionToken, fmt.Sprintf("%x", s.SecretAccessKey), fmt.Sprintf("%x", s.SessionToken)} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("%T shows a key:\n%s", v, out.String())
				}
			}
		}
		if !strings.Contains(out.String(), "waymark-7-dev_us-east-1-research") {
			t.Errorf("%T does not tell whose it is:\n%s", v, out.String())
		}
	}
}
