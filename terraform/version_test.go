package terraform_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/terraform"
)

// script is a program that poses as an engine.
func script(t *testing.T, text string) func(*terraform.Config) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700))
	return func(cfg *terraform.Config) { cfg.Path = path }
}

func TestVersion(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{"main.tf": ""}, nil)
		version, err := b.Version(t.Context())
		if err != nil || !strings.HasPrefix(version, "1.") || version != strings.TrimSpace(version) {
			t.Errorf("version %q, %v", version, err)
		}
	})
}

func TestAProgramThatIsNoEngineIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"true":               "is %s really tofu?",
		"echo '{}'":          "is %s really tofu?",
		"echo oh >&2;exit 7": "version: exit status 7: oh",
	} {
		b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, script(t, text))
		version, err := b.Version(t.Context())
		var failure *terraform.Error
		if version != "" || !errors.As(err, &failure) {
			t.Fatalf("%s: version %q, %v", text, version, err)
		}
		contains(t, err.Error(), strings.Replace(want, "%s", b.cfg.Path, 1))
	}
}

// The environment is the configured one, not the service's, in both ways of
// starting a process.
func TestNothingIsInherited(t *testing.T) {
	t.Setenv("WAYMARK_TEST_SECRET", secret)
	t.Setenv("TF_LOG", "trace")
	t.Setenv("TF_WORKSPACE", "prod")
	b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, func(cfg *terraform.Config) {
		script(t, "env >&2\nexit 1\n")(cfg)
		cfg.Env["TF_VAR_region"] = "r"
		cfg.Env["AWS_PROFILE"] = "p"
	})
	for name, start := range map[string]func() error{
		"version": func() error { _, err := b.Version(t.Context()); return err },
		"show":    func() error { _, err := b.Show(t.Context(), b.plan); return err },
	} {
		b.log.Reset()
		if start() == nil {
			t.Fatalf("%s passed", name)
		}
		text := "\n" + b.text()
		contains(t, text, "\nAWS_PROFILE=p\n", "\nTF_IN_AUTOMATION=1\n", "\nCHECKPOINT_DISABLE=1\n", "\nTF_CLI_CONFIG_FILE="+b.cfg.ScratchDir)
		for _, leak := range []string{secret, "trace", "prod"} {
			if strings.Contains(text, leak) {
				t.Errorf("%s: %q of the service's own environment is in\n%s", name, leak, text)
			}
		}
		if set := strings.Contains(text, "\nTF_VAR_region=r\n"); set != (name == "show") {
			t.Errorf("%s: TF_VAR_region is set: %v", name, set)
		}
	}
}

func TestAQuestionIsBoundedInLengthAndTime(t *testing.T) {
	b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, script(t, "exec yes"))
	if _, err := b.Version(t.Context()); err == nil || err.Error() != "version: its answer is longer than 16 MiB" {
		t.Errorf("got %v", err)
	}

	// Deaf to the interrupt, and with a child that holds the output open.
	b = newBench(t, terraform.Tofu, map[string]string{"x": ""}, func(cfg *terraform.Config) {
		script(t, "trap '' INT\nsleep 60 &\necho $! >&2\nwait\n")(cfg)
		cfg.StopTimeout = 10 * time.Millisecond
	})
	why := errors.New("somebody pressed cancel")
	ctx, cancel := context.WithCancelCause(t.Context())
	var left int
	b.see = func(line string) {
		left, _ = strconv.Atoi(line)
		cancel(why)
	}
	start := time.Now()
	err := b.Validate(ctx)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("got %v, want the cancellation and its cause", err)
	}
	contains(t, err.Error(), "validate: stopped: ", "signal: killed")
	if time.Since(start) > 30*time.Second {
		t.Error("it waited for the process left behind")
	}
	must(t, syscall.Kill(left, syscall.SIGKILL))
	if err := b.Validate(ctx); !errors.Is(err, why) {
		t.Errorf("a cancelled context: %v", err)
	}
}
