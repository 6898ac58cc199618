package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// decoder walks a file along the schema and collects every problem.
type decoder struct {
	filename  string
	dir       string // absolute folder of the file
	lookupEnv func(string) (string, bool)
	context   *hcl.EvalContext // for values that no target decides
	problems  Problems
	where     map[string]hcl.Range // places of blocks and attributes, by path such as "environment.dev.regions"
	broken    map[string]bool      // paths of attributes whose value could not be read
}

func newDecoder(filename, dir string, lookupEnv func(string) (string, bool)) *decoder {
	return &decoder{
		filename: filename, dir: dir, lookupEnv: lookupEnv,
		context: &hcl.EvalContext{Functions: staticFunctions(lookupEnv)},
		where:   map[string]hcl.Range{},
		broken:  map[string]bool{},
	}
}

// report adds a problem.
func (d *decoder) report(at hcl.Range, summary, detail string) {
	d.problems = append(d.problems, problemAt(at, summary, detail))
}

// sorted returns the problems in the order of the file.
func (d *decoder) sorted() Problems { return sortProblems(d.problems) }

// root decodes the whole file.
func (d *decoder) root(body *hclsyntax.Body, cfg *Config) {
	start := hcl.Range{Filename: d.filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	d.where[""] = start
	spec := schema()
	d.body(body, &spec, cfg, "", start)
}

// body decodes one block's body into owner. header is where the block begins,
// at is its path.
func (d *decoder) body(body *hclsyntax.Body, spec *block, owner any, at string, header hcl.Range) {
	if b, ok := owner.(*Backend); ok {
		d.arguments(body, b, at)
	} else {
		d.strangers(body, spec)
	}
	for i := range spec.fields {
		f := &spec.fields[i]
		path := join(at, f.name)
		attr := body.Attributes[f.name]
		switch {
		case attr != nil:
			d.where[path] = attr.SrcRange
			if !d.fill(f, owner, attr.Expr, path) {
				d.broken[path] = true
			}
		case f.required:
			d.report(header, fmt.Sprintf("%s is missing", path), "write "+f.name+" = "+f.example)
			d.broken[path] = true
		default:
			d.fallback(f, owner, path)
		}
	}
	for i := range spec.blocks {
		d.kind(body, &spec.blocks[i], owner, at, header)
	}
}

// kind decodes every block of one kind.
func (d *decoder) kind(body *hclsyntax.Body, spec *block, parent any, at string, header hcl.Range) {
	seen := map[string]hcl.Range{}
	for _, b := range body.Blocks {
		if b.Type != spec.name {
			continue
		}
		label, ok := d.label(b, spec)
		if spec.many && spec.label == "" {
			label = strconv.Itoa(len(seen) + 1) // for paths alone
		}
		key := label
		if !spec.many {
			key = ""
		}
		if first, twice := seen[key]; twice {
			d.report(b.DefRange(), fmt.Sprintf("%s is there twice", title(spec.name, key)),
				fmt.Sprintf("the first is on line %d; make one of them", first.Start.Line))
			continue
		}
		seen[key] = b.DefRange()
		path := join(join(at, spec.name), label)
		d.where[path] = b.DefRange()
		if !ok {
			d.broken[path] = true
		}
		d.body(b.Body, spec, spec.in(parent, label), path, b.DefRange())
	}
	switch {
	case len(seen) > 0:
	case spec.required:
		d.report(header, fmt.Sprintf("there is no %s block", spec.name), fmt.Sprintf("write %s %q { ... }", spec.name, spec.label))
	case !spec.many && !spec.open:
		owner := spec.in(parent, "")
		for i := range spec.fields {
			d.fallback(&spec.fields[i], owner, join(join(at, spec.name), spec.fields[i].name))
		}
	}
}

// label returns the block's label, or false after reporting what is wrong with it.
func (d *decoder) label(b *hclsyntax.Block, spec *block) (string, bool) {
	switch {
	case spec.label == "" && len(b.Labels) == 0:
		return "", true
	case spec.label == "":
		d.report(b.LabelRanges[0], spec.name+" takes no name", "write "+spec.name+" { ... }")
		return "", false
	case len(b.Labels) != 1:
		d.report(b.DefRange(), fmt.Sprintf("%s takes one %s", spec.name, spec.label),
			fmt.Sprintf("write %s %q { ... }", spec.name, spec.label))
		return strings.Join(b.Labels, " "), false
	}
	label := b.Labels[0]
	if spec.labels != nil && !slices.Contains(spec.labels, label) {
		d.report(b.LabelRanges[0], fmt.Sprintf("there is no %s %q", spec.name, label), Choose(label, spec.labels))
		return label, false
	}
	if spec.checkLabel != nil {
		if summary, detail := spec.checkLabel(label); summary != "" {
			d.report(b.LabelRanges[0], fmt.Sprintf("the %s of %s %s", spec.label, title(spec.name, label), summary), detail)
			return label, false
		}
	}
	return label, true
}

// strangers reports what the schema does not know.
func (d *decoder) strangers(body *hclsyntax.Body, spec *block) {
	var attributes, blocks []string
	for _, f := range spec.fields {
		attributes = append(attributes, f.name)
	}
	for _, b := range spec.blocks {
		blocks = append(blocks, b.name)
	}
	known := slices.Concat(attributes, blocks)
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		at := body.Attributes[name].NameRange
		switch {
		case slices.Contains(attributes, name):
		case slices.Contains(blocks, name):
			d.report(at, fmt.Sprintf("%s is a block, not an attribute", name), "leave out the equals sign: "+name+" { ... }")
		default:
			d.report(at, fmt.Sprintf("there is no attribute %q here", name), Choose(name, known))
		}
	}
	for _, b := range body.Blocks {
		switch {
		case slices.Contains(blocks, b.Type):
		case slices.Contains(attributes, b.Type):
			d.report(b.TypeRange, fmt.Sprintf("%s is an attribute, not a block", b.Type), "write "+b.Type+" = ...")
		default:
			d.report(b.TypeRange, fmt.Sprintf("there is no block %q here", b.Type), Choose(b.Type, known))
		}
	}
}

// arguments takes the attributes of a backend block, whatever their names.
func (d *decoder) arguments(body *hclsyntax.Body, backend *Backend, at string) {
	backend.Values = map[string]Template{}
	for _, b := range body.Blocks {
		d.report(b.TypeRange, "a backend takes no blocks", "write "+b.Type+" = { ... }")
	}
	for name, attr := range body.Attributes {
		path := join(at, name)
		d.where[path] = attr.SrcRange
		if problems := checkNames(attr.Expr, backendScope); len(problems) > 0 {
			d.problems = append(d.problems, problems...)
			d.broken[path] = true
			continue
		}
		backend.Values[name] = Template{expr: attr.Expr, name: path}
	}
}

// fallback fills in a default. The table's own defaults are tested to decode.
func (d *decoder) fallback(f *field, owner any, path string) {
	if f.fallback == "" {
		return
	}
	expr, diags := hclsyntax.ParseExpression([]byte(f.fallback), d.filename, hcl.InitialPos)
	if diags.HasErrors() {
		d.report(d.where[""], fmt.Sprintf("the default of %s cannot be read", path), diags.Error())
		return
	}
	d.fill(f, owner, expr, path)
}

// absolute reads a path from the folder of the configuration file.
func (d *decoder) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(d.dir, path)
}

// join appends a name to a path such as "server.listen".
func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// title names a block as it is written.
func title(kind, label string) string {
	if label == "" {
		return kind
	}
	return fmt.Sprintf("%s %q", kind, label)
}
