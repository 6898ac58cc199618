package gates

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// trivy plays a recorded run (see scripts/record-trivy.sh) on the tree that it
// was recorded for.
func trivy(t *testing.T, name string) Config {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "trivy", name))
	if err != nil {
		t.Fatal(err)
	}
	cfg := posing(t, "trivy", part{Recording: dir, Version: "Version: 0.68.0\nVulnerability DB: none"})
	if _, err := os.Stat(filepath.Join(dir, "tree")); err == nil {
		cfg.Tree = filepath.Join(dir, "tree")
	}
	return cfg
}

func TestTrivyJudges(t *testing.T) {
	for _, tt := range []struct {
		name, summary                      string
		errors, warnings, notices, skipped int
	}{
		{"quickstart", "38 passed, 0 failed, 0 skipped", 0, 0, 0, 0},
		{"examples", "176 passed, 3 failed, 0 skipped", 2, 1, 0, 0},
		{"ignored", "40 passed, 3 failed, 3 skipped", 3, 0, 0, 3},
		{"tofu", "40 passed, 4 failed, 0 skipped", 4, 0, 0, 0},
		{"checks", "40 passed, 5 failed, 4 skipped", 3, 2, 0, 4},
		{"remote", "38 passed, 0 failed, 0 skipped", 0, 3, 0, 0}, // modules that could not be loaded
		{"empty", "nothing evaluated", 0, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, trivy(t, tt.name))
			if got.Gate != "trivy" || got.Version != "0.68.0" || got.Summary != tt.summary {
				t.Errorf("got %q %q %q, want summary %q", got.Gate, got.Version, got.Summary, tt.summary)
			}
			want := release.FindingCount{Error: tt.errors, Warning: tt.warnings, Notice: tt.notices}
			if c := release.CountFindings(got.Findings); c != want || suppressedCount(got.Findings) != tt.skipped {
				t.Errorf("got %+v and %d skipped, want %+v and %d", c, suppressedCount(got.Findings), want, tt.skipped)
			}
		})
	}
}

func TestTrivyFindings(t *testing.T) {
	got := run(t, trivy(t, "examples"))
	want := release.Finding{Source: "trivy", Rule: "AVD-AWS-0053", Severity: release.SeverityError, Message: "Load balancer is exposed publicly.",
		File: "aws-multi-region/modules/regional/loadbalancer.tf", Line: 22, Resource: "module.regional",
		Link: "https://avd.aquasec.com/misconfig/avd-aws-0053"}
	if f := find(got.Findings, "AVD-AWS-0053"); len(f) != 1 || f[0] != want {
		t.Errorf("got %+v, want %+v", f, want)
	}
	var skips []string
	for _, f := range run(t, trivy(t, "ignored")).Findings {
		if f.Suppressed != "" {
			skips = append(skips, f.Rule+" "+f.Suppressed)
		}
	}
	wantSkips := "aws-elb-alb-not-public tfsec:ignore:AVD-AWS-0052, aws-elb-drop-invalid-headers trivy:ignore:* the whole thing, aws-elb-alb-not-public trivy:ignore:* the whole thing"
	if got := strings.Join(skips, ", "); got != wantSkips {
		t.Errorf("skips %q, want %q", got, wantSkips)
	}
}

func TestTrivyThatDidNotJudge(t *testing.T) {
	for name, want := range map[string]string{
		"broken":      "it could not judge everything, exit 0: [terraform parser] Error parsing file module=\"root\" file_path=\"main.tf\"", // exit 0, and no finding
		"err-missing": "no such file or directory",
		"err-checks":  "rego_parse_error: package expected",
	} {
		got, err := Run(t.Context(), trivy(t, name))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "POSE") || len(got.Findings) > 0 {
			t.Errorf("%s: got %+v, %v, want an error with %q", name, got, err, want)
		}
	}
	for stdout, want := range map[string]string{
		``:                    "printed nothing",
		`{}`:                  "unknown shape",
		`{"SchemaVersion":3}`: "unknown shape",
		`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"config"}]}`:                                                                                                  "is not whole",
		`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"config","MisconfSummary":{"Failures":1}}]}`:                                                                  "is not whole",
		`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"secret","MisconfSummary":{}}]}`:                                                                              "is not whole",
		`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"config","MisconfSummary":{"Failures":1},"Misconfigurations":[{}]}]}`:                                         "exit 0 with 1 failed",
		`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"config","MisconfSummary":{"Failures":1},"Misconfigurations":[{}]}]} more`:                                    "something follows",
		`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"config","MisconfSummary":{"Successes":-1,"Failures":1},"Misconfigurations":[{"Severity":"UNKNOWN"}]}]} more`: "",
	} {
		_, err := Run(t.Context(), posing(t, "trivy", part{Stdout: stdout, Version: "Version: 0.68.0"}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("output %.120s: got %v, want %q", stdout, err, want)
		}
	}
}

func TestTrivySettings(t *testing.T) {
	checks := tree(t, map[string]string{"own.rego": "package user.own"})
	cfg := posing(t, "trivy", part{Stdout: `{"SchemaVersion":2,"ArtifactType":"filesystem"}`, Version: "Version: 0.68.0"})
	cfg.Spec.Config = map[string]string{"skip_check": "AVD-AWS-0052, USR-1", "checks_dir": checks}
	raw, err := json.Marshal(part{Stdout: `{"SchemaVersion":2,"ArtifactType":"filesystem"}`, Version: "Version: 0.68.0", WantEnv: []string{"PATH", "HOME", "TMPDIR", "LANG"},
		WantArgs: []string{"config", "--skip-check-update", "--skip-version-check", "--disable-telemetry", "--misconfig-scanners=terraform",
			"--cache-dir=" + cfg.Scratch + "/cache", "--format=json", "--exit-code=10", "--timeout=24h", "--skip-dirs=**/.terraform",
			"--ignorefile=" + cfg.Scratch + "/skipped-checks", "--config-check=" + checks, "--check-namespaces=user", cfg.Tree}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(cfg.Spec.Path), "part.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	if got, err := os.ReadFile(filepath.Join(cfg.Scratch, "skipped-checks")); err != nil || string(got) != "AVD-AWS-0052\nUSR-1\n" {
		t.Errorf("checks to skip: %q, %v", got, err)
	}
	cfg.Spec.Config, cfg.Scratch = map[string]string{"skip_check": "a b"}, scratch(t)
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "is no name") {
		t.Errorf("a bad id: %v", err)
	}
	cfg.Spec.Config, cfg.Scratch = map[string]string{"checks_dir": cfg.Tree}, scratch(t)
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "lies in the repository") {
		t.Errorf("checks of the repository: %v", err)
	}
}

func TestTrivyListsWhatItDoesNotRead(t *testing.T) {
	cfg := posing(t, "trivy", part{Stdout: `{"SchemaVersion":2,"ArtifactType":"filesystem"}`, Version: "Version: 0.68.0"})
	cfg.Tree = tree(t, map[string]string{"main.tf": "", ".trivyignore": "AVD-1", "sub/.trivyignore": "x", ".terraform/modules/a/trivy.yaml": ""})
	if err := os.Symlink("main.tf", filepath.Join(cfg.Tree, "link.tf")); err != nil {
		t.Fatal(err)
	}
	got := run(t, cfg)
	unread, ignored := find(got.Findings, "waymark_unread_file"), find(got.Findings, "waymark_config_ignored")
	if len(unread) != 1 || unread[0].File != "link.tf" || len(ignored) != 1 || ignored[0].File != ".trivyignore" {
		t.Errorf("got %+v", got.Findings)
	}
}

// TestRealTrivy runs where somebody has built trivy; recordings do elsewhere.
func TestRealTrivy(t *testing.T) {
	path, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "trivy"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil || testing.Short() {
		t.Skip("trivy is not built: go run -C tools/get . trivy")
	}
	cfg := Config{Spec: release.GateSpec{Name: "trivy", Path: path}, Scratch: scratch(t), Path: os.Getenv("PATH"), Log: func(l string) { t.Log(l) }}
	if cfg.Tree, err = filepath.Abs(filepath.Join("testdata", "trivy", "ignored", "tree")); err != nil {
		t.Fatal(err)
	}
	if got := run(t, cfg); got.Version != "0.68.0" || got.Summary != "40 passed, 3 failed, 3 skipped" {
		t.Errorf("got %q %q", got.Version, got.Summary)
	}
}
