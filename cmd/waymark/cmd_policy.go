package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/release"
)

// newPolicyEvaluatorCommand builds the hidden command by which waymark evaluates
// an operator's own rules in a process of their own.
func newPolicyEvaluatorCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: policies.EvaluatorCommand, Hidden: true, Args: exactArgs(),
		Short: "Evaluate an operator's policies; waymark starts it itself and writes the task to standard input",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withExitCode(policies.Evaluate(cmd.Context(), cmd.InOrStdin(), g.stdout, g.stderr))
		},
	}
}

// newPolicyCommand builds `waymark policy`.
func newPolicyCommand(g *globals) *cobra.Command {
	return group("policy", "Test policies, and try them on a tag, its code and a plan",
		newPolicyTestCommand(g), newPolicyEvalCommand(g))
}

func newPolicyTestCommand(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test [DIR...]",
		Short: "Run the tests of your own policies: rules test_… in files …_test.rego",
		Long: `Runs the tests in folders of policies, those that the configuration names where
none is given, beside the bundled rules and with the functions that rules have in
a run. With --config the settings of the configuration are data.waymark.settings.
Exit code 1 where a test fails, 2 where a file is broken.`,
	}
	cmd.Flags().StringVar(&file, "config", "", "the configuration file (default waymark.hcl where no DIR is given)")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, dirs []string) error {
		spec, err := testedPolicies(file, dirs)
		if err != nil {
			return err
		}
		results, problems, err := policies.Test(cmd.Context(), spec)
		if err != nil {
			return withExitCode(err)
		}
		if len(problems) > 0 {
			var lines []string
			for _, p := range problems {
				lines = append(lines, p.String())
			}
			return usageErrorf("%w policies:\n%s", release.ErrInvalid, strings.Join(lines, "\n"))
		}
		return g.showTests(results, out.json())
	}
	return cmd
}

// testedPolicies reads the folders that are to be tested, with their tests.
func testedPolicies(file string, dirs []string) (spec release.PolicySpec, err error) {
	if file == "" && len(dirs) == 0 {
		file = "waymark.hcl"
	}
	if file != "" {
		cfg, err := loadConfig(file)
		if err != nil {
			return spec, err
		}
		spec = cfg.PolicyFor(release.Target{}, "", release.Deploy)
		if len(dirs) == 0 {
			dirs = cfg.Policy.Folders
		}
	}
	if len(dirs) == 0 {
		return spec, usageErrorf("%s names no policy folders: write policy { folders = [...] }, or name a folder", file)
	}
	spec.Files = nil
	for _, dir := range dirs {
		files, err := config.ReadPolicyFolder(filepath.Clean(dir), dir, true)
		if err != nil {
			return spec, usageErrorf("reading the policies in %s: %w", dir, err)
		}
		spec.Files = append(spec.Files, files...)
	}
	return spec, nil
}

// showTests prints how tests ended. A failed one is an error with exit code 1.
func (g *globals) showTests(results []policies.TestResult, asJSON bool) error {
	failed, passed := 0, 0
	for _, r := range results {
		if r.Passed {
			passed++
		} else if !r.Skip {
			failed++
		}
	}
	if asJSON {
		if results == nil {
			results = []policies.TestResult{}
		}
		if err := printJSON(g.stdout, results, "  "); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			g.showTest(r)
		}
		fmt.Fprintf(g.stdout, "%d passed, %d failed\n", passed, failed)
	}
	switch {
	case failed > 0:
		return &exitError{exitRunFailed, errors.New("")}
	case passed == 0:
		return usageErrorf("there are no tests: write rules that begin with test_ in files that end in _test.rego")
	}
	return nil
}

func (g *globals) showTest(r policies.TestResult) {
	word := "FAIL"
	if r.Passed {
		word = "ok  "
	} else if r.Skip {
		word = "skip"
	}
	fmt.Fprintf(g.stdout, "%s  %s  %s:%d\n", word, clean(r.Name), clean(r.File), r.Line)
	if r.Error != "" {
		fmt.Fprintf(g.stdout, "      %s\n", clean(r.Error))
	}
	if r.Output != "" && !r.Passed {
		for line := range strings.Lines(strings.TrimRight(r.Output, "\n")) {
			fmt.Fprintf(g.stdout, "      print: %s\n", clean(line))
		}
	}
}
