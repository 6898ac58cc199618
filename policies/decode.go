package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// module collects the facts of one module's files.
type module struct {
	*reader
	dir   string
	depth int
	// declared maps the module's own names of providers to their addresses.
	declared map[string]string
	// The module's own entries of input, whose providers resolve fills in.
	providers []ProviderBlock
	resources []Resource
}

// block makes the schema of a block with these labels.
func block(name string, labels ...string) hcl.BlockHeaderSchema {
	return hcl.BlockHeaderSchema{Type: name, LabelNames: labels}
}

func schema(attributes []string, blocks ...hcl.BlockHeaderSchema) *hcl.BodySchema {
	s := &hcl.BodySchema{Blocks: blocks}
	for _, name := range attributes {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: name})
	}
	return s
}

// content reads the named parts of a body and reports errors in them.
func (m *module) content(body hcl.Body, attributes []string, blocks ...hcl.BlockHeaderSchema) *hcl.BodyContent {
	c, _, diags := body.PartialContent(schema(attributes, blocks...))
	m.report(diags)
	return c
}

// decode takes the facts out of one file.
func (m *module) decode(file string, body hcl.Body) {
	c := m.content(body, nil,
		block("terraform"), block("provider", "name"), block("module", "name"),
		block("resource", "type", "name"), block("data", "type", "name"), block("ephemeral", "type", "name"),
		block("action", "type", "name"), block("check", "name"), block("import"), block("removed"))
	for _, b := range c.Blocks {
		switch b.Type {
		case "terraform":
			m.decodeTerraform(b.Body)
		case "provider":
			attributes := m.content(b.Body, []string{"alias"}).Attributes
			m.providers = append(m.providers, ProviderBlock{Location: m.at(b.DefRange),
				Provider: b.Labels[0], Alias: text(attributes["alias"])})
		case "module":
			m.decodeCall(b)
		case "check":
			for _, data := range m.content(b.Body, nil, block("data", "type", "name")).Blocks {
				m.decodeResource(data)
			}
		default:
			m.decodeResource(b)
		}
	}
}

// at is the place of something in the module.
func (m *module) at(r hcl.Range) Location {
	return Location{Module: m.dir, File: r.Filename, Line: r.Start.Line}
}

// decodeTerraform reads a terraform block.
func (m *module) decodeTerraform(body hcl.Body) {
	c := m.content(body, []string{"required_version"}, block("required_providers"), block("backend", "type"),
		block("cloud"), block("provider_meta", "provider"), block("encryption"))
	if a := c.Attributes["required_version"]; a != nil {
		m.input.RequiredVersions = append(m.input.RequiredVersions,
			RequiredVersion{Location: m.at(a.NameRange), Constraint: text(a)})
	}
	for _, b := range c.Blocks {
		switch b.Type {
		case "required_providers":
			m.decodeRequiredProviders(b.Body)
		case "backend":
			m.input.Backends = append(m.input.Backends, Backend{Location: m.at(b.DefRange), Type: b.Labels[0]})
		case "cloud":
			m.input.Backends = append(m.input.Backends, Backend{Location: m.at(b.DefRange), Type: "cloud"})
		case "provider_meta":
			m.input.ProviderMeta = append(m.input.ProviderMeta, ProviderMeta{Location: m.at(b.DefRange), Provider: b.Labels[0]})
		case "encryption":
			for _, e := range m.content(b.Body, nil, block("key_provider", "type", "name"), block("method", "type", "name")).Blocks {
				m.input.Encryption = append(m.input.Encryption,
					Encryption{Location: m.at(e.DefRange), Kind: e.Type, Type: e.Labels[0], Name: e.Labels[1]})
			}
		}
	}
}

// decodeRequiredProviders reads a required_providers block. A source that is
// written twice gives two entries.
func (m *module) decodeRequiredProviders(body hcl.Body) {
	attributes, diags := body.JustAttributes()
	m.report(diags)
	for _, a := range inOrder(attributes) {
		entry := RequiredProvider{Location: m.at(a.NameRange), Provider: a.Name, ProviderAddress: impliedAddress(a.Name)}
		pairs, diags := hcl.ExprMap(a.Expr)
		if !diags.HasErrors() {
			m.decodeRequirement(entry, pairs)
			continue
		}
		version, plain := literalExpr(a.Expr) // a version alone, as before Terraform 0.13
		if entry.Version = version; !plain {
			entry.ProviderAddress = ""
		}
		m.require(entry)
	}
}

// decodeRequirement reads the object of one entry. A key that is no plain name
// could be a source in disguise, and makes the entry malformed.
func (m *module) decodeRequirement(entry RequiredProvider, pairs []hcl.KeyValuePair) {
	var sources []RequiredProvider
	for _, pair := range pairs {
		key, plainKey := literalExpr(pair.Key)
		value, plain := literalExpr(pair.Value)
		switch {
		case key == "source" || !plainKey:
			source := entry
			source.Line, source.Source, source.ProviderAddress = pair.Value.Range().Start.Line, value, ""
			if plain && plainKey {
				source.ProviderAddress = providerAddress(value)
			}
			sources = append(sources, source)
		case key == "version":
			entry.Version = value
		}
	}
	for _, source := range sources {
		source.Version = entry.Version
		m.require(source)
	}
	if len(sources) == 0 {
		m.require(entry)
	}
}

func (m *module) require(r RequiredProvider) {
	if _, ok := m.declared[r.Provider]; !ok {
		m.declared[r.Provider] = r.ProviderAddress
	}
	m.input.RequiredProviders = append(m.input.RequiredProviders, r)
}

// decodeCall reads a module block and, where it calls a folder of the
// repository, puts that into the queue.
func (m *module) decodeCall(b *hcl.Block) {
	attributes := m.content(b.Body, []string{"source", "version"}).Attributes
	call := ModuleCall{Location: m.at(b.DefRange), Name: b.Labels[0], Version: text(attributes["version"])}
	if a := attributes["source"]; a != nil {
		call.Line = a.NameRange.Start.Line
		source, plain := literalExpr(a.Expr)
		call.Source, call.Computed = source, !plain
	}
	switch {
	case call.Source == "":
	case isLocalSource(call.Source):
		call.Local = true
		folder, inside := localFolder(m.dir, call.Source)
		call.Folder, call.Outside = folder, !inside
		if inside {
			m.call(folder, m.depth+1, fmt.Sprintf("%s:%d", call.File, call.Line))
		}
	default:
		call.Address, call.Query = moduleAddress(call.Source)
	}
	m.input.ModuleCalls = append(m.input.ModuleCalls, call)
}

// decodeResource reads a block of one of the kinds that Resource lists.
func (m *module) decodeResource(b *hcl.Block) {
	r := Resource{Location: m.at(b.DefRange), Kind: b.Type, Provisioners: []Provisioner{}}
	if len(b.Labels) == 2 {
		r.Type, r.Name = b.Labels[0], b.Labels[1]
		r.Provider, _, _ = strings.Cut(r.Type, "_")
	}
	c := m.content(b.Body, []string{"provider"}, block("provisioner", "type"))
	if a := c.Attributes["provider"]; a != nil {
		r.Provider = providerName(a.Expr)
	} else if r.Type == "" && len(c.Blocks) == 0 {
		return // an import or removed block that names no provider and runs nothing
	}
	for _, p := range c.Blocks {
		r.Provisioners = append(r.Provisioners, Provisioner{Type: p.Labels[0], Line: p.DefRange.Start.Line})
	}
	m.resources = append(m.resources, r)
}

// resolve fills in the addresses of providers, which any file of the module may
// declare, and adds the module's entries to the input.
func (m *module) resolve() {
	address := func(name string) string {
		if a, ok := m.declared[name]; ok {
			return a
		}
		return impliedAddress(name)
	}
	for _, p := range m.providers {
		p.ProviderAddress = address(p.Provider)
		m.input.Providers = append(m.input.Providers, p)
	}
	for _, r := range m.resources {
		r.ProviderAddress = address(r.Provider)
		m.input.Resources = append(m.input.Resources, r)
	}
}

// providerName is the module's own name of the provider that a provider
// argument refers to, such as aws in aws.west or aws.by_region[each.key]. It is
// empty where it cannot be read without evaluation.
func providerName(e hcl.Expression) string {
	if text, ok := rawString(e); ok {
		name, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(text, "${")), ".")
		if hclsyntax.ValidIdentifier(name) {
			return name
		}
		return ""
	}
	if index, ok := e.(*hclsyntax.IndexExpr); ok {
		e = index.Collection
	}
	traversal, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() {
		return ""
	}
	return traversal.RootName()
}

// text gives the text of an argument, or "" where it is absent or no plain string.
func text(a *hcl.Attribute) string {
	if a == nil {
		return ""
	}
	s, _ := literalExpr(a.Expr)
	return s
}

// literalExpr gives the text of a plain string. One with a template marker is
// none: the engines disagree about those in JSON.
func literalExpr(e hcl.Expression) (text string, ok bool) {
	text, ok = rawString(e)
	if strings.Contains(text, "${") || strings.Contains(text, "%{") {
		return "", false
	}
	return text, ok
}

// rawString gives a string as it is written, or an object's key. Nothing is
// evaluated: even an expression of literals alone can be made to run for ever.
func rawString(e hcl.Expression) (text string, ok bool) {
	if key, isKey := e.(*hclsyntax.ObjectConsKeyExpr); isKey {
		if word := hcl.ExprAsKeyword(key); word != "" && !key.ForceNonLiteral {
			return word, true
		}
		e = key.Wrapped
	}
	if native, isNative := e.(hclsyntax.Expression); isNative {
		template, isTemplate := native.(*hclsyntax.TemplateExpr)
		if !isTemplate || !template.IsStringLiteral() {
			return "", false
		}
	}
	v, diags := e.Value(nil) // without a context a string in JSON is not read as a template
	if diags.HasErrors() || v.IsNull() || v.Type() != cty.String {
		return "", false
	}
	return v.AsString(), true
}

// inOrder gives attributes as they stand in the file.
func inOrder(attributes hcl.Attributes) []*hcl.Attribute {
	list := make([]*hcl.Attribute, 0, len(attributes))
	for _, a := range attributes {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *hcl.Attribute) int { return a.Range.Start.Byte - b.Range.Start.Byte })
	return list
}
