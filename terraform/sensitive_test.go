package terraform_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/terraform"
)

func TestSensitiveInputs(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.tf": `variable "plain" { default = "plain-default" }
variable "a" {
  sensitive = true
  default   = "a-default"
}
variable "b" { sensitive = true }
variable "c" { sensitive = true }
variable "no" { sensitive = false }
resource "x" "y" { broken = ` + "\n",
		"more.tf.json":          `{"variable": {"d": {"sensitive": true}}}`,
		"own.auto.tfvars":       "b = { username = \"b-user\", keys = [\"b-key-1\", 1234567] }\nplain = \"plain-value\"\n",
		"terraform.tfvars.json": `{"d": "d-value\nof two lines"}`,
		"given.tfvars":          "a = \"a-given\"\nno = \"no-value\"\n",
		"link.auto.tfvars":      "",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	got := terraform.SensitiveInputs(dir, []string{filepath.Join(dir, "given.tfvars"), filepath.Join(dir, "missing.tfvars")},
		map[string]any{"c": map[string]any{"deep": []any{"c-value", json.Number("7654321")}}, "plain": "p"},
		map[string]string{"TF_VAR_d": "d-from-env", "TF_VAR_plain": "x-plain"})
	for _, want := range []string{"a-default", "a-given", "b-user", "b-key-1", "1234567", "c-value", "7654321", "d-value\nof two lines", "d-from-env"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	for _, not := range []string{"plain-default", "plain-value", "no-value", "x-plain", "username"} {
		if slices.Contains(got, not) {
			t.Errorf("%q is no secret", not)
		}
	}
}

func TestSensitiveState(t *testing.T) {
	var state tfjson.State
	must(t, json.Unmarshal([]byte(`{"format_version":"1.0","terraform_version":"1.5.7","values":{
		"outputs":{"o":{"sensitive":true,"value":"output-value","type":"string"},"p":{"sensitive":false,"value":"public-value","type":"string"}},
		"root_module":{"child_modules":[{"resources":[{"address":"x.y","values":{"password":"deep-value","name":"a-name"},"sensitive_values":{"password":true}}]}]}}}`), &state))
	got := terraform.SensitiveState(&state)
	if want := []string{"deep-value", "output-value"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if terraform.Sensitive(nil) != nil || terraform.SensitiveState(nil) != nil {
		t.Error("nothing has secrets")
	}
}
