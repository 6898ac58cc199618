package gates

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxSource  = 2 << 20 // bytes of one source file
	maxModules = 500     // local modules of one stack
)

// stack is a root module and the local modules that it reaches, read without
// evaluating anything.
type stack struct {
	dirs     []string          // relative to the tree, the root module first
	files    int               // source files that tflint reads in the root module
	findings []release.Finding // files that it does not read
	ignored  []release.Finding // rules that comments skip, suppressed
}

// readStack follows the local module sources from dir. The error wraps
// release.ErrRefused for a source that leaves the repository, and
// release.ErrInvalid for a root module that is not there.
//
// Files are only cut into tokens, never parsed: a parser's recursion would let
// one hostile file exhaust the stack of this process.
func readStack(root *os.Root, dir string) (stack, error) {
	var s stack
	if info, err := root.Stat(dir); err != nil || !info.IsDir() {
		return s, fmt.Errorf("%w: the tree has no folder %q to use as the root module; correct stack.path", release.ErrInvalid, dir)
	}
	s.dirs = []string{dir}
	seen := map[string]bool{dir: true}
	for i := 0; i < len(s.dirs); i++ {
		sources, err := s.readModule(root, s.dirs[i])
		if err != nil {
			return s, err
		}
		for _, source := range sources {
			next := path.Join(s.dirs[i], source.value)
			if !filepath.IsLocal(next) {
				return s, fmt.Errorf("%w: %s:%d: module source %q leaves the repository; keep modules inside it", release.ErrRefused,
					source.file, source.line, clean(source.value, maxName))
			}
			info, err := root.Stat(next)
			if seen[next] || (err == nil && !info.IsDir()) || os.IsNotExist(err) {
				continue // tflint itself says what is missing
			}
			if err != nil {
				return s, fmt.Errorf("%w: %s:%d: module source %q: %w", release.ErrRefused, source.file, source.line, clean(source.value, maxName), err)
			}
			if seen[next] = true; len(seen) > maxModules {
				return s, fmt.Errorf("%w: more than %d local modules", release.ErrInvalid, maxModules)
			}
			s.dirs = append(s.dirs, next)
		}
	}
	return s, nil
}

// moduleSource is a local source as a module block names it.
type moduleSource struct {
	file  string
	line  int
	value string
}

// readModule reads the files of one module.
func (s *stack) readModule(root *os.Root, dir string) ([]moduleSource, error) {
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return nil, fmt.Errorf("reading the tree: %w", err)
	}
	var all []moduleSource
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		isJSON := strings.HasSuffix(name, ".tf.json")
		switch {
		case e.IsDir() || strings.HasPrefix(e.Name(), "."):
			continue
		case hasSuffix(name, []string{".tofu", ".tofu.json"}):
			s.findings = append(s.findings, unreadFile(name, "tflint"))
			continue
		case !isJSON && !strings.HasSuffix(name, ".tf"):
			continue
		}
		src, err := readSource(root, name, maxSource)
		if err != nil {
			return nil, err
		}
		if dir == s.dirs[0] {
			s.files++
		}
		var found []moduleSource
		if isJSON {
			found = s.readJSON(name, src)
		} else if found, err = s.readHCL(name, src); err != nil {
			return nil, err
		}
		for _, f := range found {
			if strings.HasPrefix(f.value, "./") || strings.HasPrefix(f.value, "../") || f.value == "." || f.value == ".." {
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// readSource reads a file of the tree up to limit bytes, following no link out of it.
func readSource(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", release.ErrRefused, name, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", release.ErrRefused, name)
	}
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(src)) > limit {
		return nil, fmt.Errorf("%w: %s is larger than %d KiB; part it", release.ErrInvalid, name, limit>>10)
	}
	return src, nil
}

// readHCL finds module sources and comments that ignore rules among the tokens.
func (s *stack) readHCL(name string, src []byte) ([]moduleSource, error) {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos) // what is wrong in it, tflint says
	var found []moduleSource
	depth, inModule := 0, false
	for i, t := range tokens {
		if step := brackets(t); step != 0 {
			depth += step
			inModule = inModule && depth > 0
		}
		switch t.Type {
		case hclsyntax.TokenComment:
			s.ignores(name, t.Range.Start.Line, string(t.Bytes))
		case hclsyntax.TokenIdent:
			word := string(t.Bytes)
			if depth == 0 && word == "module" {
				inModule = true
			}
			if depth != 1 || !inModule || word != "source" || i+1 >= len(tokens) || tokens[i+1].Type != hclsyntax.TokenEqual {
				continue
			}
			value, ok := plainString(tokens[i+2:])
			if !ok {
				return nil, fmt.Errorf("%w: %s:%d: a module's source must be a plain quoted string, so that it can be checked before anything reads it",
					release.ErrRefused, name, t.Range.Start.Line)
			}
			found = append(found, moduleSource{name, t.Range.Start.Line, value})
		}
	}
	return found, nil
}

// brackets is 1 for a token that opens something, -1 for one that closes it.
func brackets(t hclsyntax.Token) int {
	switch t.Type {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		return 1
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
		return -1
	}
	return 0
}

// nesting is how many brackets are open at once, at most.
func nesting(tokens hclsyntax.Tokens) int {
	depth, most := 0, 0
	for _, t := range tokens {
		depth += brackets(t)
		most = max(most, depth)
	}
	return most
}

// plainString reads a quoted string without templates and escapes that is a
// whole expression.
func plainString(tokens hclsyntax.Tokens) (string, bool) {
	if len(tokens) < 3 || tokens[0].Type != hclsyntax.TokenOQuote {
		return "", false
	}
	value, rest := "", tokens[1:]
	if rest[0].Type == hclsyntax.TokenQuotedLit {
		value, rest = string(rest[0].Bytes), rest[1:]
	}
	if len(rest) < 2 || rest[0].Type != hclsyntax.TokenCQuote || strings.ContainsAny(value, `\$%`) {
		return "", false
	}
	switch rest[1].Type {
	case hclsyntax.TokenNewline, hclsyntax.TokenComment, hclsyntax.TokenCBrace, hclsyntax.TokenEOF:
		return value, true
	}
	return "", false
}

// readJSON does the same for a file in JSON syntax. encoding/json bounds the
// depth; a file that is broken is left to tflint's own message.
func (s *stack) readJSON(name string, src []byte) []moduleSource {
	var doc struct {
		Comment any `json:"//"`
		Module  any `json:"module"`
	}
	if json.Unmarshal(src, &doc) != nil {
		return nil
	}
	if text, ok := doc.Comment.(string); ok {
		s.ignores(name, 0, text)
	}
	var found []moduleSource
	for _, byName := range objects(doc.Module) {
		for _, blocks := range byName {
			for _, block := range objects(blocks) {
				if value, ok := block["source"].(string); ok {
					found = append(found, moduleSource{name, 0, value})
				}
			}
		}
	}
	return found
}

// objects gives the objects of v, which JSON syntax writes alone or in a list.
func objects(v any) []map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return []map[string]any{v}
	case []any:
		var out []map[string]any
		for _, e := range v {
			if m, ok := e.(map[string]any); ok {
				out = append(out, m)
			}
		}
		return out
	}
	return nil
}

var ignorePattern = regexp.MustCompile(`tflint-ignore(-file)?: ([^\n*/#]+)`)

// ignores lists the rules that a comment skips, as suppressed findings: there is
// no telling whether the rule would have found anything.
func (s *stack) ignores(file string, line int, comment string) {
	m := ignorePattern.FindStringSubmatch(comment)
	if m == nil || len(s.ignored) > maxFindings {
		return
	}
	for rule := range strings.SplitSeq(m[2], ",") {
		s.ignored = append(s.ignored, release.Finding{Rule: strings.TrimSpace(rule), Severity: release.SeverityWarning,
			File: file, Line: line, Message: "a comment skips this rule here", Suppressed: strings.TrimLeft(comment, "/#* ")})
	}
}
