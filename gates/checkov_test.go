package gates

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func checkov(t *testing.T, name string) Config {
	return posing(t, "checkov", part{Recording: recording(t, name), Version: "3.3.13"})
}

func TestCheckovJudges(t *testing.T) {
	for _, tt := range []struct {
		name, summary             string
		errors, warnings, skipped int
	}{
		{"clean.json", "19 passed, 0 failed, 0 skipped", 0, 0, 0},
		{"onefail.json", "0 passed, 1 failed, 0 skipped", 1, 0, 0},
		{"infra.json", "16 passed, 9 failed, 0 skipped", 9, 0, 0},
		{"newsyntax.json", "4 passed, 4 failed, 0 skipped", 4, 0, 0},
		{"skips.json", "6 passed, 5 failed, 4 skipped", 5, 0, 4},
		{"x-mixed.all.json", "29 passed, 8 failed, 0 skipped", 8, 0, 0}, // an array of reports
		{"x-repoconf.directory-eq", "0 passed, 1 failed, 0 skipped", 1, 0, 0},
		// Nothing evaluated is never called passed.
		{"empty.json", "nothing evaluated", 0, 1, 0},
		{"clean-nochecks.json", "nothing evaluated", 0, 1, 0},
		{"x-infra.json.check-high", "nothing evaluated", 0, 1, 0},
		{"x-repoconf.cwd", "nothing evaluated", 0, 1, 0},
		{"x-repoconf.d", "nothing evaluated", 0, 1, 0},
		{"skips-all.json", "nothing evaluated, 1 skipped", 0, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Run(t.Context(), checkov(t, tt.name))
			if err != nil {
				t.Fatal(err)
			}
			if got.Gate != "checkov" || got.Version != "3.3.13" || got.Summary != tt.summary {
				t.Errorf("got %q %q %q, want summary %q", got.Gate, got.Version, got.Summary, tt.summary)
			}
			skipped := slices.DeleteFunc(slices.Clone(got.Findings), func(f release.Finding) bool { return f.Suppressed == "" })
			want := release.FindingCount{Error: tt.errors, Warning: tt.warnings}
			if c := release.CountFindings(got.Findings); c != want || len(skipped) != tt.skipped {
				t.Errorf("got %+v and %d skipped, want %+v and %d", c, len(skipped), want, tt.skipped)
			}
			if nothing := strings.HasPrefix(tt.summary, "nothing"); nothing != (len(release.Failing(got.Findings, release.SeverityWarning)) > 0 && tt.errors == 0) {
				t.Errorf("findings %+v do not say that nothing was evaluated", got.Findings)
			}
		})
	}
}

func TestCheckovThatDidNotJudge(t *testing.T) {
	for name, want := range map[string]string{
		"x-err.nodir":      "printed nothing, exit 0",
		"x-err.badflag":    "exit 2",
		"x-err.crash":      "exit 2",
		"x-err.parse-env":  "1 files could not be parsed and were not judged: /scan/syntax-only/broken.tf",
		"syntax-only.json": "1 files could not be parsed", // exit 0
		"syntax.json":      "1 files could not be parsed", // beside one that could
		"infra.json.soft":  "exit 0 with 9 failed checks",
		"x-version":        "not the JSON that was asked for",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Run(t.Context(), checkov(t, name))
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "POSE") {
				t.Fatalf("got %v, want an error with %q", err, want)
			}
			if len(got.Findings) > 0 || got.Summary != "" {
				t.Errorf("an error comes with a result: %+v", got)
			}
		})
	}
}

func TestCheckovOutputThatIsNotWhole(t *testing.T) {
	const summary = `"summary":{"passed":1,"failed":0,"skipped":0,"parsing_errors":0,"checkov_version":"3.3.13"}`
	for stdout, want := range map[string]string{
		`{"check_type":"terraform","results":{}`:             "not the JSON",
		`{"check_type":"terraform",` + summary + `} trailer`: "something follows",
		`[]`:   "holds no report",
		`[{}]`: "unknown shape",
		`{}`:   "unknown shape",
		`"ok"`: "unknown shape",
		`{"passed":3,"failed":0,"skipped":0,"parsing_errors":0,"checkov_version":"3.3.13"}`:                                      "counts without reports",
		`{"passed":0,"failed":0,"skipped":0,"parsing_errors":2,"checkov_version":"3.3.13"}`:                                      "2 files could not be parsed",
		`{"check_type":"terraform",` + strings.Replace(summary, "3.3.13", "x", 1) + `}`:                                          "names no version",
		`{"check_type":"terraform","summary":{"passed":1,"failed":2,"skipped":0,"parsing_errors":0,"checkov_version":"3.3.13"}}`: "not whole",
		`{"check_type":"terraform","results":{"failed_checks":[{}]},` + summary + `}`:                                            "not whole",
		`{"check_type":"terraform","results":{"parsing_errors":["a.tf"]},` + summary + `}`:                                       "could not be parsed",
		strings.Repeat("[", 20000): "not the JSON",
	} {
		_, err := Run(t.Context(), posing(t, "checkov", part{Stdout: stdout}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("output %.80s: got %v, want %q", stdout, err, want)
		}
	}
}

func TestCheckovOddExit(t *testing.T) {
	const clean = `{"check_type":"terraform","summary":{"passed":1,"failed":0,"skipped":0,"parsing_errors":0,"checkov_version":"3.3.13"}}`
	for _, exit := range []int{1, 2, 120} {
		if _, err := Run(t.Context(), posing(t, "checkov", part{Stdout: clean, Exit: exit})); err == nil {
			t.Errorf("a clean report with exit %d counts", exit)
		}
	}
}

func TestCheckovFindings(t *testing.T) {
	result, err := Run(t.Context(), checkov(t, "infra.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := release.Finding{Source: "checkov", Rule: "CKV_AWS_2", Severity: release.SeverityError, File: "modules/regional/main.tf", Line: 48,
		Message: "Ensure ALB protocol is HTTPS (module called at main.tf:5)", Resource: "module.regional.aws_lb_listener.ext_lb"}
	if got := find(result.Findings, "CKV_AWS_2"); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	sorted := slices.Clone(result.Findings)
	release.SortFindings(sorted)
	if !slices.Equal(sorted, result.Findings) {
		t.Error("the findings are not sorted")
	}

	result, err = Run(t.Context(), checkov(t, "skips.json"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, f := range result.Findings {
		if f.Suppressed != "" {
			reasons[f.Rule] = f.Suppressed
		}
	}
	if reasons["CKV_AWS_26"] != "old style prefix" || reasons["CKV2_AWS_61"] != "No comment provided" || len(reasons) != 4 {
		t.Errorf("skips are listed as %v", reasons)
	}
}

func TestCheckovSkipWithoutReasonIsNoFailure(t *testing.T) {
	for _, comment := range []string{"", " ", "\\u0000"} {
		stdout := `{"check_type":"terraform","results":{"skipped_checks":[{"check_id":"CKV_1","check_result":{"result":"SKIPPED","suppress_comment":"` + comment + `"}}]},
			"summary":{"passed":1,"failed":0,"skipped":1,"parsing_errors":0,"checkov_version":"3.3.13"}}`
		got, err := Run(t.Context(), posing(t, "checkov", part{Stdout: stdout}))
		if err != nil || len(got.Findings) != 1 || got.Findings[0].Suppressed == "" {
			t.Errorf("comment %q: %+v, %v", comment, got, err)
		}
	}
}

func TestCheckovSeverity(t *testing.T) {
	record := func(severity string) string {
		return `{"check_type":"terraform","results":{"failed_checks":[{"check_id":"CKV_1","severity":` + severity + `}]},
			"summary":{"passed":0,"failed":1,"skipped":0,"parsing_errors":0,"checkov_version":"3.3.13"}}`
	}
	for _, tt := range []struct {
		json, setting string
		want          release.Severity
	}{
		{"null", "", release.SeverityError}, {"null", "notice", release.SeverityNotice}, {`"odd"`, "", release.SeverityError},
		{`"CRITICAL"`, "notice", release.SeverityError}, {`"MEDIUM"`, "", release.SeverityWarning}, {`"low"`, "", release.SeverityNotice},
	} {
		cfg := posing(t, "checkov", part{Stdout: record(tt.json), Exit: 1})
		cfg.Spec.Config["severity"] = tt.setting
		got, err := Run(t.Context(), cfg)
		if err != nil || len(got.Findings) != 1 || got.Findings[0].Severity != tt.want {
			t.Errorf("severity %s with setting %q: %+v, %v, want %s", tt.json, tt.setting, got.Findings, err, tt.want)
		}
	}
}

func TestCheckovKeepsNoValues(t *testing.T) {
	for recorded, secrets := range map[string][]string{
		"x-plan-secret.json": {"SuperS3cretPw!42"},
		// A hash of a short secret is as good as the secret.
		"x-mixed.all.json": {"AKIAIOSFODNN7EXAMPLZ", "wJalrXUtnFEMI", "a596cd064d14cb8ecdbe7288d0c31289420e2541"},
	} {
		cfg := checkov(t, recorded)
		var log strings.Builder
		cfg.Log = func(line string) { log.WriteString(line) }
		got, err := Run(t.Context(), cfg)
		if err != nil || len(got.Findings) == 0 {
			t.Fatalf("%+v, %v", got, err)
		}
		raw, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(raw)+log.String(), secret) {
				t.Errorf("%s: %s is in the result", recorded, secret)
			}
		}
	}
}

// TestCheckovCommand holds the command line that keeps the repository's own
// configuration out: the equals sign matters, see testdata/checkov/x-repoconf.*.
func TestCheckovCommand(t *testing.T) {
	tr, checks := tree(t, map[string]string{"main.tf": "", ".checkov.yaml": "soft-fail: true"}), t.TempDir()
	cfg := posing(t, "checkov", part{Recording: recording(t, "onefail.json"), WantArgs: []string{"--directory=" + tr,
		"--framework", "terraform", "secrets", "--skip-download", "--compact", "--output", "json",
		"--check", "CKV_AWS_*,CKV2_AWS_6", "--skip-check", "CKV_AWS_1", "--external-checks-dir=" + checks}})
	cfg.Tree = tr
	cfg.Spec.Config = map[string]string{"frameworks": "terraform, secrets", "check": "CKV_AWS_*,CKV2_AWS_6", "skip_check": "CKV_AWS_1,", "external_checks_dir": checks}
	got, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	notes := find(got.Findings, "waymark_config_ignored")
	if len(notes) != 1 || notes[0].File != ".checkov.yaml" || notes[0].Severity != release.SeverityNotice {
		t.Errorf("the repository's configuration is listed as %+v", notes)
	}
}

func TestCheckovUnreadFiles(t *testing.T) {
	cfg := checkov(t, "clean.json")
	cfg.Tree = tree(t, map[string]string{"main.tf": "", "evil.tofu": "", "a/b.tf.json": "{}", ownOverride: "{}", "m/" + ownOverride: "{}", ".hidden/x.tf": "", "node_modules/m/y.tf": "", ".terraform/z.tf": ""})
	got, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range find(got.Findings, "waymark_unread_file") {
		files = append(files, f.File)
	}
	if want := []string{".hidden/x.tf", "a/b.tf.json", "evil.tofu", "m/" + ownOverride, "node_modules/m/y.tf"}; !slices.Equal(files, want) {
		t.Errorf("unread files %q, want %q", files, want)
	}
}

func TestCheckovSettings(t *testing.T) {
	inside := tree(t, map[string]string{"checks/evil.py": "", "main.tf": ""})
	for _, tt := range []struct {
		name, value, want string
		sentinel          error
	}{
		{"check", "HIGH", "knows no severities", release.ErrInvalid},
		{"skip_check", "CKV_AWS_1,low", "knows no severities", release.ErrInvalid},
		{"check", "--soft-fail", "is no name", release.ErrInvalid},
		{"frameworks", "terraform --soft-fail", "is no name", release.ErrInvalid},
		{"frameworks", "terraform_plan", "wants a plan", release.ErrInvalid},
		{"severity", "fatal", "must be error, warning or notice", release.ErrInvalid},
		{"soft_fail", "true", `no setting "soft_fail"`, release.ErrInvalid},
		{"external_checks_dir", "checks", "absolute", release.ErrInvalid},
		{"external_checks_dir", "/nonexistent", "no such file", release.ErrInvalid},
		{"external_checks_dir", inside + "/checks", "lies in the repository", release.ErrRefused},
	} {
		cfg := checkov(t, "clean.json")
		cfg.Tree = inside
		cfg.Spec.Config[tt.name] = tt.value
		if _, err := Run(t.Context(), cfg); !errors.Is(err, tt.sentinel) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s = %q: got %v, want %q", tt.name, tt.value, err, tt.want)
		}
	}
}
