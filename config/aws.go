package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// checkEndpoint judges the URL of a service. It must not hold a password.
func checkEndpoint(s string) (summary, detail string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "is no URL", "write https://host, and the port where it is not the usual one"
	case u.User != nil:
		return "holds a user name or password", "take it out: everybody who may read a run's environment would see it"
	case u.RawQuery != "" || u.Fragment != "":
		return "has more than an address", "leave out what follows the question mark or the hash"
	}
	return "", ""
}

// externalIDForm is what STS takes as an external id.
var externalIDForm = regexp.MustCompile(`^[\w+=,.@:/-]+$`)

func checkExternalID(s string) (summary, detail string) {
	if s == "" || len(s) >= 2 && len(s) <= 1224 && externalIDForm.MatchString(s) {
		return "", ""
	}
	return "is no external id", "write 2 to 1224 letters, digits and +=,.@:/-_"
}

// identityArguments are those of backend "s3" that say who reaches the state.
var identityArguments = []string{"access_key", "secret_key", "token", "profile", "role_arn", "assume_role",
	"assume_role_with_web_identity", "external_id", "session_name", "shared_credentials_file",
	"shared_credentials_files", "shared_config_files"}

// checkAWS finds what would go around a run's own session, and fills in what
// addresses tell.
func (d *decoder) checkAWS(cfg *Config) {
	d.checkCodeCommit(cfg)
	d.checkTriggers(cfg)
	c := cfg.Credentials
	if c.RunRole.IsZero() {
		for _, name := range []string{"plan_role", "apply_role", "external_id"} {
			if d.has("credentials", name) && !d.broken["credentials.run_role"] {
				d.report(d.at("credentials", name), "credentials."+name+" does nothing without run_role",
					`write run_role = "arn:aws:iam::111122223333:role/WaymarkRun": that session assumes the others`)
				break
			}
		}
		return
	}
	for _, name := range identityArguments {
		if cfg.Backend.Type == "s3" && d.has("backend", "s3", name) {
			d.report(d.at("backend", "s3", name), fmt.Sprintf("backend %q cannot set %s beside credentials.run_role", "s3", name),
				"the state is reached with the run's own session; take it out")
		}
	}
	for _, name := range sortedKeys(cfg.Engine.Env) {
		if slices.ContainsFunc(awsVariables, func(p string) bool { return strings.HasPrefix(name, p) }) {
			d.report(d.at("engine", "env"), fmt.Sprintf("engine.env cannot set %s beside credentials.run_role", name),
				"the run's own session decides it; take it out")
		}
	}
}

// codeCommitHost is where AWS serves CodeCommit repositories.
var codeCommitHost = regexp.MustCompile(`^git-codecommit(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// checkCodeCommit recognises CodeCommit repositories by their address.
func (d *decoder) checkCodeCommit(cfg *Config) {
	for i := range cfg.Repositories {
		r := &cfg.Repositories[i]
		way := transport(r.URL)
		if !d.has("repository", r.Name, "codecommit") {
			u, err := url.Parse(r.URL)
			if err == nil && way == "https" && r.Username == "" && !r.Password.IsSet() {
				if m := codeCommitHost.FindStringSubmatch(u.Hostname()); m != nil {
					r.CodeCommit = m[1]
				}
			}
			continue
		}
		at := d.at("repository", r.Name, "codecommit")
		switch {
		case way != "" && way != "https" && way != "http":
			d.report(at, "codecommit does nothing for this repository", "its url is reached by "+way+"; write the https:// one")
		case d.has("repository", r.Name, "username") || d.has("repository", r.Name, "password"):
			d.report(at, "codecommit makes user name and password by itself", "take out username and password, or codecommit")
		}
	}
}

// CodeCommitName is the repository's name in CodeCommit, which its events carry;
// empty for a repository that is not there.
func (r Repository) CodeCommitName() string {
	u, err := url.Parse(r.URL)
	if r.CodeCommit == "" || err != nil {
		return ""
	}
	return path.Base(u.Path)
}

// sqsHost is where AWS serves queues.
var sqsHost = regexp.MustCompile(`^(?:sqs|queue)\.([a-z0-9-]+)\.(?:api\.aws|amazonaws\.com(?:\.cn)?)$`)

// checkTriggers finds each queue's Region, and queues that nothing can be for.
func (d *decoder) checkTriggers(cfg *Config) {
	for i := range cfg.Triggers {
		t := &cfg.Triggers[i]
		at := d.at("trigger", t.Kind)
		if u, err := url.Parse(t.QueueURL); err == nil && t.Region == "" {
			if m := sqsHost.FindStringSubmatch(u.Hostname()); m != nil {
				t.Region = m[1]
			}
		}
		if t.Region == "" {
			t.Region = cfg.AWS.Region
		}
		if t.Region == "" && !d.broken["trigger."+t.Kind+".queue_url"] && !d.broken["trigger."+t.Kind+".region"] {
			d.report(at, "the queue's Region is not known", `write region = "us-east-1"`)
			continue
		}
		if !slices.ContainsFunc(cfg.Repositories, func(r Repository) bool { return r.CodeCommit != "" }) {
			d.report(at, "trigger \"sqs\" is for CodeCommit, and no repository is there",
				`write the repository's https:// URL, or codecommit = "us-east-1" in its block`)
		}
	}
}

// reach fills in how backend "s3" is reached, where the aws block says it and
// the backend block does not.
func (c *Config) reach(spec release.BackendSpec) error {
	if spec.Type != "s3" {
		return nil
	}
	v := spec.Values
	if v["region"] == "" && c.AWS.Region != "" {
		v["region"] = c.AWS.Region
	}
	for name := range v {
		if name == "endpoints" || name == "endpoint" || strings.HasSuffix(name, "_endpoint") {
			return nil
		}
	}
	own := map[string]string{}
	for _, service := range []string{"s3", "dynamodb", "sts"} {
		if at := c.AWS.Endpoints[service]; at != "" {
			own[service] = at
		}
	}
	if len(own) == 0 {
		return nil
	}
	text, err := json.Marshal(own)
	if err != nil {
		return fmt.Errorf("writing the endpoints: %w", err)
	}
	v["endpoints"] = string(text)
	if v["use_path_style"] == "" && v["force_path_style"] == "" && c.AWS.PathStyle() {
		v["use_path_style"] = "true"
	}
	return nil
}

// PathStyle reports whether buckets are named in the path of a URL and not in
// its host: at an S3 address that is not AWS's own.
func (a AWS) PathStyle() bool {
	u, err := url.Parse(a.Endpoints["s3"])
	return err == nil && u.Host != "" && !strings.HasSuffix(u.Hostname(), ".amazonaws.com") && !strings.HasSuffix(u.Hostname(), ".amazonaws.com.cn")
}
