package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The HCL parser calls itself for every level of nesting, and a Go program
// cannot survive a stack that grows too far: a megabyte of brackets would end
// the service. These bounds are far beyond what people write.
const (
	maxNesting  = 200
	maxRepeated = 2000 // of the tokens that nest without a bracket
)

// parseBody reads HCL, refusing what is too large or nested too deep.
func parseBody(filename string, src []byte) (*hclsyntax.Body, Problems) {
	start := hcl.Range{Filename: filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	if len(src) > maxFile {
		return nil, Problems{problemAt(start, fmt.Sprintf("the file is larger than %d bytes", maxFile), "make it smaller")}
	}
	if at, deep := tooDeep(filename, src); deep {
		return nil, Problems{problemAt(at, "the file is nested too deep", "take brackets or operators apart")}
	}
	file, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, sortProblems(problemsOf(diags, start))
	}
	return file.Body.(*hclsyntax.Body), nil
}

// tooDeep looks at the tokens alone, which needs no recursion, and returns
// where nesting passes the bounds. A closing token counts only where it closes
// the innermost open one, so that unmatched ones cannot hide nesting.
func tooDeep(filename string, src []byte) (hcl.Range, bool) {
	tokens, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	var open []hclsyntax.TokenType // the closing tokens that are awaited
	repeated := 0
	for _, t := range tokens {
		switch closes := closing(t.Type); {
		case closes != hclsyntax.TokenNil:
			open = append(open, closes)
		case len(open) > 0 && t.Type == open[len(open)-1]:
			open = open[:len(open)-1]
		}
		switch t.Type {
		case hclsyntax.TokenQuestion, hclsyntax.TokenBang, hclsyntax.TokenStar,
			hclsyntax.TokenMinus, hclsyntax.TokenTemplateControl:
			repeated++
		}
		if len(open) > maxNesting || repeated > maxRepeated {
			return t.Range, true
		}
	}
	return hcl.Range{}, false
}

// closing returns the token that ends what t begins, or TokenNil.
func closing(t hclsyntax.TokenType) hclsyntax.TokenType {
	switch t {
	case hclsyntax.TokenOBrace:
		return hclsyntax.TokenCBrace
	case hclsyntax.TokenOBrack:
		return hclsyntax.TokenCBrack
	case hclsyntax.TokenOParen:
		return hclsyntax.TokenCParen
	case hclsyntax.TokenOQuote:
		return hclsyntax.TokenCQuote
	case hclsyntax.TokenOHeredoc:
		return hclsyntax.TokenCHeredoc
	case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		return hclsyntax.TokenTemplateSeqEnd
	default:
		return hclsyntax.TokenNil
	}
}
