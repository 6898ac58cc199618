package policies

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
)

// AccountUse is an AWS account that a plan names as a resource's, a caller's or
// a provider's own. What a resource merely refers to is none.
type AccountUse struct {
	Address string `json:"address"` // of the resource or data source; "provider.<key>" for a provider
	// By is what names the account: the attribute of a resource (arn, id,
	// account_id or owner_id), or the argument of a provider.
	By      string `json:"by"`
	Account string `json:"account"` // 12 digits; "(sensitive)" where the value is
	// Identity says that this is who the plan was made as, not a resource.
	Identity bool `json:"identity"`
	// Sensitive says that the code marks the value as such.
	Sensitive bool `json:"sensitive"`
}

// Program is a part of a plan's code that starts a program.
type Program struct {
	Address string `json:"address"` // without the keys of count and for_each
	Kind    string `json:"kind"`    // data, or provisioner
	Type    string `json:"type"`    // external, local-exec, remote-exec, ...
}

var (
	arnForm     = regexp.MustCompile(`^arn:aws[a-z0-9-]*:[^:]*:[^:]*:([0-9]{12}):`)
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
)

// accountIn is the account that a string names: an ARN's, or the whole string.
func accountIn(v any) string {
	s, ok := v.(string)
	switch n := v.(type) {
	case float64: // configuration is decoded without json.Number
		s, ok = strconv.FormatFloat(n, 'f', -1, 64), true
	case json.Number:
		s, ok = n.String(), true
	}
	if !ok {
		return ""
	}
	if m := arnForm.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	if accountForm.MatchString(s) {
		return s
	}
	return ""
}

// accounts lists what the plan names as its own.
func (b planBuilder) accounts() []AccountUse {
	out := []AccountUse{}
	add := func(use AccountUse) {
		if use.Account == "" {
			return
		}
		use.Address = b.masker.text(use.Address)
		if bool(b.all) && (use.Sensitive || b.masker.text(use.Account) != use.Account) {
			use.Account = sensitive
		}
		if !slices.Contains(out[max(0, len(out)-8):], use) { // both sides of a resource say the same
			out = append(out, use)
		}
	}
	for _, change := range b.plan.ResourceChanges {
		if change == nil || change.Change == nil || change.Mode == tfjson.DataResourceMode || change.Change.Actions.Forget() {
			continue
		}
		ownAccounts(change, add)
	}
	if s := b.plan.PriorState; s != nil && s.Values != nil {
		callers(s.Values.RootModule, add)
	}
	if v := b.plan.PlannedValues; v != nil {
		callers(v.RootModule, add)
	}
	b.providerAccounts(add)
	return out
}

// ownAccounts finds the account of a resource in what it says of itself.
func ownAccounts(change *tfjson.ResourceChange, add func(AccountUse)) {
	for _, side := range []struct{ value, marks any }{
		{change.Change.Before, change.Change.BeforeSensitive}, {change.Change.After, change.Change.AfterSensitive},
	} {
		object, ok := side.value.(map[string]any)
		if !ok {
			continue
		}
		for _, name := range []string{"account_id", "arn", "id", "owner_id"} {
			account := accountIn(object[name])
			if text, _ := object[name].(string); name == "id" && !strings.HasPrefix(text, "arn:") {
				continue // 12 digits may be any id
			}
			add(AccountUse{Address: change.Address, By: name, Account: account, Sensitive: anyMarked(field(side.marks, name))})
		}
	}
}

// callers finds who the plan was made as, where the code asked.
func callers(module *tfjson.StateModule, add func(AccountUse)) {
	if module == nil {
		return
	}
	for _, r := range module.Resources {
		if r != nil && r.Mode == tfjson.DataResourceMode && r.Type == "aws_caller_identity" {
			add(AccountUse{Address: r.Address, By: "account_id", Account: accountIn(r.AttributeValues["account_id"]), Identity: true})
		}
	}
	for _, child := range module.ChildModules {
		callers(child, add)
	}
}

// providerAccounts finds the accounts that providers are configured for, as far
// as that is written out or comes from the root module's variables.
func (b planBuilder) providerAccounts(add func(AccountUse)) {
	if b.plan.Config == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(b.plan.Config.ProviderConfigs)) {
		provider := b.plan.Config.ProviderConfigs[key]
		if provider == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(provider.Expressions)) {
			if name != "allowed_account_ids" && !strings.HasPrefix(name, "assume_role") {
				continue
			}
			b.constants(provider.Expressions[name], provider.ModuleAddress == "", func(v any, secret bool) {
				add(AccountUse{Address: "provider." + key, By: name, Account: accountIn(v), Identity: true, Sensitive: secret})
			})
		}
	}
}

// constants gives every value in an expression that is known without an
// evaluation. Of variables only those of the root module are.
func (b planBuilder) constants(e *tfjson.Expression, root bool, each func(v any, secret bool)) {
	if e == nil || e.ExpressionData == nil {
		return
	}
	for _, block := range e.NestedBlocks {
		for _, name := range slices.Sorted(maps.Keys(block)) {
			if name != "external_id" && name != "policy" && name != "policy_arns" {
				b.constants(block[name], root, each)
			}
		}
	}
	leaves(e.ConstantValue, func(v any) { each(v, false) })
	if !root {
		return
	}
	for _, reference := range e.References {
		name, ok := strings.CutPrefix(reference, "var.")
		if v := b.plan.Variables[name]; ok && v != nil {
			leaves(v.Value, func(v any) { each(v, b.secretVariable(name)) })
		}
	}
}

func (b planBuilder) secretVariable(name string) bool {
	root := b.plan.Config.RootModule
	return root != nil && root.Variables[name] != nil && root.Variables[name].Sensitive
}

// leaves gives every value of lists and maps that is neither.
func leaves(v any, each func(any)) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			leaves(one, each)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			leaves(v[name], each)
		}
	default:
		each(v)
	}
}

// planPrograms lists what the configuration in a plan starts.
func planPrograms(plan *tfjson.Plan) []Program {
	out := []Program{}
	if plan.Config != nil {
		addPrograms("", plan.Config.RootModule, &out)
	}
	return out
}

func addPrograms(at string, module *tfjson.ConfigModule, out *[]Program) {
	if module == nil {
		return
	}
	for _, r := range module.Resources {
		if r == nil {
			continue
		}
		if r.Mode == tfjson.DataResourceMode && startsProgram(r.Type) {
			*out = append(*out, Program{Address: at + r.Address, Kind: "data", Type: r.Type})
		}
		for _, p := range r.Provisioners {
			if p != nil {
				*out = append(*out, Program{Address: at + r.Address, Kind: "provisioner", Type: p.Type})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(module.ModuleCalls)) {
		if call := module.ModuleCalls[name]; call != nil {
			addPrograms(fmt.Sprintf("%smodule.%s.", at, name), call.Module, out)
		}
	}
}

// startsProgram reports whether a data source of this type runs a program.
func startsProgram(kind string) bool { return kind == "external" || kind == "local_command" }
