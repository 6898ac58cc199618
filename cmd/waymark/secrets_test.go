package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// planted are secrets by where they come from. Those in words have no shape and do
// not look random: only who knows the value can tell.
var planted = map[string]string{
	"variable":      "harbor violet lantern/42&more",
	"file":          "meadow-copper-thistle",
	"lines":         "first line of willow\nsecond line of juniper\nthird line of hazel",
	"environment":   "cobalt.sparrow.window",
	"credentials":   "amber+falcon+ribbon",
	"state":         "only the state knows marigold",
	"pattern":       "corp-20394-badger",
	"aws":           "AKIAQ3EGRXVNOPLANTED",
	"github":        "ghp_p1AnTedP1aNtEdp1AnTedP1aNtEdp1AnTe",
	"random":        "wJalrXUtnFEMIpK7MDENGpbPxRfiCYPLANTEDKEY",
	"private key":   "MIIEvgIBADANBgkqhkiGplantedG9w0BAQEFAASCBKgwggSkAgEAAoIBAQ",
	"tag message":   "glpat-PLANTEDinATagMsg0123",
	"reason":        "xoxb-1234567890-plantedreason",
	"service token": "the service's own orchid",
}

// traces are the forms in which planted secrets must not be found.
func traces() map[string]string {
	out := map[string]string{}
	for name, secret := range planted {
		for i, line := range strings.Split(secret, "\n") {
			out[fmt.Sprintf("%s, line %d", name, i+1)] = line
			out[fmt.Sprintf("%s, line %d, in a URL", name, i+1)] = url.QueryEscape(line)
		}
		out[name+" in base 64"] = base64.StdEncoding.EncodeToString([]byte(secret))
		out[name+" in base 64, its beginning"] = base64.StdEncoding.EncodeToString([]byte(secret))[:16]
	}
	return out
}

// secretsConfig replaces the engine's block; the values come from the service's
// environment.
const secretsConfig = `engine {
  path = env("WORLD_TOFU")
  env = {
    SOME_SETTING          = env("PLANT_ENVIRONMENT")
    AWS_SECRET_ACCESS_KEY = env("PLANT_CREDENTIALS")
  }
}`

// leakyCode says every secret aloud, in the ways in which code and providers do.
const leakyCode = worldCode + `
variable "password" {
  type      = string
  sensitive = true
}
variable "lines" {
  type      = string
  sensitive = true
}
variable "from_file" {
  type      = string
  sensitive = true
}
resource "terraform_data" "holder" {
  input = sensitive("%[1]s")
  lifecycle { ignore_changes = [input] }
}
resource "terraform_data" "leak" {
  triggers_replace = var.release_version
  input            = "pw=${nonsensitive(var.password)}"
  provisioner "local-exec" {
    environment = { FILE_SECRET = nonsensitive(var.from_file), PW = nonsensitive(var.password), MULTI = nonsensitive(var.lines) }
    command     = <<-EOT
      echo "setting $SOME_SETTING, key $AWS_SECRET_ACCESS_KEY, file $FILE_SECRET"
      echo "password: $PW"
      echo "$MULTI"
      printf %%s "$PW" | base64
      printf 'Authorization: Basic %%s\n' "$(printf 'user:%%s' "$AWS_SECRET_ACCESS_KEY" | base64)"
      echo "$MULTI" | base64
      echo 'id %[2]s and %[3]s in %[4]s, key = "%[5]s"'
      printf -- '-----BEGIN PRIVATE KEY-----\n%[6]s\nAb==\n-----END PRIVATE KEY-----\n'
      for n in 4090 8180 8185 65520 65530; do head -c $n /dev/zero | tr '\0' x; echo "$PW $SOME_SETTING"; done
      head -c 5000000 /dev/zero | tr '\0' y; printf %%s "$PW"; head -c 5000000 /dev/zero | tr '\0' z; echo
      echo "$SOME_SETTING" >&2
    EOT
  }
}
output "shown" { value = "it is ${nonsensitive(var.password)} of ${nonsensitive(var.from_file)}" }
output "hidden" {
  value     = var.lines
  sensitive = true
}
`

// failingCode fails in the plan with what it read from the state, and in the apply
// with what it was given.
const failingCode = leakyCode + `
resource "terraform_data" "fails" {
  input = var.release_version
  lifecycle {
    postcondition {
      condition     = var.release_version != "1.1"
      error_message = "the state has ${nonsensitive(terraform_data.holder.output)}, and the password is ${nonsensitive(var.password)}:\n${nonsensitive(var.lines)}"
    }
  }
  provisioner "local-exec" {
    command = "echo failing with ${nonsensitive(var.password)}; echo '${nonsensitive(var.lines)}'; exit 3"
  }
}
`

func code(text string) string {
	return fmt.Sprintf(text, planted["state"], planted["aws"], planted["github"], planted["pattern"], planted["random"], planted["private key"])
}

// newSecretsWorld is a world in which secrets are planted everywhere.
func newSecretsWorld(t *testing.T, database string) *world {
	w := newWorld(t, "runner { mask = [\"corp-[0-9]+-[a-z]+\"] }\nblobs { folder = \"blobs\" }\n")
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`engine { path = env("WORLD_TOFU") }`, secretsConfig,
		`max_runs       = 4`, `token          = env("PLANT_TOKEN")`,
		`variables = {`, "var_files = [\"secret.tfvars\"]\n  variables = { password = env(\"PLANT_VARIABLE\"), ").Replace(string(text))
	if err := os.WriteFile(w.file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]string{"PLANT_VARIABLE": "variable", "PLANT_ENVIRONMENT": "environment",
		"PLANT_CREDENTIALS": "credentials", "PLANT_TOKEN": "service token"} {
		w.env[name] = planted[plant]
	}
	w.env["WORLD_DATABASE"] = database
	w.remote.Commit(map[string]string{"main.tf": code(leakyCode), "secret.tfvars": fmt.Sprintf("from_file = %q\n", planted["file"]),
		"secret.auto.tfvars.json": fmt.Sprintf(`{"lines": %q}`, planted["lines"])})
	w.serve()
	if w.client, err = api.NewClient(api.ClientConfig{Server: w.server, Token: planted["service token"]}); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestPlantedSecretsAreFoundNowhere says secrets aloud in every way, with the real
// engine, and looks for them wherever something is kept or shown.
func TestPlantedSecretsAreFoundNowhere(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(*testing.T) string { return "sqlite" },
		"postgres": func(t *testing.T) string { return testkit.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			url := database(t)
			w := newSecretsWorld(t, url)
			w.contact()
			found := &finds{t: t, traces: traces()}
			events := w.listen()
			stop := found.watchProcesses()
			w.remote.Tag("dev_us-east-1/research/1.0", "main", "with "+planted["tag message"])
			w.until("dev_us-east-1/research/1.0", release.Succeeded)
			w.remote.Commit(map[string]string{"main.tf": code(failingCode)})
			w.push("dev_us-east-1/research/1.1")
			w.ends("dev_us-east-1/research/1.1", release.Failed)
			w.push("dev_us-east-1/research/1.2")
			w.ends("dev_us-east-1/research/1.2", release.Failed)
			w.push("staging_us-east-1/research/1.0")
			waits := w.until("staging_us-east-1/research/1.0", release.AwaitingApproval)
			if _, err := w.client.Decide(t.Context(), waits.ID, "reject", api.Decision{Reason: "no: " + planted["reason"]}); err != nil {
				t.Fatal(err)
			}
			stop()
			w.told(t)
			found.in("the stream of events", events())
			w.everythingShown(found)
			w.stop()
			found.in("the service's log", []byte(w.log.String()))
			found.files(filepath.Join(w.dir))
			if url != "sqlite" {
				found.database(url)
			}
			t.Logf("%d places, %.1f MB, %d processes looked at: %d secrets found", found.places, float64(found.bytes)/1e6, found.processes, found.count)
		})
	}
}

// told checks that the log says what happened, around the secrets.
func (w *world) told(t *testing.T) {
	log, plan := w.runLog("1"), w.runLog("2")
	wantText(t, log, "setting (masked), key (masked), file (masked)", "password: (masked)", "Authorization: Basic (masked)",
		"-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "… (cut)", "shown = it is (masked) of (masked)")
	wantText(t, plan, "Resource postcondition failed", "the state has (masked)", "the password is (masked)")
	runs := w.runs()
	wantText(t, runs[1].Reason, "plan: Resource postcondition failed: the state has (masked), and the password is (masked)", "(main.tf:")
	wantText(t, runs[2].Reason, "apply: terraform_data.fails: local-exec: exit status 3", "done before: 1 added")
}

// ends waits until the newest run of a tag has ended in a state.
func (w *world) ends(tag string, state release.State) {
	w.t.Helper()
	w.await(tag+" "+string(state), func() bool {
		return slices.ContainsFunc(w.runs(), func(r api.Run) bool { return r.Tag == tag && r.State == string(state) })
	})
}

// listen reads the stream of events from the beginning until it is asked for.
func (w *world) listen() func() []byte {
	ctx, cancel := context.WithCancel(w.t.Context())
	var all bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- w.client.Events(ctx, api.EventQuery{Last: "-1"}, func(e api.Event) error { return json.NewEncoder(&all).Encode(e) })
	}()
	return func() []byte {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.t.Errorf("the stream of events: %v", err)
		}
		return all.Bytes()
	}
}

// everythingShown looks at every answer of the API and at the pages.
func (w *world) everythingShown(found *finds) {
	w.t.Helper()
	paths := []string{"/", "/api/v1/targets", "/api/v1/releases", "/api/v1/runs", "/api/v1/audit?limit=500", "/metrics", "/readyz",
		"/releases", "/api/v1/targets/dev/us-east-1/research"}
	for _, r := range w.runs() {
		for _, part := range []string{"", "/plan", "/findings", "/logs"} {
			paths = append(paths, "/api/v1/runs/"+r.ID+part)
		}
		paths = append(paths, "/runs/"+r.ID)
	}
	for _, path := range paths {
		var b bytes.Buffer
		if err := getBodyAs(w.t.Context(), w.server+path, planted["service token"], &b); err != nil {
			w.t.Fatalf("%s: %v", path, err)
		}
		found.in("GET "+path, b.Bytes())
	}
}

// finds counts where secrets were found.
type finds struct {
	t      *testing.T
	traces map[string]string

	places, processes, count int
	bytes                    int64
}

func (f *finds) in(place string, data []byte) {
	f.places++
	f.bytes += int64(len(data))
	for name, trace := range f.traces {
		if at := bytes.Index(data, []byte(trace)); at >= 0 {
			f.count++
			if f.count < 40 {
				f.t.Errorf("%s shows the secret of the %s: …%q…", place, name, data[max(0, at-60):min(len(data), at+len(trace)+20)])
			}
		}
	}
}

// files looks at everything that the service keeps but the repository, which holds
// what people have committed, and the states, which hold what the engine puts there.
func (f *finds) files(dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "repositories" || d.Name() == "state") {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil {
			rel, _ := filepath.Rel(dir, path)
			f.in("the file "+rel, data)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// database looks at every row of every table.
func (f *finds) database(url string) {
	ctx := f.t.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
	if err != nil {
		f.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		f.t.Fatalf("%d tables: %v", len(tables), err)
	}
	for _, table := range tables {
		rows, err := conn.Query(ctx, "SELECT t::text FROM "+table+" t")
		if err != nil {
			f.t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			f.t.Fatal(err)
		}
		f.in("the table "+table, []byte(strings.Join(texts, "\n")))
	}
}

// watchProcesses looks, until stop, at what every process of the machine was
// started with and, but for engines and what they start, at its environment.
func (f *finds) watchProcesses() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan map[string]string, 1)
	seen := map[string]bool{}
	go func() {
		bad := map[string]string{}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			f.lookAtProcesses(seen, bad)
			<-tick.C
		}
		ended <- bad
	}()
	return func() {
		cancel()
		bad := <-ended
		f.processes += len(seen)
		for where, what := range bad {
			f.count++
			f.t.Errorf("%s shows the secret of the %s", where, what)
		}
	}
}

func (f *finds) lookAtProcesses(seen map[string]bool, bad map[string]string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		seen[e.Name()] = true
		texts := map[string][]byte{"environment": environ}
		if bytes.Contains(environ, []byte("TF_IN_AUTOMATION=")) {
			delete(texts, "environment") // the engine, or what it has started
		}
		// The command lines of the repository, and of this test's own git, are theirs.
		if !bytes.HasPrefix(args, []byte("/bin/sh\x00-c\x00")) && !bytes.HasPrefix(args, []byte("git\x00")) {
			texts["command line"] = args
		}
		for kind, text := range texts {
			for name, trace := range f.traces {
				if bytes.Contains(text, []byte(trace)) {
					bad[fmt.Sprintf("the %s of %q", kind, args[:min(len(args), 80)])] = name
				}
			}
		}
	}
}
