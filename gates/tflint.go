package gates

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// tflintOutput is what `tflint --format=json` prints.
type tflintOutput struct {
	Issues *[]struct {
		Rule struct {
			Name     string `json:"name"`
			Severity string `json:"severity"`
			Link     string `json:"link"`
		} `json:"rule"`
		Message string        `json:"message"`
		Range   tflintRange   `json:"range"`
		Callers []tflintRange `json:"callers"`
	} `json:"issues"`
	Errors []struct {
		Summary string       `json:"summary"`
		Message string       `json:"message"`
		Range   *tflintRange `json:"range"`
	} `json:"errors"`
}

type tflintRange struct {
	Filename string `json:"filename"`
	Start    struct {
		Line int `json:"line"`
	} `json:"start"`
}

// tflintEnv keeps TFLint away from what lies in the module's folder: a
// .tflint.d/plugins there would be executed, a .terraform there is being written
// by init at the same time. Its look for a newer version would need the network.
func tflintEnv(scratch string) []string {
	return []string{"TFLINT_DISABLE_VERSION_CHECK=1", "TFLINT_PLUGIN_DIR=" + filepath.Join(scratch, "none"),
		"TF_DATA_DIR=" + filepath.Join(scratch, "none")}
}

// runTFLint judges the root module, then each local
// module that it reaches, one process for each: rules such as unused
// declarations look at the module that a process is started for and at no other.
// `--recursive` would do the same to every folder of the repository, used or not.
//
// Rules come from the operator's file where the setting "config" names one; the
// repository's .tflint.hcl is then ignored as a whole, and the operator's may
// load plug-ins (with plugin_dir, as HOME is empty). Otherwise the repository's
// file, beside the root module or at the top, may tune the bundled rules.
func runTFLint(ctx context.Context, cfg Config) (release.GateResult, error) {
	root, err := os.OpenRoot(cfg.Tree)
	if err != nil {
		return release.GateResult{}, fmt.Errorf("reading the tree: %w", err)
	}
	defer root.Close()
	stack, err := readStack(root, filepath.ToSlash(filepath.Clean(cfg.StackPath)))
	if err != nil {
		return release.GateResult{}, err
	}
	config, notes, err := tflintConfig(root, cfg)
	if err != nil {
		return release.GateResult{}, err
	}
	var result release.GateResult
	if result.Version, err = cfg.ask(ctx); err != nil {
		return result, err
	}
	for _, dir := range stack.dirs {
		args := []string{"--chdir=" + filepath.Join(cfg.Tree, filepath.FromSlash(dir)), "--config=" + config, "--format=json", "--no-color"}
		found, err := tflintModule(ctx, cfg, args)
		if err != nil {
			return result, err
		}
		result.Findings = append(result.Findings, found...)
	}
	result.Findings = order(append(append(result.Findings, stack.findings...), notes...))
	result.Summary = countText(result.Findings)
	switch n := len(stack.ignored); {
	case stack.files == 0:
		result.Summary = nothingEvaluated
		result.Findings = append(result.Findings, release.Finding{Rule: "waymark_nothing_evaluated",
			Severity: release.SeverityWarning, Message: "the root module holds no file that tflint reads, so this gate says nothing about it"})
	case n > 0:
		result.Summary += fmt.Sprintf(", %d ignored by comments", n)
	}
	result.Findings = append(result.Findings, stack.ignored...)
	return result, nil
}

// tflintModule runs tflint on one module.
func tflintModule(ctx context.Context, cfg Config, args []string) ([]release.Finding, error) {
	out, err := cfg.start(ctx, args...)
	if err != nil {
		return nil, err
	}
	return readTFLint(out, func(name string) string { return treeFile(cfg.Tree, cfg.Scratch, name) })
}

// readTFLint turns one run's output into findings. Exit 2 means issues, but is
// also how a Go program that panics ends: the JSON must be whole and agree.
func readTFLint(out output, file func(string) string) ([]release.Finding, error) {
	var o tflintOutput
	if err := decode(out, &o); err != nil {
		return nil, err
	}
	if len(o.Errors) > 0 {
		var all []string
		for _, e := range o.Errors[:min(len(o.Errors), 10)] {
			text := strings.TrimPrefix(e.Summary+"; "+e.Message, "; ")
			if e.Range != nil && e.Range.Filename != "" {
				text = fmt.Sprintf("%s:%d: %s", file(e.Range.Filename), e.Range.Start.Line, text)
			}
			all = append(all, clean(text, maxText))
		}
		return nil, fmt.Errorf("it could not judge: %s", strings.Join(all, " | "))
	}
	if o.Issues == nil || (out.exit != 0 && out.exit != 2) || (out.exit == 2 && len(*o.Issues) == 0) {
		return nil, fmt.Errorf("exit %d does not fit its output%s", out.exit, out.tail())
	}
	var findings []release.Finding
	for _, i := range *o.Issues {
		f := release.Finding{Rule: i.Rule.Name, Severity: release.SeverityError, Message: i.Message, Link: i.Rule.Link,
			File: file(i.Range.Filename), Line: i.Range.Start.Line}
		switch s := release.Severity(strings.ToLower(i.Rule.Severity)); s {
		case release.SeverityWarning, release.SeverityNotice:
			f.Severity = s
		}
		if len(i.Callers) > 0 {
			f.Message += fmt.Sprintf(" (reached from %s:%d)", file(i.Callers[0].Filename), i.Callers[0].Start.Line)
		}
		findings = append(findings, f)
	}
	return findings, nil
}
