package config

import "strings"

// Settings returns the gate's own settings by the names that the gates use:
// "config" for tflint; "external_checks_dir", "check" and "skip_check" (comma
// lists) for checkov. Unset ones are left out.
func (g GateConfig) Settings() map[string]string {
	out := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	if g.Name == "checkov" {
		set("external_checks_dir", g.Config)
	} else {
		set("config", g.Config)
	}
	set("check", strings.Join(g.Check, ","))
	set("skip_check", strings.Join(g.SkipCheck, ","))
	return out
}
