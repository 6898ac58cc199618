package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxFunctions is the most calls that are listed.
const maxFunctions = 10000

// fileFunctions are the engines' functions that read what is on disk.
var fileFunctions = map[string]bool{"file": true, "fileexists": true, "fileset": true, "filebase64": true,
	"templatefile": true, "filemd5": true, "filesha1": true, "filesha256": true, "filesha512": true,
	"filebase64sha256": true, "filebase64sha512": true}

// findFunctions lists the calls of file functions in a file of native syntax.
// It reads tokens alone, so that no nesting can hide one.
func (m *module) findFunctions(src []byte, file string) {
	all, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	tokens := all[:0]
	for _, t := range all {
		if t.Type != hclsyntax.TokenNewline && t.Type != hclsyntax.TokenComment {
			tokens = append(tokens, t)
		}
	}
	for i := range len(tokens) - 1 {
		name := string(tokens[i].Bytes)
		if tokens[i].Type != hclsyntax.TokenIdent || tokens[i+1].Type != hclsyntax.TokenOParen {
			continue
		}
		foreign := i >= 2 && tokens[i-1].Type == hclsyntax.TokenDoubleColon && string(tokens[i-2].Bytes) != "core"
		if foreign || !fileFunctions[name] { // a foreign one is a provider's own
			continue
		}
		call := FileFunction{Location: m.at(tokens[i].Range), Function: name}
		base, text, plain := literalArgument(tokens[i+2:])
		m.addFunction(call, base, text, plain)
	}
}

// literalArgument reads the first argument of a call: base is what it begins
// with, "module", "root", "cwd" or nothing.
func literalArgument(tokens hclsyntax.Tokens) (base, text string, plain bool) {
	next := func(kind hclsyntax.TokenType) (string, bool) {
		if len(tokens) == 0 || tokens[0].Type != kind {
			return "", false
		}
		text := string(tokens[0].Bytes)
		tokens = tokens[1:]
		return text, true
	}
	if _, ok := next(hclsyntax.TokenOQuote); !ok {
		return "", "", false
	}
	if _, ok := next(hclsyntax.TokenTemplateInterp); ok {
		word, _ := next(hclsyntax.TokenIdent)
		_, dot := next(hclsyntax.TokenDot)
		base, _ = next(hclsyntax.TokenIdent)
		_, end := next(hclsyntax.TokenTemplateSeqEnd)
		if word != "path" || !dot || !end || base != "module" && base != "root" && base != "cwd" {
			return "", "", false
		}
	}
	for {
		part, ok := next(hclsyntax.TokenQuotedLit)
		if !ok {
			break
		}
		if strings.ContainsAny(part, "\\") || strings.Contains(part, "$${") || strings.Contains(part, "%%{") {
			return "", "", false // an escape: rare in a path, and not worth a reading of its own
		}
		text += part
	}
	if _, ok := next(hclsyntax.TokenCQuote); !ok {
		return "", "", false
	}
	_, comma := next(hclsyntax.TokenComma)
	_, closed := next(hclsyntax.TokenCParen)
	return base, text, comma || closed
}

// addFunction adds a call, resolved as the engines do it: they run in the root
// module's folder.
func (m *module) addFunction(call FileFunction, base, text string, plain bool) {
	if len(m.input.FileFunctions) == maxFunctions {
		m.stop("more than %d calls of functions that read files: split the stack", maxFunctions)
		return
	}
	call.Computed = !plain
	if call.Path = text; plain && base != "" {
		call.Path = "${path." + base + "}" + text
		call.Computed = text != "" && text[0] != '/' // a name glued to the folder's
		text = "." + text
	}
	if !call.Computed {
		dir := m.input.Stack
		if base == "module" {
			dir = m.dir
		}
		call.Resolved, call.Outside = resolvedPath(dir, text)
	}
	m.input.FileFunctions = append(m.input.FileFunctions, call)
}

// resolvedPath is where a path in a folder of the repository leads.
func resolvedPath(dir, text string) (resolved string, outside bool) {
	if path.IsAbs(text) || strings.HasPrefix(text, "~") {
		return "", true
	}
	resolved = path.Join(dir, text)
	if resolved == ".." || strings.HasPrefix(resolved, "../") {
		return "", true
	}
	return resolved, false
}

// called finds calls in an expression inside a string of JSON.
var called = regexp.MustCompile(`(?:^|[^A-Za-z0-9_.-])(file[a-z0-9]*|templatefile)\s*\(`)

// findFunctionsJSON lists the calls in the templates of a file in JSON syntax.
// Strings there are never parsed, so that each call counts as computed.
func (m *module) findFunctionsJSON(src []byte, file string) {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	line, at := 1, 0
	for {
		token, err := d.Token()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				m.problem(file + ": not valid JSON: " + err.Error())
			}
			return
		}
		text, ok := token.(string)
		if !ok || !strings.Contains(text, "${") && !strings.Contains(text, "%{") {
			continue
		}
		end := int(d.InputOffset())
		line, at = line+bytes.Count(src[at:end], []byte("\n")), end
		for _, found := range called.FindAllStringSubmatch(text, -1) {
			if fileFunctions[found[1]] {
				where := Location{Module: m.dir, File: file, Line: line}
				m.addFunction(FileFunction{Location: where, Function: found[1]}, "", "", false)
			}
		}
	}
}
