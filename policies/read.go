package policies

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"

	"github.com/waymark-cd/waymark/release"
)

// Bounds on what is read of a repository.
const (
	maxFiles     = 2000
	maxFileBytes = 1 << 20
	maxBytes     = 16 << 20
	maxFolder    = 10000 // entries of one folder
	maxModules   = 500
	maxDepth     = 32 // modules inside modules
	maxProblems  = 20 // shown
)

// ReadConfig reads the root module in the folder stackPath of the repository at
// root, and every local module that it reaches, without evaluating anything.
// stackPath is relative to root, with slashes; "" and "." are the root itself.
// No path is followed out of root, also not through a symbolic link.
//
// Code that does not parse, is missing or is past a bound gives an error that
// wraps release.ErrInvalid and lists every problem with file:line. Any other
// error is one of the file system.
func ReadConfig(root, stackPath string) (Input, error) {
	stack := path.Clean(filepath.ToSlash(stackPath))
	if !filepath.IsLocal(filepath.FromSlash(stack)) {
		return Input{}, fmt.Errorf("%w stack path %.200q: it leads out of the repository; write a folder inside it", release.ErrInvalid, stackPath)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return Input{}, fmt.Errorf("reading the configuration: %w", err)
	}
	defer dir.Close()
	r := &reader{root: dir, input: newInput(stack), seen: map[string]bool{stack: true}}
	r.queue = []folder{{dir: stack}}
	for len(r.queue) > 0 && r.failure == nil {
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.readModule(next)
	}
	r.findEngineFolders()
	if r.failure == nil {
		r.findLinks(root)
	}
	if r.failure != nil {
		return Input{}, r.failure
	}
	if len(r.problems) > 0 {
		return Input{}, r.invalid()
	}
	return r.input, nil
}

// reader is the state of one ReadConfig.
type reader struct {
	root  *os.Root
	input Input

	queue []folder        // modules still to read
	seen  map[string]bool // folders that are or were in the queue
	bytes int

	problems []string // at most maxProblems
	more     int      // problems that are not kept
	failure  error    // what ends the reading at once
}

// folder is a module to read, and the call that led to it.
type folder struct {
	dir    string
	depth  int
	caller string // file:line, empty for the root module
}

// problem notes what is wrong with the code. The text may hold parts of it.
func (r *reader) problem(text string) {
	if len(r.problems) == maxProblems {
		r.more++
		return
	}
	r.problems = append(r.problems, oneLine(text))
}

// stop ends the reading: the repository is past a bound.
func (r *reader) stop(format string, args ...any) {
	if r.failure == nil {
		r.failure = fmt.Errorf("%w configuration: "+format, append([]any{release.ErrInvalid}, args...)...)
	}
}

func (r *reader) invalid() error {
	if r.more > 0 {
		r.problems = append(r.problems, fmt.Sprintf("and %d more", r.more))
	}
	return fmt.Errorf("%w configuration:\n%s", release.ErrInvalid, strings.Join(r.problems, "\n"))
}

// readModule reads every file of one module's folder.
func (r *reader) readModule(f folder) {
	names, err := r.list(f.dir)
	if err != nil {
		if f.caller == "" {
			r.stop("the stack's folder %q cannot be read: %w", f.dir, err)
		} else {
			r.problem(fmt.Sprintf("%s: the module's folder %q cannot be read: %v", f.caller, f.dir, err))
		}
		return
	}
	if len(names) == 0 && f.caller == "" {
		r.stop("the stack's folder %q holds no .tf or .tofu file: set stack.path to the root module's folder", f.dir)
	}
	m := &module{reader: r, dir: f.dir, depth: f.depth, declared: map[string]string{}}
	for _, name := range names {
		if r.failure != nil {
			return
		}
		file := path.Join(f.dir, name)
		body, src := r.parse(file)
		if body == nil {
			continue
		}
		m.decode(file, body)
		if strings.HasSuffix(name, ".json") {
			m.findFunctionsJSON(src, file)
		} else {
			m.findFunctions(src, file)
		}
	}
	m.resolve()
}

// list gives the names of a folder's configuration files, sorted. Both engines
// leave out what editors leave behind.
func (r *reader) list(dir string) ([]string, error) {
	info, err := r.root.Stat(filepath.FromSlash(dir))
	if err != nil {
		return nil, plainError(err)
	}
	if !info.IsDir() {
		return nil, errors.New("it is no folder")
	}
	f, err := r.root.Open(filepath.FromSlash(dir))
	if err != nil {
		return nil, plainError(err)
	}
	defer f.Close()
	entries, err := f.ReadDir(maxFolder)
	if err != nil && err != io.EOF {
		return nil, plainError(err)
	}
	if len(entries) == maxFolder {
		return nil, fmt.Errorf("it holds %d entries or more", maxFolder)
	}
	var names []string
	for _, e := range entries {
		if isConfigFile(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// isConfigFile reports whether an engine reads a file of this name. OpenTofu
// prefers x.tofu to x.tf; the judgement is on both.
func isConfigFile(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	name = strings.TrimSuffix(name, ".json")
	return strings.HasSuffix(name, ".tf") || strings.HasSuffix(name, ".tofu")
}

// parse reads one file. The body is nil where that does not succeed, and why is
// noted.
func (r *reader) parse(name string) (hcl.Body, []byte) {
	if strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) || c == utf8.RuneError }) {
		r.problem(fmt.Sprintf("the file name %q holds characters that do not print: rename the file", name))
		return nil, nil
	}
	src := r.readFile(name)
	if src == nil {
		return nil, nil
	}
	if !utf8.Valid(src) {
		r.problem(name + ": is not UTF-8 text: save it as such")
		return nil, nil
	}
	var file *hcl.File
	var diags hcl.Diagnostics
	var err error
	if strings.HasSuffix(name, ".json") {
		if src, err = plainJSON(src, name); err == nil {
			file, diags = hcljson.Parse(src, name)
		}
	} else if err = checkNesting(src, name); err == nil {
		file, diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if err != nil {
		r.problem(err.Error())
		return nil, nil
	}
	if r.report(diags) || file == nil {
		return nil, nil
	}
	r.input.Files = append(r.input.Files, name)
	return file.Body, src
}

// readFile gives the bytes of a regular file, never nil where it succeeds.
func (r *reader) readFile(name string) []byte {
	if len(r.input.Files) == maxFiles {
		r.stop("it has more than %d files: split the stack", maxFiles)
		return nil
	}
	info, err := r.root.Stat(filepath.FromSlash(name)) // first, because opening a pipe would wait
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		r.problem(fmt.Sprintf("%s: cannot be read: %v", name, plainError(err)))
		return nil
	}
	f, err := r.root.Open(filepath.FromSlash(name))
	if err != nil {
		r.problem(fmt.Sprintf("%s: cannot be read: %v", name, plainError(err)))
		return nil
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		r.failure = fmt.Errorf("reading the configuration: %s: %w", name, plainError(err))
		return nil
	}
	if r.bytes += len(src); len(src) > maxFileBytes || r.bytes > maxBytes {
		r.stop("%s: larger than %d bytes, or the whole larger than %d: move data out of the code", name, maxFileBytes, maxBytes)
		return nil
	}
	return src
}

// report notes the errors among diags and says whether there were any.
func (r *reader) report(diags hcl.Diagnostics) bool {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		where := ""
		if d.Subject != nil {
			where = fmt.Sprintf("%s:%d: ", d.Subject.Filename, d.Subject.Start.Line)
		}
		r.problem(where + d.Summary + ": " + d.Detail)
	}
	return diags.HasErrors()
}

// call puts a local module into the queue.
func (r *reader) call(dir string, depth int, caller string) {
	switch {
	case r.seen[dir]:
	case depth > maxDepth:
		r.stop("%s: modules are nested more than %d deep: call fewer modules from modules", caller, maxDepth)
	case len(r.seen) >= maxModules:
		r.stop("%s: more than %d local modules: split the stack", caller, maxModules)
	default:
		r.seen[dir] = true
		r.queue = append(r.queue, folder{dir: dir, depth: depth, caller: caller})
	}
}

// findEngineFolders looks for folders that only the engine should make. Case
// counts, because it counts for the engine.
func (r *reader) findEngineFolders() {
	for _, name := range []string{".terraform", "terraform.d"} {
		p := path.Join(r.input.Stack, name)
		if _, err := r.root.Lstat(filepath.FromSlash(p)); err == nil {
			r.input.EngineFolders = append(r.input.EngineFolders, p)
		} else if !errors.Is(err, fs.ErrNotExist) && r.failure == nil {
			r.failure = fmt.Errorf("reading the configuration: %s: %w", p, plainError(err))
		}
	}
}

// plainError takes the path out of a file system's error: ours is already named.
func plainError(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// oneLine makes a hostile text fit for one line of a message.
func oneLine(s string) string {
	const most = 400
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
