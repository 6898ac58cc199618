package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Bounds on what is handed to the parser of HCL, which recurses once per level
// of brackets and per operator in a chain: a file of 300 KB can overflow its
// stack, and Go ends the whole process for that. No code that people write
// comes near.
const (
	maxNesting = 250
	maxChain   = 10000
)

// checkNesting refuses a file in HCL's native syntax that the parser could not
// be trusted with. The lexer does not recurse.
func checkNesting(src []byte, name string) error {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	depth, chain := 0, 0
	for _, token := range tokens {
		switch token.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
			depth++
		case hclsyntax.TokenTemplateControl: // an if or for nests without brackets
			depth++
			chain++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth = max(0, depth-1)
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenQuestion:
			chain++
		}
		if depth > maxNesting || chain > maxChain {
			return nestingError(name, token.Range.Start.Line, chain)
		}
	}
	return nil
}

// plainJSON makes a file in JSON syntax safe for HCL's JSON parser, which
// recurses as well and finds the ends of strings by its own rules: some Unicode
// characters make it miss a quote. What comes out is the same JSON in ASCII,
// with the same lines.
func plainJSON(src []byte, name string) ([]byte, error) {
	if err := checkJSON(src, name); err != nil {
		return nil, err
	}
	var out []byte
	depth, line, quoted := 0, 1, false
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if quoted && r == '\\' {
			out = append(out, src[i], src[i+1]) // an escape has two bytes or more
			i += 2
			continue
		}
		switch {
		case r == '\n':
			line++
		case r == '"':
			quoted = !quoted
		case quoted:
		case r == '[' || r == '{':
			depth++
		case r == ']' || r == '}':
			depth--
		}
		if depth > maxNesting {
			return nil, nestingError(name, line, 0)
		}
		i += size
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, "\\u%04x", unit)
		}
	}
	return out, nil
}

// checkJSON refuses what is not valid JSON.
func checkJSON(src []byte, name string) error {
	var any json.RawMessage
	err := json.Unmarshal(src, &any)
	if err == nil {
		return nil
	}
	line := 1
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line += bytes.Count(src[:min(int(syntax.Offset), len(src))], []byte("\n"))
	}
	return fmt.Errorf("%s:%d: not valid JSON: %w", name, line, err)
}

func nestingError(name string, line, chain int) error {
	if chain > maxChain {
		return fmt.Errorf("%s:%d: more than %d operators and template directives: split the file", name, line, maxChain)
	}
	return fmt.Errorf("%s:%d: nested more than %d levels deep: write it flatter", name, line, maxNesting)
}
