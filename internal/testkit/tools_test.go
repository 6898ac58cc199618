package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindTool(t *testing.T) {
	root, onPath := t.TempDir(), t.TempDir()
	bin := filepath.Join(root, ".tools", "bin")
	for file, mode := range map[string]os.FileMode{
		filepath.Join(bin, "tofu"):         0o755,
		filepath.Join(bin, "tflint"):       0o644, // half written
		filepath.Join(onPath, "tofu"):      0o755,
		filepath.Join(onPath, "tflint"):    0o755,
		filepath.Join(onPath, "terraform"): 0o755,
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(onPath, "terraform"), filepath.Join(bin, "terraform")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"tofu":      filepath.Join(bin, "tofu"),
		"tflint":    filepath.Join(onPath, "tflint"),
		"terraform": filepath.Join(onPath, "terraform"),
	} {
		if got, err := findTool(root, onPath, name); err != nil || got != want {
			t.Errorf("findTool(%s) = %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := findTool(root, onPath, "checkov"); err == nil || !strings.Contains(err.Error(), "make tools") {
		t.Errorf("findTool of what is missing = %q, %v, want an error that names make tools", got, err)
	}
}

func TestProviderVersionIsThePinnedOne(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "tools", "provider-time", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/hashicorp/terraform-provider-time v" + ProviderTimeVersion + " "; !strings.Contains(string(mod), want) {
		t.Errorf("tools/provider-time/go.mod does not hold %q: ProviderTimeVersion and the pin must move together", want)
	}
}

// TestMirrorServesBothEngines installs the provider from the mirror alone.
func TestMirrorServesBothEngines(t *testing.T) {
	for _, engine := range []string{"tofu", "terraform"} {
		t.Run(engine, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{
				"main.tf": fmt.Sprintf("terraform {\n  required_providers {\n    time = { source = \"hashicorp/time\", version = %q }\n  }\n}\nresource \"time_static\" \"t\" {}\n", ProviderTimeVersion),
				"cli.rc":  fmt.Sprintf("provider_installation {\n  filesystem_mirror { path = %q }\n}\n", Mirror(t)),
			}
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(Tool(t, engine), "init", "-input=false", "-no-color")
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=" + filepath.Join(dir, "cli.rc")}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "hashicorp/time v"+ProviderTimeVersion) {
				t.Errorf("init from the mirror: %v\n%s", err, out)
			}
		})
	}
}
