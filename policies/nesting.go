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

// closer gives the token that closes each one that opens.
func closer(opens hclsyntax.TokenType) (closes hclsyntax.TokenType, ok bool) {
	switch opens {
	case hclsyntax.TokenOBrace:
		return hclsyntax.TokenCBrace, true
	case hclsyntax.TokenOParen:
		return hclsyntax.TokenCParen, true
	case hclsyntax.TokenOBrack:
		return hclsyntax.TokenCBrack, true
	case hclsyntax.TokenOQuote:
		return hclsyntax.TokenCQuote, true
	case hclsyntax.TokenOHeredoc:
		return hclsyntax.TokenCHeredoc, true
	case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		return hclsyntax.TokenTemplateSeqEnd, true
	}
	return 0, false
}

// checkNesting refuses a file in HCL's native syntax that the parser could not
// be trusted with. The lexer does not recurse. A token closes only what it
// belongs to: the parser goes on after a stray one, as deep as it was.
func checkNesting(src []byte, name string) error {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	var open []hclsyntax.TokenType // what closes each level
	chain := 0
	for _, token := range tokens {
		if last := len(open) - 1; last >= 0 && open[last] == token.Type {
			open = open[:last]
		} else if closes, ok := closer(token.Type); ok {
			open = append(open, closes)
		}
		switch token.Type {
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenQuestion,
			hclsyntax.TokenTemplateControl: // an if or for nests without brackets
			chain++
		}
		if len(open) > maxNesting || chain > maxChain {
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
