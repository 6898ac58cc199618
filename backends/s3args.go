package backends

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	goversion "github.com/hashicorp/go-version"

	"github.com/waymark-cd/waymark/release"
)

// s3Type is the backend for S3 and what speaks its protocol.
const s3Type = "s3"

// oldEndpoints are the arguments of Terraform before 1.6 that `endpoints` holds
// since, by service.
var oldEndpoints = map[string]string{"s3": "endpoint", "dynamodb": "dynamodb_endpoint", "sts": "sts_endpoint", "iam": "iam_endpoint"}

// oldRole are the arguments of Terraform before 1.6 that `assume_role` holds
// since, by their names in there.
var oldRole = map[string]string{"role_arn": "role_arn", "duration": "assume_role_duration_seconds", "external_id": "external_id",
	"policy": "assume_role_policy", "policy_arns": "assume_role_policy_arns", "session_name": "session_name",
	"tags": "assume_role_tags", "transitive_tag_keys": "assume_role_transitive_tag_keys"}

// structured are the arguments that an engine evaluates instead of taking them
// literally.
var structured = []string{"allowed_account_ids", "assume_role", "assume_role_policy_arns", "assume_role_tags",
	"assume_role_transitive_tag_keys", "assume_role_with_web_identity", "endpoints", "forbidden_account_ids", "lock_tags",
	"shared_config_files", "shared_credentials_files", "state_tags"}

// since16 are arguments that Terraform before 1.6 does not have.
var since16 = []string{"allowed_account_ids", "assume_role_with_web_identity", "custom_ca_bundle", "ec2_metadata_service_endpoint",
	"ec2_metadata_service_endpoint_mode", "forbidden_account_ids", "http_proxy", "https_proxy", "insecure", "lock_tags", "no_proxy",
	"retry_mode", "shared_config_files", "state_tags", "sts_region", "use_dualstack_endpoint", "use_fips_endpoint"}

// needless are arguments that leave out something which Terraform before 1.6
// does not do in the first place.
var needless = []string{"skip_requesting_account_id", "skip_s3_checksum"}

// dialect is what an engine of a version understands of backend "s3".
type dialect struct {
	name     string // for people: "Terraform 1.5.7"
	old      bool   // Terraform before 1.6
	lockfile bool   // it can lock by an object in the bucket
}

// dialectOf tells what an engine understands. One whose version is not known is
// taken for the newest. Errors wrap release.ErrInvalid.
func dialectOf(e release.EngineSpec) (dialect, error) {
	d := dialect{name: "OpenTofu", lockfile: true}
	if e.Kind == "terraform" {
		d.name = "Terraform"
	}
	if e.Version == "" {
		return d, nil
	}
	v, err := goversion.NewVersion(e.Version)
	if err != nil {
		return d, fmt.Errorf("%w engine: version %q: %w", release.ErrInvalid, e.Version, err)
	}
	d.name += " " + e.Version
	before := func(s string) bool { return v.Core().LessThan(goversion.Must(goversion.NewVersion(s))) }
	d.old = e.Kind == "terraform" && before("1.6")
	d.lockfile = !before("1.10")
	return d, nil
}

// argumentsFor writes a backend's values as engine takes them on its command
// line. Only backend "s3" has more than one spelling: values may use that of
// any engine.
func argumentsFor(engine release.EngineSpec, spec release.BackendSpec) (map[string]string, error) {
	out := maps.Clone(spec.Values)
	if spec.Type != s3Type {
		return out, nil
	}
	d, err := dialectOf(engine)
	if err != nil {
		return nil, err
	}
	for _, write := range []func(dialect, map[string]string) error{writeLockfile, writePathStyle, writeEndpoints, writeRole, writeFiles} {
		if err := write(d, out); err != nil {
			return nil, fmt.Errorf("%w backend %q: %w", release.ErrInvalid, s3Type, err)
		}
	}
	if d.old {
		for name := range out {
			if slices.Contains(since16, name) {
				return nil, fmt.Errorf("%w backend %q: %s does not know %s: take it out, or use Terraform 1.6, OpenTofu or newer",
					release.ErrInvalid, s3Type, d.name, name)
			}
		}
		for _, name := range needless {
			delete(out, name)
		}
	}
	for _, name := range structured {
		if text, ok := out[name]; ok { // JSON is HCL but for templates
			out[name] = strings.NewReplacer("${", "$${", "%{", "%%{").Replace(text)
		}
	}
	return out, nil
}

func writeLockfile(d dialect, v map[string]string) error {
	if d.lockfile || v["use_lockfile"] == "" {
		return nil
	}
	if v["use_lockfile"] != "false" {
		return fmt.Errorf("use_lockfile needs OpenTofu 1.10 or Terraform 1.10, and this is %s: set dynamodb_table instead, or use a newer engine", d.name)
	}
	delete(v, "use_lockfile")
	return nil
}

// pathStyle are the old and the new name of one argument.
var pathStyle = [2]string{"force_path_style", "use_path_style"}

func writePathStyle(d dialect, v map[string]string) error {
	text, err := either(v, pathStyle[0], pathStyle[1])
	if err != nil || text == "" {
		return err
	}
	delete(v, pathStyle[0])
	delete(v, pathStyle[1])
	if d.old {
		v[pathStyle[0]] = text
	} else {
		v[pathStyle[1]] = text
	}
	return nil
}

// either returns the value that an argument has under one of its names.
func either(v map[string]string, names ...string) (text string, err error) {
	for _, name := range names {
		switch {
		case v[name] == "" || v[name] == text:
		case text != "":
			return "", fmt.Errorf("%s are two names of one argument and differ: keep the last", strings.Join(names, " and "))
		default:
			text = v[name]
		}
	}
	return text, nil
}

// endpointsOf gathers the addresses of services under both spellings.
func endpointsOf(v map[string]string) (map[string]string, error) {
	out := map[string]string{}
	if text := v["endpoints"]; text != "" {
		var given map[string]*string
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			return nil, fmt.Errorf("endpoints is no map of services to addresses: write { s3 = \"https://...\" }")
		}
		for service, at := range given {
			if at != nil && *at != "" {
				out[service] = *at
			}
		}
	}
	for service, name := range oldEndpoints {
		at, err := either(map[string]string{name: v[name], "endpoints." + service: out[service]}, name, "endpoints."+service)
		if err != nil {
			return nil, err
		}
		if at != "" {
			out[service] = at
		}
	}
	return out, nil
}

func writeEndpoints(d dialect, v map[string]string) error {
	all, err := endpointsOf(v)
	if err != nil {
		return err
	}
	delete(v, "endpoints")
	for _, name := range oldEndpoints {
		delete(v, name)
	}
	if len(all) == 0 {
		return nil
	}
	if !d.old {
		text, err := json.Marshal(all)
		v["endpoints"] = string(text)
		return err
	}
	for service, at := range all {
		name, ok := oldEndpoints[service]
		if !ok {
			return fmt.Errorf("%s has no endpoint for %s: take it out of endpoints", d.name, service)
		}
		v[name] = at
	}
	return nil
}

// roleOf gathers the role that the backend itself assumes, under both
// spellings, by the names of `assume_role`; nil where there is none.
func roleOf(v map[string]string) (map[string]any, error) {
	role := map[string]any{}
	if text := v["assume_role"]; text != "" {
		if err := json.Unmarshal([]byte(text), &role); err != nil {
			return nil, fmt.Errorf("assume_role is no map: write { role_arn = \"arn:aws:iam::...\" }")
		}
		maps.DeleteFunc(role, func(_ string, value any) bool { return value == nil })
	}
	if len(role) > 0 {
		for _, name := range oldRole {
			if v[name] != "" {
				return nil, fmt.Errorf("assume_role and %s cannot be together: move it into assume_role", name)
			}
		}
		return role, nil
	}
	for name, old := range oldRole {
		text := v[old]
		if text == "" {
			continue
		}
		role[name] = text
		switch name {
		case "policy_arns", "tags", "transitive_tag_keys":
			var value any
			if err := json.Unmarshal([]byte(text), &value); err != nil {
				return nil, fmt.Errorf("%s is neither a list nor a map", old)
			}
			role[name] = value
		case "duration":
			if _, err := strconv.Atoi(text); err != nil {
				return nil, fmt.Errorf("%s is no number of seconds", old)
			}
			role[name] = text + "s"
		}
	}
	if len(role) == 0 {
		return nil, nil
	}
	return role, nil
}

func writeRole(d dialect, v map[string]string) error {
	role, err := roleOf(v)
	if err != nil || role == nil {
		return err
	}
	delete(v, "assume_role")
	for _, old := range oldRole {
		delete(v, old)
	}
	if !d.old {
		text, err := json.Marshal(role)
		v["assume_role"] = string(text)
		return err
	}
	for name, value := range role {
		old, ok := oldRole[name]
		if !ok {
			return fmt.Errorf("%s knows no %s of a role: take it out of assume_role", d.name, name)
		}
		text, isText := value.(string)
		switch {
		case name == "duration":
			length, err := time.ParseDuration(text)
			if err != nil {
				return fmt.Errorf("assume_role.duration is no duration: write \"1h\"")
			}
			text = strconv.Itoa(int(length.Seconds()))
		case !isText:
			doc, err := json.Marshal(value)
			if err != nil {
				return err
			}
			text = string(doc)
		}
		v[old] = text
	}
	return nil
}

// writeFiles spells the one argument for files that has an old name.
func writeFiles(d dialect, v map[string]string) error {
	const one, many = "shared_credentials_file", "shared_credentials_files"
	text := v[many]
	if !d.old || text == "" {
		return nil
	}
	var files []string
	if err := json.Unmarshal([]byte(text), &files); err != nil || len(files) != 1 || v[one] != "" && v[one] != files[0] {
		return fmt.Errorf("%s takes one %s: name one file", d.name, one)
	}
	v[one] = files[0]
	delete(v, many)
	return nil
}
