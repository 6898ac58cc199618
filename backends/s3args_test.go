package backends_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/release"
)

var (
	terraform15 = release.EngineSpec{Kind: "terraform", Version: "1.5.7"}
	terraform16 = release.EngineSpec{Kind: "terraform", Version: "1.6.0-rc1"}
	terraform11 = release.EngineSpec{Kind: "terraform", Version: "1.11.4"}
	tofu        = release.EngineSpec{Kind: "tofu", Version: "1.12.6"}
)

// argumentsOf gives what Prepare passes to the engine beyond bucket and key.
func argumentsOf(t *testing.T, e release.EngineSpec, block string, values map[string]string) (map[string]string, error) {
	t.Helper()
	all := map[string]string{"bucket": "b", "key": "k"}
	maps.Copy(all, values)
	given := maps.Clone(all)
	args, err := backends.Prepare(write(t, map[string]string{"main.tf": s3Block(block)}), e, release.BackendSpec{Type: "s3", Values: all})
	if !maps.Equal(all, given) {
		t.Errorf("the specification was changed to %v", all)
	}
	out := map[string]string{}
	for _, a := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(a, "-backend-config="), "=")
		out[name] = value
	}
	delete(out, "bucket")
	delete(out, "key")
	return out, err
}

func TestArgumentsAreSpelledAsTheEngineDoes(t *testing.T) {
	type values = map[string]string
	oldEnds := values{"endpoint": "http://s3", "dynamodb_endpoint": "http://ddb", "force_path_style": "true"}
	newEnds := values{"endpoints": `{"dynamodb":"http://ddb","s3":"http://s3"}`, "use_path_style": "true"}
	oldRole := values{"role_arn": "arn", "external_id": "x", "assume_role_duration_seconds": "5400", "assume_role_tags": `{"a":"b"}`,
		"assume_role_transitive_tag_keys": `["a"]`, "assume_role_policy": "{}"}
	newRole := values{"assume_role": `{"duration":"1h30m","external_id":"x","policy":"{}","role_arn":"arn","tags":{"a":"b"},"transitive_tag_keys":["a"]}`}
	newFromOld := values{"assume_role": `{"duration":"5400s","external_id":"x","policy":"{}","role_arn":"arn","tags":{"a":"b"},"transitive_tag_keys":["a"]}`}
	for name, c := range map[string]struct {
		engine release.EngineSpec
		block  string
		given  values
		want   values
	}{
		"old to old":                  {terraform15, "", oldEnds, oldEnds},
		"new to old":                  {terraform15, "", newEnds, oldEnds},
		"old to new, OpenTofu":        {tofu, "", oldEnds, newEnds},
		"old to new, Terraform":       {terraform11, "", oldEnds, newEnds},
		"a candidate of 1.6 is new":   {terraform16, "", oldEnds, newEnds},
		"an unknown version is new":   {release.EngineSpec{Kind: "terraform"}, "", oldEnds, newEnds},
		"both spellings that agree":   {tofu, "", values{"endpoint": "http://s3", "endpoints": `{"s3":"http://s3","iam":null}`}, values{"endpoints": `{"s3":"http://s3"}`}},
		"a role, old to old":          {terraform15, "", oldRole, oldRole},
		"a role, new to old":          {terraform15, "", newRole, oldRole},
		"a role, old to new":          {tofu, "", oldRole, newFromOld},
		"a role, new to new":          {tofu, "", newRole, newRole},
		"a lockfile":                  {terraform11, "", values{"use_lockfile": "true"}, values{"use_lockfile": "true"}},
		"no lockfile":                 {terraform15, "", values{"use_lockfile": "false"}, values{}},
		"what 1.5 does not do anyway": {terraform15, "", values{"skip_s3_checksum": "true", "skip_requesting_account_id": "true"}, values{}},
		"one credentials file":        {terraform15, "", values{"shared_credentials_files": `["/a"]`}, values{"shared_credentials_file": "/a"}},
		"no template in a map":        {tofu, "", values{"endpoints": `{"s3":"http://${x}%{y}"}`}, values{"endpoints": `{"s3":"http://$${x}%%{y}"}`}},
		"a string is literal":         {terraform15, "", values{"assume_role_policy": `{"${x}":1}`}, values{"assume_role_policy": `{"${x}":1}`}},
		"the code's own spelling":     {tofu, "\nforce_path_style = true\n", values{"use_path_style": "true"}, values{}},
		"and the same one":            {tofu, "\nuse_path_style = true\n", values{"use_path_style": "true"}, values{"use_path_style": "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := argumentsOf(t, c.engine, c.block, c.given)
			if err != nil || !maps.Equal(got, c.want) {
				t.Errorf("got %v, %v\nwant %v", got, err, c.want)
			}
		})
	}
}

func TestArgumentsThatAnEngineCannotTakeAreInvalid(t *testing.T) {
	type values = map[string]string
	for name, c := range map[string]struct {
		engine release.EngineSpec
		given  values
		says   string
	}{
		"a lockfile in Terraform 1.5":   {terraform15, values{"use_lockfile": "true"}, "use_lockfile needs OpenTofu 1.10 or Terraform 1.10, and this is Terraform 1.5.7: set dynamodb_table instead"},
		"a lockfile in Terraform 1.9":   {release.EngineSpec{Kind: "terraform", Version: "1.9.8"}, values{"use_lockfile": "true"}, "this is Terraform 1.9.8"},
		"a lockfile in OpenTofu 1.9":    {release.EngineSpec{Kind: "tofu", Version: "1.9.1"}, values{"use_lockfile": "true"}, "this is OpenTofu 1.9.1"},
		"an argument since 1.6":         {terraform15, values{"retry_mode": "adaptive"}, "Terraform 1.5.7 does not know retry_mode"},
		"an endpoint since 1.6":         {terraform15, values{"endpoints": `{"sso":"x"}`}, "Terraform 1.5.7 has no endpoint for sso"},
		"two credentials files in 1.5":  {terraform15, values{"shared_credentials_files": `["a","b"]`}, "takes one shared_credentials_file"},
		"a source identity in 1.5":      {terraform15, values{"assume_role": `{"role_arn":"x","source_identity":"y"}`}, "knows no source_identity of a role"},
		"a duration that is none":       {terraform15, values{"assume_role": `{"role_arn":"x","duration":"long"}`}, "assume_role.duration is no duration"},
		"an old duration that is none":  {tofu, values{"role_arn": "x", "assume_role_duration_seconds": "1h"}, "assume_role_duration_seconds is no number"},
		"two addresses":                 {tofu, values{"endpoint": "a", "endpoints": `{"s3":"b"}`}, "endpoint and endpoints.s3 are two names of one argument and differ"},
		"two path styles":               {tofu, values{"use_path_style": "true", "force_path_style": "false"}, "are two names of one argument and differ"},
		"a role twice":                  {tofu, values{"assume_role": `{"role_arn":"x"}`, "external_id": "y"}, "assume_role and external_id cannot be together"},
		"endpoints that are no map":     {tofu, values{"endpoints": "http://x"}, "endpoints is no map"},
		"a role that is no map":         {tofu, values{"assume_role": "arn"}, "assume_role is no map"},
		"tags that are no map":          {tofu, values{"role_arn": "x", "assume_role_tags": "a=b"}, "assume_role_tags is neither a list nor a map"},
		"an engine's version not known": {release.EngineSpec{Kind: "tofu", Version: "latest"}, nil, `version "latest"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := argumentsOf(t, c.engine, "", c.given)
			if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ErrInvalid with %q", err, c.says)
			}
		})
	}
	_, err := argumentsOf(t, tofu, "\nforce_path_style = false\n", values{"use_path_style": "true"})
	if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "force_path_style") {
		t.Errorf("the code says another path style: got %v, want ErrRefused", err)
	}
}

// A block that one engine alone reads is repeated in the override with the
// spelling that it has, so that no engine gets both.
func TestAnOverrideKeepsTheCodesSpelling(t *testing.T) {
	spec := release.BackendSpec{Type: "s3", Values: map[string]string{"bucket": "b", "key": "k", "use_path_style": "true"}}
	dir := write(t, map[string]string{"main.tofu": s3Block("\nforce_path_style = true\n")})
	args, err := backends.Prepare(dir, tofu, spec)
	must(t, err)
	doc, err := os.ReadFile(filepath.Join(dir, overrideName))
	must(t, err)
	if !strings.Contains(string(doc), `"force_path_style": "true"`) || slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "path_style") }) {
		t.Errorf("args %q, override %s", args, doc)
	}
}
