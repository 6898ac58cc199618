package policies

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/waymark-cd/waymark/release"
)

// The names that a decision point's package gives its answers by.
var answers = []string{"deny", "warn", "require_approval"}

// FileProblem is what is wrong with a file of users' rules or data.
type FileProblem struct {
	File string // its Name
	Line int    // from 1; 0 where it is the file as a whole
	Text string
}

// String prints the problem as file:line: text.
func (p FileProblem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Check says all that is wrong with users' files, before any is evaluated: Rego
// that does not parse or compile, packages that are nobody's, rules whose answers
// nobody would read, and data that cannot be read.
func Check(files []release.PolicyFile) []FileProblem {
	lib := readLibrary(files)
	if len(lib.problems) == 0 {
		_, _ = lib.compile()
	}
	return lib.sorted()
}

// library is users' files, parsed.
type library struct {
	modules  map[string]*ast.Module // by the file's name
	tests    map[string]*ast.Module // those of files that end in _test.rego
	data     map[string]any
	points   map[string]bool // decision points that have a package
	problems []FileProblem
}

// readLibrary parses files.
func readLibrary(files []release.PolicyFile) *library {
	lib := &library{modules: map[string]*ast.Module{}, tests: map[string]*ast.Module{}, data: map[string]any{}, points: map[string]bool{}}
	for _, f := range files {
		switch path.Ext(f.Path) {
		case ".rego":
			lib.addModule(f)
		case ".json", ".yaml", ".yml":
			lib.addData(f)
		default:
			lib.problem(f.Name, 0, "is neither Rego nor data: write .rego, .json or .yaml at the end of its name")
		}
	}
	if len(lib.problems) == 0 {
		lib.checkAnswers()
	}
	return lib
}

func (lib *library) problem(file string, line int, format string, args ...any) {
	lib.problems = append(lib.problems, FileProblem{File: file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// sorted gives the problems in the order of files and lines.
func (lib *library) sorted() []FileProblem {
	slices.SortStableFunc(lib.problems, func(a, b FileProblem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(lib.problems)
}

// regoErrors notes what OPA says is wrong.
func (lib *library) regoErrors(err error, file string) {
	var all ast.Errors
	if !errors.As(err, &all) {
		lib.problem(file, 0, "%s", oneLine(err.Error()))
		return
	}
	for _, e := range all {
		at, line := file, 0
		if e.Location != nil {
			at, line = cmp.Or(e.Location.File, file), e.Location.Row
		}
		lib.problem(at, line, "%s", oneLine(e.Message))
	}
}

// addModule parses a file of Rego and holds its package against what there is.
func (lib *library) addModule(f release.PolicyFile) {
	module, err := ast.ParseModuleWithOpts(f.Name, f.Text, ast.ParserOptions{Capabilities: capabilities()})
	if err != nil {
		lib.regoErrors(err, f.Name)
		return
	}
	if module == nil {
		lib.problem(f.Name, 0, "is empty: write package plan, or remove it")
		return
	}
	isTest := strings.HasSuffix(f.Path, "_test.rego")
	name := strings.TrimPrefix(module.Package.Path.String(), "data.")
	line := module.Package.Location.Row
	first, _, more := strings.Cut(name, ".")
	switch {
	case first == "waymark" || strings.HasPrefix(first, "waymark["):
		lib.problem(f.Name, line, "the package %s is Waymark's own: bundled rules are set in the configuration, with policy { rule ... }", name)
		return
	case isTest:
		lib.tests[f.Name] = module
		return
	case slices.Contains(release.PolicyPoints(), first) && !more:
		lib.points[first] = true
	case first != "lib":
		lib.problem(f.Name, line, "nothing asks the package %s: write package tag, config or plan, or lib.<name> for what they import", name)
		return
	}
	lib.modules[f.Name] = module
}

// checkAnswers finds rules whose answers could not be read, and decision points
// without any.
func (lib *library) checkAnswers() {
	seen := map[string]bool{}
	for file, module := range lib.modules {
		point := strings.TrimPrefix(module.Package.Path.String(), "data.")
		if !lib.points[point] {
			continue
		}
		for _, rule := range module.Rules {
			ref := rule.Head.Ref()
			name := strings.TrimPrefix(ref[0].Value.String(), "data.")
			if !slices.Contains(answers, name) {
				continue
			}
			seen[point] = true
			if rule.Head.RuleKind() != ast.MultiValue || len(ref) != 1 {
				lib.problem(file, rule.Location.Row, "%s must be a set of results: write %s contains {\"rule\": \"my-rule\", \"message\": \"...\"} if { ... }", name, name)
			}
		}
	}
	for file, module := range lib.modules {
		point := strings.TrimPrefix(module.Package.Path.String(), "data.")
		if lib.points[point] && !seen[point] {
			lib.problem(file, module.Package.Location.Row, "the package %s has no deny, warn or require_approval, so that it never says anything: name its rules so, or make it lib.<name>", point)
		}
	}
}

// addData merges a data file into the document data, at the path of its folder
// inside the policy folder.
func (lib *library) addData(f release.PolicyFile) {
	var value any
	err := util.Unmarshal([]byte(f.Text), &value) // YAML, of which JSON is a part
	if strings.HasSuffix(f.Path, ".json") {
		decoder := json.NewDecoder(strings.NewReader(f.Text))
		decoder.UseNumber()
		if err = decoder.Decode(&value); err == nil && decoder.More() {
			err = errors.New("something follows the document")
		}
	}
	if err != nil {
		line := 0
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			line = 1 + bytes.Count([]byte(f.Text)[:min(int(syntax.Offset), len(f.Text))], []byte("\n"))
		}
		lib.problem(f.Name, line, "cannot be read as data: %s", oneLine(err.Error()))
		return
	}
	object, ok := value.(map[string]any)
	if !ok {
		lib.problem(f.Name, 0, "is no object at its top: give what it holds a name")
		return
	}
	if dir := path.Dir(f.Path); dir != "." {
		parts := strings.Split(dir, "/")
		for i := len(parts) - 1; i >= 0; i-- {
			object = map[string]any{parts[i]: object}
		}
	}
	for name := range object {
		if name == "waymark" || slices.Contains(release.PolicyPoints(), name) {
			lib.problem(f.Name, 0, "puts data at data.%s, which belongs to rules: use another name, or another folder", name)
			return
		}
	}
	if at := mergeData(lib.data, object, "data"); at != "" {
		lib.problem(f.Name, 0, "says %s, which another file has said: take one out", at)
	}
}

// mergeData adds an object's values and returns the path of one that is there
// already; empty where none is.
func mergeData(into, from map[string]any, at string) string {
	for name, value := range from {
		old, twice := into[name]
		oldObject, isOld := old.(map[string]any)
		object, isNew := value.(map[string]any)
		switch {
		case !twice:
			into[name] = value
		case !isOld || !isNew:
			return at + "." + name
		default:
			if conflict := mergeData(oldObject, object, at+"."+name); conflict != "" {
				return conflict
			}
		}
	}
	return ""
}

// compile compiles users' modules beside the bundled ones, and more where more
// are given. Problems are noted.
func (lib *library) compile(more ...map[string]*ast.Module) (*ast.Compiler, map[string]*ast.Module) {
	modules, err := bundledModules()
	if err != nil {
		lib.problem("the bundled rules", 0, "%s", err)
		return nil, nil
	}
	for _, set := range append(more, lib.modules) {
		for file, module := range set {
			modules[file] = module
		}
	}
	compiler := ast.NewCompiler().WithStrict(true).WithCapabilities(capabilities()).WithPathConflictsCheck(lib.hasData)
	if compiler.Compile(modules); compiler.Failed() {
		lib.regoErrors(compiler.Errors, "policy")
		return nil, nil
	}
	return compiler, modules
}

// hasData reports whether there is data at a path.
func (lib *library) hasData(at []string) (bool, error) {
	var value any = lib.data
	for _, part := range at {
		object, ok := value.(map[string]any)
		if !ok {
			return false, nil
		}
		if value, ok = object[part]; !ok {
			return false, nil
		}
	}
	return true, nil
}

// withSettings is users' data beside the bundled document data.waymark.
func (lib *library) withSettings(settings map[string]any) map[string]any {
	data := map[string]any{"waymark": settings}
	for name, value := range lib.data {
		data[name] = value
	}
	return data
}

// withheld are OPA's functions that reach out of the evaluation: to a network,
// or to what the process was started with.
var withheld = []string{"http.send", "net.lookup_ip_addr", "opa.runtime"}

// capabilities are what users' rules may call.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return slices.Contains(withheld, b.Name) })
	c.AllowNet = []string{} // no schema is fetched
	return c
}
