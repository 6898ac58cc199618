package gates

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// trivyOutput is what is read of Trivy's JSON. CauseMetadata.Code is left out:
// it repeats the code, and with it the values of secrets.
type trivyOutput struct {
	SchemaVersion int
	ArtifactType  string
	Results       []struct {
		Target         string
		Class          string
		MisconfSummary *struct {
			Successes, Failures int
		}
		Misconfigurations []trivyRecord
	}
}

type trivyRecord struct {
	ID            string
	AVDID         string
	Title         string
	Message       string
	Severity      string
	PrimaryURL    string
	Status        string
	CauseMetadata struct {
		Resource  string
		StartLine int
	}
}

// trivyFound is the exit code that we ask for where Trivy finds something, so
// that it and the JSON have to agree. Its own errors end with 1.
const trivyFound = 10

// runTrivy judges the whole repository, so that one commit is scanned once for
// all its targets: Trivy itself finds the root modules in it.
//
// Settings: "skip_check" (ids, comma-separated), "checks_dir" (the operator's
// own checks in Rego, in packages below user, outside of the repository).
func runTrivy(ctx context.Context, cfg Config) (release.GateResult, error) {
	args, err := trivyArgs(cfg)
	if err != nil {
		return release.GateResult{}, err
	}
	root, err := os.OpenRoot(cfg.Tree)
	if err != nil {
		return release.GateResult{}, fmt.Errorf("reading the tree: %w", err)
	}
	defer root.Close()
	notes, err := trivyUnread(root)
	if err != nil {
		return release.GateResult{}, err
	}
	version, err := cfg.ask(ctx)
	if err != nil {
		return release.GateResult{}, err
	}
	said := trivyLog{}
	cfg.watch = said.line
	out, err := cfg.start(ctx, args...)
	if err != nil {
		return release.GateResult{}, err
	}
	result, err := readTrivy(out, said, cfg.Tree)
	if err != nil {
		return result, err
	}
	result.Version = version
	result.Findings = append(result.Findings, said.unloaded...)
	result.Findings = append(result.Findings, said.skips(root)...)
	result.Findings = append(result.Findings, notes...)
	return result, nil
}

// trivyArgs builds the command line and writes the file that it names. What init
// puts into .terraform while Trivy runs is left out, so that the result is that
// of the commit alone.
func trivyArgs(cfg Config) ([]string, error) {
	args := []string{"config", "--skip-check-update", "--skip-version-check", "--disable-telemetry",
		"--misconfig-scanners=terraform", "--cache-dir=" + filepath.Join(cfg.Scratch, "cache"), "--format=json",
		"--exit-code=" + strconv.Itoa(trivyFound), "--timeout=24h", "--skip-dirs=**/.terraform"}
	skip, err := list("skip_check", cfg.Spec.Config["skip_check"], checkPattern)
	if err != nil {
		return nil, err
	}
	if len(skip) > 0 {
		file := filepath.Join(cfg.Scratch, "skipped-checks")
		if err := os.WriteFile(file, []byte(strings.Join(skip, "\n")+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("writing the checks to leave out: %w", err)
		}
		args = append(args, "--ignorefile="+file)
	}
	if dir := cfg.Spec.Config["checks_dir"]; dir != "" {
		args = append(args, "--config-check="+dir, "--check-namespaces=user")
	}
	return append(args, cfg.Tree), nil
}

// trivyUnread lists what the engine would read and Trivy does not, links to
// files, and configurations of the repository that are not obeyed.
func trivyUnread(root *os.Root) ([]release.Finding, error) {
	var out []release.Finding
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".terraform"):
			return fs.SkipDir
		case slices.Contains([]string{"trivy.yaml", ".trivyignore", ".trivyignore.yaml"}, p):
			out = append(out, ignoredConfig(p, "a repository cannot configure the gate that judges it; use comments, the gate's settings or waivers"))
		case d.Type()&fs.ModeSymlink != 0 && hasSuffix(p, []string{".tf", ".tf.json", ".tofu", ".tofu.json"}):
			out = append(out, unreadFile(p, "trivy"))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the tree: %w", err)
	}
	return out, nil
}

// trivyLog is what Trivy says on standard error alone: that it could not read a
// file, with exit code 0, and which findings comments take out.
type trivyLog struct {
	errors   []string
	unloaded []release.Finding
	ignored  []trivyIgnored
}

type trivyIgnored struct {
	rule, file string
	start, end int
}

var (
	trivyAttribute = regexp.MustCompile(`(\w+)=("(?:[^"\\]|\\.)*")`)
	trivyPlace     = regexp.MustCompile(`^(.+?):(\d+)(?:-(\d+))?$`)
)

// line reads one line of the log: time, level, message and attributes, with tabs
// between them. An error that is not known to be harmless means that something
// was not judged.
func (l *trivyLog) line(raw string) {
	parts := strings.SplitN(raw, "\t", 4)
	if len(parts) < 3 {
		return
	}
	level, message := strings.TrimSpace(parts[1]), parts[2]
	attributes := map[string]string{}
	for _, m := range trivyAttribute.FindAllStringSubmatch(raw, -1) {
		attributes[m[1]], _ = strconv.Unquote(m[2])
	}
	switch {
	case strings.HasSuffix(message, "Ignore finding"):
		if file, start, end, ok := trivyRange(attributes["range"]); ok && len(l.ignored) <= maxFindings {
			l.ignored = append(l.ignored, trivyIgnored{attributes["rule"], file, start, end})
		}
	case level != "ERROR" && level != "FATAL":
	case strings.Contains(message, "Falling back to embedded checks"): // there is no cache to take newer ones from
	case strings.Contains(message, "Failed to load module") && len(l.unloaded) <= maxFindings:
		file, start, _, _ := trivyRange(attributes["loc"])
		l.unloaded = append(l.unloaded, release.Finding{Rule: "waymark_unread_module", Severity: release.SeverityWarning, File: file, Line: start,
			Message: "trivy cannot load this module, for it gets no network; nothing in the module was judged"})
	default:
		text := clean(strings.Join(parts[2:], " "), maxName)
		if len(l.errors) < 5 && !slices.Contains(l.errors, text) {
			l.errors = append(l.errors, text)
		}
	}
}

// trivyRange reads a place such as "main.tf:3-5".
func trivyRange(s string) (file string, start, end int, ok bool) {
	m := trivyPlace.FindStringSubmatch(s)
	if m == nil {
		return "", 0, 0, false
	}
	start, _ = strconv.Atoi(m[2])
	if end, _ = strconv.Atoi(m[3]); end == 0 {
		end = start
	}
	return strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(m[1])), "/"), start, end, true
}

// readTrivy turns one run's output into a result.
func readTrivy(out output, said trivyLog, tree string) (release.GateResult, error) {
	var result release.GateResult
	if len(said.errors) > 0 {
		return result, fmt.Errorf("it could not judge everything, exit %d: %s", out.exit, strings.Join(said.errors, " | "))
	}
	if out.exit != 0 && out.exit != trivyFound {
		return result, fmt.Errorf("exit %d%s", out.exit, out.tail())
	}
	var o trivyOutput
	if err := decode(out, &o); err != nil {
		return result, err
	}
	if o.SchemaVersion != 2 || o.ArtifactType != "filesystem" {
		return result, fmt.Errorf("its output has an unknown shape: schema %d of %q", o.SchemaVersion, clean(o.ArtifactType, 50))
	}
	passed, failed := 0, 0
	for _, r := range o.Results {
		if r.Class != "config" || r.MisconfSummary == nil || r.MisconfSummary.Successes < 0 || r.MisconfSummary.Failures != len(r.Misconfigurations) {
			return result, fmt.Errorf("its report on %s is not whole", clean(r.Target, maxName))
		}
		passed += r.MisconfSummary.Successes
		failed += r.MisconfSummary.Failures
		for _, rec := range r.Misconfigurations {
			result.Findings = append(result.Findings, rec.finding(treeFile(tree, tree, r.Target)))
		}
	}
	if (failed > 0) != (out.exit == trivyFound) {
		return result, fmt.Errorf("exit %d with %d failed checks%s", out.exit, failed, out.tail())
	}
	result.Summary = fmt.Sprintf("%d passed, %d failed, %d skipped", passed, failed, len(said.ignored))
	if passed+failed == 0 {
		result.Summary = nothingEvaluated
		result.Findings = append(result.Findings, release.Finding{Rule: "waymark_nothing_evaluated", Severity: release.SeverityWarning,
			Message: "trivy found no code in this tree, so this gate says nothing about it"})
	}
	return result, nil
}

// finding keeps rule, resource, line and message of a record.
func (r trivyRecord) finding(file string) release.Finding {
	f := release.Finding{Rule: r.AVDID, Message: r.Message, Resource: r.CauseMetadata.Resource, Link: r.PrimaryURL,
		File: file, Line: r.CauseMetadata.StartLine, Severity: release.SeverityError}
	if f.Rule == "" {
		f.Rule = r.ID
	}
	if f.Message == "" {
		f.Message = r.Title
	}
	switch strings.ToUpper(r.Severity) {
	case "MEDIUM":
		f.Severity = release.SeverityWarning
	case "LOW":
		f.Severity = release.SeverityNotice
	}
	return f
}

// skips lists the findings that comments took out, each with its comment.
func (l *trivyLog) skips(root *os.Root) []release.Finding {
	sources := map[string][]string{}
	var out []release.Finding
	for _, i := range l.ignored {
		lines, read := sources[i.file]
		if !read {
			if src, err := readSource(root, i.file, maxSource); err == nil {
				lines = strings.Split(string(src), "\n")
			}
			sources[i.file] = lines
		}
		out = append(out, release.Finding{Rule: i.rule, Severity: release.SeverityWarning, File: i.file, Line: i.start,
			Message: "a comment skips this finding", Suppressed: skipComment(lines, i.end)})
	}
	return out
}

var trivyComment = regexp.MustCompile(`(?:#|//|/\*)[#/* \t]*((?:trivy|tfsec):ignore:.*)`)

// skipComment is the nearest comment at a line or above it that skips a check.
func skipComment(lines []string, end int) string {
	for _, line := range slices.Backward(lines[:min(end, len(lines))]) {
		if m := trivyComment.FindStringSubmatch(line); m != nil {
			return strings.TrimSuffix(strings.TrimSpace(m[1]), "*/")
		}
	}
	return "no reason given"
}
