package config

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// example is the complete example at the head of the reference.
//
//go:embed example.hcl
var example string

// referenceIntro is the head of the reference.
const referenceIntro = `# Configuration

<!-- Written by the tests of package config from its schema: go test ./config -run Reference -update -->

Waymark reads one file, ` + "`waymark.hcl`" + `, written in [HCL](https://github.com/hashicorp/hcl), the language of Terraform's own files. This page lists every name that may stand in it. A name that is not listed here is an error, and so is a value that cannot work: ` + "`waymark config check waymark.hcl`" + ` shows every problem at once, each with its line and what to write instead, and the service refuses to start on any.

The smallest file that works names a repository, a team, an environment and its Regions:

` + "```hcl" + `
repository "infra" {
  url = "https://git.example.org/infra.git"
}

teams = ["research"]

environment "dev" {
  regions = ["us-east-1"]
}
` + "```" + `

Some rules hold everywhere:

- A relative path is read from the folder of the configuration file. A tilde is not expanded.
- A duration is a number with a unit: ` + "`\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"2h\"`" + `.
- Most values are read once, when the service starts. They may use functions such as ` + "`env()`" + `, but no variables. A value of type *template* is evaluated for each tag and may use [variables](#variables) too.
- Secrets belong into the environment, read with ` + "`env()`" + `. They are never printed.
`

// Reference returns docs/configuration.md: every name of waymark.hcl with its
// type, default, example and meaning, as Markdown, from the table that decodes
// the file.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceIntro)
	b.WriteString("\n## A complete example\n\n```hcl\n" + example + "```\n")
	root := schema()
	b.WriteString("\n## At the top of the file\n\n")
	writeFields(&b, root.fields, &Config{})
	for i := range root.blocks {
		writeBlock(&b, &root.blocks[i], &Config{}, "## ")
	}
	b.WriteString("\n## Variables\n\nTemplates may use these, as in `\"${env}-${team}\"`. All are strings.\n\n| Variable | Meaning |\n| --- | --- |\n")
	for _, v := range variables() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", v.name, v.meaning)
	}
	b.WriteString("\n## Functions\n\n| Function | Gives |\n| --- | --- |\n")
	for _, f := range functionMeanings() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f[0], f[1])
	}
	return b.String()
}

// writeBlock prints the section of one block, and of those inside it.
func writeBlock(b *strings.Builder, spec *block, parent any, heading string) {
	title := "`" + spec.name + "`"
	if spec.label != "" {
		title = fmt.Sprintf("`%s \"<%s>\"`", spec.name, spec.label)
	}
	fmt.Fprintf(b, "\n%s%s\n\n%s", heading, title, spec.about)
	if spec.required {
		b.WriteString(" At least one is required.")
	}
	b.WriteString("\n")
	owner := spec.in(parent, "")
	if len(spec.fields) > 0 {
		b.WriteString("\n")
		writeFields(b, spec.fields, owner)
	}
	if spec.note != "" {
		b.WriteString("\n" + spec.note + "\n")
	}
	for i := range spec.blocks {
		writeBlock(b, &spec.blocks[i], owner, heading[:len(heading)-1]+"# ")
	}
}

// writeFields prints the table of a block's attributes.
func writeFields(b *strings.Builder, fields []field, owner any) {
	b.WriteString("| Name | Type | Default | Example | Meaning |\n| --- | --- | --- | --- | --- |\n")
	for i := range fields {
		f := &fields[i]
		standard := "`" + f.fallback + "`"
		switch {
		case f.required:
			standard = "**required**"
		case f.fallback == "":
			standard = f.unset
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | `%s` | %s |\n", f.name, typeOf(f, owner), cellText(standard), cellText(f.example), cellText(f.meaning))
	}
}

// cellText escapes what would end a cell of a Markdown table.
func cellText(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// typeOf names a field's type for people.
func typeOf(f *field, owner any) string {
	if f.oneOf != nil {
		return "`\"" + strings.Join(f.oneOf, "\"`, `\"") + "\"`"
	}
	switch f.at(owner).(type) {
	case *Template:
		return "template of a " + string(f.yields)
	case *bool:
		return "bool"
	case *Share:
		return "number, 0.0 to 1.0"
	case *int:
		return fmt.Sprintf("number, %d to %d", f.min, f.max)
	case *time.Duration:
		return "duration"
	case *[]string:
		if f.file {
			return "list of paths"
		}
		return "list of strings"
	case *Words:
		return "string or list of strings"
	case *map[string]Secret, *map[string]string, *Headers:
		return "map of strings"
	case *string, *Secret, *release.Severity:
		if f.file || f.program {
			return "path"
		}
	}
	return "string"
}
