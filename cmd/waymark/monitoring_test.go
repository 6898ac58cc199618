package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// monitoring is where the examples are, seen from this package.
const monitoring = "../../examples/monitoring/"

// busyWorld is a service with every part that has metrics: PostgreSQL, a queue, a
// gate, a consumer, a notification, traces, an environment that asks for approval.
func busyWorld(t *testing.T) *world {
	t.Helper()
	database := testkit.Postgres(t) // first, so that it ends after the service
	w, cloud := newAWSWorld(t, "tofu", fileLock, "")
	queue := cloud.CreateQueue("us-east-1", "waymark")
	quiet := filepath.Join(w.dir, "bin", "quiet")
	if err := os.Mkdir(filepath.Dir(quiet), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(quiet, []byte(quietGate), 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`data_dir       = "data"`, "data_dir = \"data\"\n  database = env(\"WORLD_DATABASE\")",
		`url  = env("WORLD_REMOTE")`, "url  = env(\"WORLD_REMOTE\")\n  codecommit = \"us-east-1\"",
		`dynamodb = env("AWS_DYNAMODB") }`, `dynamodb = env("AWS_DYNAMODB"), sqs = env("AWS_SQS") }`,
		`environment "prod" {`, "environment \"prod\" {\n  approvals = 1").Replace(string(text))
	changed += fmt.Sprintf("trigger \"sqs\" {\n  queue_url = %q\n  region = \"us-east-1\"\n}\n", queue) +
		fmt.Sprintf("gate \"quiet\" {\n  command = [%q]\n  stage = \"scan\"\n}\n", quiet) +
		fmt.Sprintf("notification \"ops\" {\n  kind = \"webhook\"\n  url = %q\n  states = [\"succeeded\"]\n  batch = \"0s\"\n}\n", testkit.NewEventSink(t).URL) +
		consumerBlock("siem", testkit.NewEventSink(t).URL, "") + telemetryBlock(testkit.NewCollector(t).URL, "")
	if err := os.WriteFile(w.file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["WORLD_REMOTE"], w.env["AWS_SQS"] = cloud.CodeCommit(w.remote, "us-east-1", "infra"), cloud.Endpoints()["sqs"]
	w.env["WORLD_DATABASE"] = database
	return w
}

// sampleForm is one line of an exposition.
var (
	sampleForm = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`)
	labelForm  = regexp.MustCompile(`([a-z_]+)="(?:[^"\\]|\\.)*"`)
)

// exposed reads /metrics: each metric with the labels that its series have, and
// those that Prometheus adds.
func (w *world) exposed() map[string][]string {
	w.t.Helper()
	out := map[string][]string{"up": {"job", "instance"}}
	for _, m := range sampleForm.FindAllStringSubmatch(w.get("/metrics"), -1) {
		labels := []string{"job", "instance"}
		for _, l := range labelForm.FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, l[1])
		}
		out[m[1]] = labels
	}
	return out
}

// named is one metric that an expression names.
type named struct {
	Expr, Metric string
	Labels       []string
}

// readPromQL has Prometheus' own parser read the rules and the expressions.
func readPromQL(t *testing.T, expressions []string) []named {
	t.Helper()
	in, err := json.Marshal(expressions)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(monitoring + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "-C", "../../tools/promql", ".", rules)
	cmd.Stdin = bytes.NewReader(in)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("what Prometheus' parser says: %v\n%s", err, errs.String())
	}
	var found []named
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// dashboard is what the test reads of Grafana's file.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		Type, Title string
		Targets     []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
}

// dashboardExpressions are those of all panels and variables, as Prometheus gets
// them.
func dashboardExpressions(t *testing.T) (out []string) {
	t.Helper()
	var d dashboard
	readInto(t, "dashboard.json", func(text []byte) error { return json.Unmarshal(text, &d) })
	known := []string{"$__rate_interval"}
	listed := regexp.MustCompile(`^label_values\((.*), ([a-z_]+)\)$`)
	for _, v := range d.Templating.List {
		known = append(known, "$"+v.Name)
		if m := listed.FindStringSubmatch(v.Query); m != nil {
			out = append(out, fmt.Sprintf("count by (%s) (%s)", m[2], m[1]))
		} else if v.Type == "query" {
			t.Errorf("variable %s: query %q is not understood", v.Name, v.Query)
		}
	}
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	if len(out) < 30 {
		t.Errorf("only %d expressions were found in the dashboard", len(out))
	}
	for i, expr := range out {
		for _, name := range regexp.MustCompile(`\$\w+`).FindAllString(expr, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s: nothing gives %s", expr, name)
			}
		}
		out[i] = strings.ReplaceAll(expr, "$__rate_interval", "5m")
	}
	return out
}

func readInto(t *testing.T, file string, decode func([]byte) error) {
	t.Helper()
	text, err := os.ReadFile(monitoring + file)
	if err == nil {
		err = decode(text)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestMonitoringFitsTheService holds every expression of examples/monitoring
// against what a real service exposes after real runs, and against what
// docs/operations.md tells.
func TestMonitoringFitsTheService(t *testing.T) {
	w := busyWorld(t)
	w.serve()
	w.contact()
	const free, asks = "dev_us-east-1/research/1.0", "prod_us-east-1/risk/1.0"
	w.push(free)
	w.push(asks)
	w.until(free, release.Succeeded)
	w.mustCLI("runs", "approve", w.until(asks, release.AwaitingApproval).ID)
	w.until(asks, release.Succeeded)
	if answer, err := http.Post(w.server+"/webhooks/infra", "application/json", strings.NewReader("{}")); err != nil || answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged webhook: %v %v", answer, err)
	} else {
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	expressions := dashboardExpressions(t)
	var all map[string][]string
	w.await("the metrics of all parts", func() bool { // places outside are told a moment later
		all = w.exposed()
		return all["waymark_notifications_total"] != nil && all["waymark_consumer_lag_seconds"] != nil
	})
	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range readPromQL(t, expressions) {
		labels, there := all[a.Metric]
		if !there {
			t.Errorf("%s: no service exposes %s", a.Expr, a.Metric)
			continue
		}
		for _, l := range a.Labels {
			if !slices.Contains(labels, l) {
				t.Errorf("%s: %s has no label %s, but %v", a.Expr, a.Metric, l, labels)
			}
		}
		name := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(a.Metric, "")
		if strings.HasPrefix(name, "waymark_") && !strings.Contains(string(operations), "\n| `"+name+"` |") {
			t.Errorf("docs/operations.md does not tell of %s", name)
		}
	}
}

// TestMonitoringFilesAreWhole reads the rules and the scrape configuration: each
// alert says what to do and where that is written.
func TestMonitoringFilesAreWhole(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	readInto(t, "alerts.yml", func(text []byte) error { return yaml.Unmarshal(text, &rules) })
	for _, r := range rules.Groups[0].Rules {
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) {
			t.Errorf("%s has no summary, no description or no severity", r.Alert)
		}
		file, heading, _ := strings.Cut(r.Annotations["runbook"], "#")
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Errorf("%s: %v", r.Alert, err)
			continue
		}
		if !slices.Contains(headings(string(text)), heading) {
			t.Errorf("%s: %s has no part %q", r.Alert, file, heading)
		}
	}
	if len(rules.Groups[0].Rules) < 15 {
		t.Errorf("only %d rules were found", len(rules.Groups[0].Rules))
	}
	var scrape struct {
		RuleFiles     []string         `yaml:"rule_files"`
		ScrapeConfigs []map[string]any `yaml:"scrape_configs"`
	}
	readInto(t, "prometheus.yml", func(text []byte) error { return yaml.Unmarshal(text, &scrape) })
	for _, file := range scrape.RuleFiles {
		if _, err := os.Stat(monitoring + file); err != nil {
			t.Error(err)
		}
	}
	if len(scrape.ScrapeConfigs) != 1 || scrape.ScrapeConfigs[0]["job_name"] != "waymark" || len(scrape.RuleFiles) == 0 {
		t.Errorf("scrape configuration %+v", scrape)
	}
}

// headings are a page's, as links name them.
func headings(text string) (out []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile("[^a-z0-9 -]").ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}
