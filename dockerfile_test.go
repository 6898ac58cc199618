package waymark_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// No container engine runs where the tests do, so these hold the Dockerfile and
// compose.yaml against what they must agree with: the pinned modules, the tree,
// and themselves.

// instruction is one logical line of the Dockerfile.
type instruction struct {
	word  string   // upper case
	text  string   // the rest, continuation lines joined
	flags []string // such as --from=build
	args  []string // the rest in words, without flags
}

// dockerStage is what a FROM begins.
type dockerStage struct {
	image, name string
	all         []instruction
}

// readDockerfile gives the stages and the values of all arguments, which must be
// the same wherever one is named twice.
func readDockerfile(t *testing.T) ([]dockerStage, map[string]string) {
	t.Helper()
	var stages []dockerStage
	args := map[string]string{}
	joined := strings.ReplaceAll(string(readFile(t, "Dockerfile")), "\\\n", " ")
	for line := range strings.SplitSeq(joined, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		in := instruction{word: strings.ToUpper(fields[0]), text: strings.TrimSpace(line[len(fields[0]):])}
		for _, f := range fields[1:] {
			if strings.HasPrefix(f, "--") && len(in.args) == 0 {
				in.flags = append(in.flags, f)
			} else {
				in.args = append(in.args, f)
			}
		}
		if in.word == "ARG" {
			name, value, _ := strings.Cut(in.text, "=")
			if old, ok := args[name]; ok && old != value {
				t.Errorf("ARG %s is %q in one place and %q in another", name, old, value)
			}
			args[name] = value
		}
		if in.word == "FROM" {
			s := dockerStage{image: in.args[0]}
			if len(in.args) == 3 {
				s.name = in.args[2]
			}
			stages = append(stages, s)
		} else if len(stages) > 0 {
			stages[len(stages)-1].all = append(stages[len(stages)-1].all, in)
		}
	}
	if len(stages) < 2 {
		t.Fatalf("the Dockerfile has %d stages", len(stages))
	}
	return stages, args
}

// texts gives what a stage says with one instruction.
func (s dockerStage) texts(word string) []string {
	var out []string
	for _, in := range s.all {
		if in.word == word {
			out = append(out, in.text)
		}
	}
	return out
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func readModule(t *testing.T, dir string) *modfile.File {
	t.Helper()
	name := strings.TrimPrefix(dir+"/go.mod", "./")
	f, err := modfile.Parse(name, readFile(t, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDockerfileVersions(t *testing.T) {
	_, args := readDockerfile(t)
	for arg, module := range map[string]struct{ dir, path string }{
		"TOFU_VERSION":   {"tools", "github.com/opentofu/opentofu"},
		"TFLINT_VERSION": {"tools/tflint", "github.com/terraform-linters/tflint"},
	} {
		pinned := ""
		for _, r := range readModule(t, module.dir).Require {
			if r.Mod.Path == module.path {
				pinned = r.Mod.Version
			}
		}
		if pinned == "" || "v"+args[arg] != pinned {
			t.Errorf("ARG %s=%s, but %s/go.mod pins %q: write the same in both", arg, args[arg], module.dir, pinned)
		}
	}
	recorded := strings.TrimSpace(string(readFile(t, "gates/testdata/checkov/x-version/stdout")))
	if args["CHECKOV_VERSION"] != recorded {
		t.Errorf("ARG CHECKOV_VERSION=%s, but the adapter is tested on recordings of %s", args["CHECKOV_VERSION"], recorded)
	}
	image := "v" + args["GO_VERSION"]
	for _, dir := range []string{".", "tools", "tools/tflint"} {
		if need := readModule(t, dir).Go.Version; semver.Compare(image, "v"+need) < 0 {
			t.Errorf("ARG GO_VERSION=%s is older than the go %s of %s/go.mod", args["GO_VERSION"], need, dir)
		}
	}
	if need := semver.MajorMinor("v" + readModule(t, ".").Go.Version); semver.MajorMinor(image) != need {
		t.Errorf("ARG GO_VERSION=%s is not Go %s, with which the tests run", args["GO_VERSION"], need)
	}
}

func TestDockerfileImages(t *testing.T) {
	stages, args := readDockerfile(t)
	var names []string
	for _, s := range stages {
		image := os.Expand(s.image, func(name string) string { return args[name] })
		_, tag, ok := strings.Cut(image, ":")
		if !slices.Contains(names, image) && (!ok || tag == "" || strings.HasPrefix(tag, "-") || strings.Contains(tag, "latest")) {
			t.Errorf("FROM %s is %q, which names no version", s.image, image)
		}
		names = append(names, s.name)
		for _, run := range s.texts("RUN") {
			if _, list, ok := strings.Cut(run, "apt-get install"); ok {
				list, _, _ = strings.Cut(list, "&&")
				for _, p := range strings.Fields(list) {
					if !strings.HasPrefix(p, "-") && p != "ca-certificates" && !strings.Contains(p, "=") {
						t.Errorf("the package %s has no version", p)
					}
				}
			}
		}
	}
}

func TestDockerfileCopies(t *testing.T) {
	stages, _ := readDockerfile(t)
	var ignored []string
	for line := range strings.SplitSeq(string(readFile(t, ".dockerignore")), "\n") {
		if line = strings.Trim(line, "/ "); line != "" && !strings.HasPrefix(line, "#") {
			ignored = append(ignored, line)
		}
	}
	copies := 0
	for i, s := range stages {
		for _, in := range s.all {
			if in.word == "ADD" {
				t.Errorf("ADD %s: use COPY, which fetches and unpacks nothing", in.text)
			}
			if in.word != "COPY" {
				continue
			}
			for _, source := range in.args[:len(in.args)-1] {
				copies++
				if from := slices.IndexFunc(in.flags, func(f string) bool { return strings.HasPrefix(f, "--from=") }); from >= 0 {
					copiedFromStage(t, stages[:i], strings.TrimPrefix(in.flags[from], "--from="), source)
				} else {
					copiedFromTree(t, source, ignored)
				}
			}
		}
		for _, run := range s.texts("RUN") {
			for _, pkg := range regexp.MustCompile(`go build .* \./(\S+)`).FindAllStringSubmatch(run, -1) {
				if _, err := os.Stat(pkg[1]); err != nil {
					t.Errorf("go build ./%s: %v", pkg[1], err)
				}
			}
		}
	}
	if copies < 6 {
		t.Errorf("only %d copied paths were found; does this test still read the Dockerfile?", copies)
	}
}

func copiedFromStage(t *testing.T, earlier []dockerStage, from, source string) {
	t.Helper()
	i := slices.IndexFunc(earlier, func(s dockerStage) bool { return s.name == from })
	if i < 0 {
		t.Errorf("COPY --from=%s: no earlier stage has that name", from)
	} else if !strings.Contains(strings.Join(earlier[i].texts("RUN"), "\n"), source) {
		t.Errorf("COPY --from=%s %s: that stage makes no such file", from, source)
	}
}

func copiedFromTree(t *testing.T, source string, ignored []string) {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "--", source).Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	if len(bytes.TrimSpace(out)) == 0 {
		t.Errorf("COPY %s: git knows no such path", source)
	}
	for _, line := range ignored {
		if source == line || strings.HasPrefix(source, line+"/") {
			t.Errorf("COPY %s: .dockerignore leaves it out with %q", source, line)
		}
	}
}

func TestDockerfileRuns(t *testing.T) {
	stages, _ := readDockerfile(t)
	last := stages[len(stages)-1]
	user := last.texts("USER")
	if len(user) != 1 || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user[0]) {
		t.Errorf("USER %q: the image must run as one user, by number, and not as root", user)
	}
	if words := last.all[slices.IndexFunc(last.all, func(i instruction) bool { return i.word == "USER" }):]; slices.ContainsFunc(words, func(i instruction) bool { return i.word == "RUN" || i.word == "COPY" }) {
		t.Error("a step follows USER, whose files would belong to the service")
	}
	health := strings.Join(last.texts("HEALTHCHECK"), "")
	_, command, ok := strings.Cut(health, "CMD ")
	if words := execForm(t, command); !ok || !strings.HasSuffix(words[len(words)-1], ":8080/healthz") ||
		!strings.Contains(strings.Join(last.texts("RUN"), " "), " "+words[0]+"=") {
		t.Errorf("HEALTHCHECK %s: it must ask for /healthz with a program that is installed", health)
	}
	entry, args := last.texts("ENTRYPOINT"), last.texts("CMD")
	if len(entry) != 1 || len(args) != 1 {
		t.Fatalf("%d ENTRYPOINT and %d CMD", len(entry), len(args))
	}
	got := slices.Concat(execForm(t, entry[0]), execForm(t, args[0]))
	if want := []string{"waymark", "serve", "--config", "/etc/waymark/waymark.hcl"}; !slices.Equal(got, want) {
		t.Errorf("it starts %q, want %q", got, want)
	}
	for _, program := range []string{"waymark", "tofu", "tflint", "checkov"} {
		if !strings.Contains(fmt.Sprint(last.texts("COPY"), last.texts("RUN")), "/usr/local/bin/"+program) {
			t.Errorf("%s is not in the image", program)
		}
	}
}

// execForm reads the JSON form of a command, which no shell interprets.
func execForm(t *testing.T, text string) []string {
	t.Helper()
	var words []string
	if err := json.Unmarshal([]byte(text), &words); err != nil || len(words) == 0 {
		t.Fatalf("%q is not in exec form: %v", text, err)
	}
	return words
}

// composeService is what is read of a service; other keys may stand beside.
type composeService struct {
	Image       string            `yaml:"image"`
	Init        bool              `yaml:"init"`
	ReadOnly    bool              `yaml:"read_only"`
	Tmpfs       []string          `yaml:"tmpfs"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	CapDrop     []string          `yaml:"cap_drop"`
	Environment map[string]string `yaml:"environment"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
	PreStop []struct {
		Command []string `yaml:"command"`
	} `yaml:"pre_stop"`
	StopGracePeriod string `yaml:"stop_grace_period"`
}

func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]composeService `yaml:"services"`
		Volumes  map[string]any            `yaml:"volumes"`
	}
	if err := yaml.Unmarshal(readFile(t, "compose.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	w, db := file.Services["waymark"], file.Services["postgres"]
	stages, _ := readDockerfile(t)
	data := strings.Join(stages[len(stages)-1].texts("VOLUME"), " ")
	grace, err := time.ParseDuration(w.StopGracePeriod)
	if err != nil {
		t.Errorf("compose.yaml: stop_grace_period: %v", err)
	}
	_, named, _ := strings.Cut(string(readFile(t, "compose.yaml")), "shutdown_grace = \"")
	named, _, _ = strings.Cut(named, "\"")
	shutdown, err := time.ParseDuration(named)
	if err != nil {
		t.Errorf("compose.yaml: the shutdown_grace that it names: %v", err)
	}
	for claim, holds := range map[string]bool{
		"waymark drains before it stops":                    len(w.PreStop) == 1 && strings.HasPrefix(strings.Join(w.PreStop[0].Command, " "), "waymark drain --wait"),
		"waymark has more time to stop than its own grace":  grace >= shutdown+time.Minute,
		"waymark's root file system is read-only":           w.ReadOnly,
		"waymark has a temporary /tmp":                      slices.ContainsFunc(w.Tmpfs, func(s string) bool { return strings.HasPrefix(s, "/tmp") }),
		"waymark's data is a named volume":                  slices.Contains(w.Volumes, "data:"+data),
		"waymark's configuration is mounted read-only":      slices.ContainsFunc(w.Volumes, func(s string) bool { return strings.HasSuffix(s, ":/etc/waymark/waymark.hcl:ro") }),
		"waymark has no capabilities":                       slices.Equal(w.CapDrop, []string{"ALL"}),
		"waymark has an init":                               w.Init,
		"WAYMARK_TOKEN must be set":                         strings.HasPrefix(w.Environment["WAYMARK_TOKEN"], "${WAYMARK_TOKEN:?"),
		"the database is the postgres service":              strings.Contains(w.Environment["DATABASE_URL"], "@postgres:5432/"+db.Environment["POSTGRES_DB"]+"?"),
		"waymark waits for the database":                    w.DependsOn["postgres"].Condition == "service_healthy" && len(db.Healthcheck.Test) > 1,
		"the database's password must be set":               strings.HasPrefix(db.Environment["POSTGRES_PASSWORD"], "${POSTGRES_PASSWORD:?"),
		"both have the same password":                       strings.Contains(w.Environment["DATABASE_URL"], db.Environment["POSTGRES_PASSWORD"]),
		"the database's image has a version":                regexp.MustCompile(`^postgres:\d+`).MatchString(db.Image),
		"the database's data is a named volume":             slices.Contains(db.Volumes, "postgres:/var/lib/postgresql/data"),
		"the database is not published":                     len(db.Ports) == 0,
		"waymark is published":                              len(w.Ports) == 1,
		"waymark is published on the loopback address only": !slices.ContainsFunc(w.Ports, func(s string) bool { return !strings.HasPrefix(s, "127.0.0.1:") }),
	} {
		if !holds {
			t.Errorf("compose.yaml: not true that %s", claim)
		}
	}
	for _, name := range []string{"data", "postgres"} {
		if _, ok := file.Volumes[name]; !ok {
			t.Errorf("compose.yaml: the volume %q is used and not declared", name)
		}
	}
}
