package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/waymark-cd/waymark/release"
)

// Files reads a repository at one commit. ReadFile takes a path from the root,
// with slashes, and returns an error that wraps fs.ErrNotExist where there is
// no such file.
type Files interface {
	ReadFile(path string) ([]byte, error)
}

// noFiles stands for a repository that is not at hand.
type noFiles struct{}

// ReadFile returns an error that wraps release.ErrUnavailable.
func (noFiles) ReadFile(path string) ([]byte, error) {
	return nil, fmt.Errorf("%w: %s is in the repository, which is not at hand", release.ErrUnavailable, path)
}

// insidePath cleans a path of the repository. One that leaves it, is absolute
// or holds a control character or a backslash gives an error that wraps
// release.ErrRefused.
func insidePath(p string) (string, error) {
	switch {
	case p == "":
		return "", fmt.Errorf("%w: a path in the repository is empty", release.ErrRefused)
	case strings.ContainsFunc(p, isControl) || strings.Contains(p, `\`):
		return "", fmt.Errorf("%w: the path %q holds a control character or a backslash", release.ErrRefused, short(p))
	case path.IsAbs(p):
		return "", fmt.Errorf("%w: the path %q is absolute: write it from the root of the repository", release.ErrRefused, short(p))
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "", fmt.Errorf("%w: the path %q climbs with \"..\": write it from the root of the repository", release.ErrRefused, short(p))
	}
	return path.Clean(p), nil
}

// readVariable reads a literal from a variables file. Nothing in the file is
// evaluated. Errors wrap release.ErrRefused where file or variable is not
// there, release.ErrInvalid where they cannot be read.
func readVariable(files Files, file, name string) (cty.Value, error) {
	src, err := files.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cty.NilVal, fmt.Errorf("%w: the commit has no file %s, which must set %q: add it", release.ErrRefused, file, name)
	case err != nil:
		return cty.NilVal, fmt.Errorf("reading %s: %w", file, err)
	case len(src) > maxFile:
		return cty.NilVal, fmt.Errorf("%w: %s is larger than %d bytes", release.ErrInvalid, file, maxFile)
	}
	var v cty.Value
	if strings.HasSuffix(file, ".json") {
		v, err = jsonVariable(src, file, name)
	} else {
		v, err = hclVariable(src, file, name)
	}
	if err != nil {
		return cty.NilVal, err
	}
	if !printable(v) || v.Type() == cty.String && (len(v.AsString()) > maxText || strings.ContainsFunc(v.AsString(), isControl)) {
		return cty.NilVal, fmt.Errorf("%w: %s: the value of %q is too large or holds a control character", release.ErrInvalid, file, name)
	}
	return v, nil
}

// hclVariable reads a literal from a file in HCL.
func hclVariable(src []byte, file, name string) (cty.Value, error) {
	body, problems := parseBody(file, src)
	if problems != nil {
		return cty.NilVal, problems
	}
	attr := body.Attributes[name]
	if attr == nil {
		return cty.NilVal, lacks(file, name, slices.Sorted(maps.Keys(body.Attributes)))
	}
	v, ok := literal(attr.Expr)
	if !ok {
		return cty.NilVal, fmt.Errorf("%w: %s:%d: %q must be a literal string, number or bool", release.ErrInvalid,
			file, attr.SrcRange.Start.Line, name)
	}
	return v, nil
}

// literal returns the value of an expression that is one, without evaluating
// anything else.
func literal(expr hclsyntax.Expression) (cty.Value, bool) {
	switch e := expr.(type) {
	case *hclsyntax.LiteralValueExpr:
		return e.Val, !e.Val.IsNull()
	case *hclsyntax.TemplateExpr:
		if len(e.Parts) == 0 {
			return cty.StringVal(""), true
		}
		if !e.IsStringLiteral() {
			return cty.NilVal, false
		}
		return literal(e.Parts[0])
	case *hclsyntax.UnaryOpExpr:
		number, ok := e.Val.(*hclsyntax.LiteralValueExpr)
		if !ok || e.Op != hclsyntax.OpNegate || number.Val.Type() != cty.Number {
			return cty.NilVal, false
		}
		return number.Val.Negate(), true
	default:
		return cty.NilVal, false
	}
}

// jsonVariable reads a literal from a file in JSON.
func jsonVariable(src []byte, file, name string) (cty.Value, error) {
	fail := func(err error) (cty.Value, error) {
		return cty.NilVal, fmt.Errorf("%w: %s is no JSON object of variables: %w", release.ErrInvalid, file, err)
	}
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fail(errors.Join(err, errors.New("it must begin with a brace")))
	}
	found, names := cty.NilVal, []string(nil)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return fail(err)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return fail(err)
		}
		names = append(names, key.(string))
		if key != name {
			continue
		}
		if found != cty.NilVal {
			return cty.NilVal, fmt.Errorf("%w: %s sets %q twice", release.ErrInvalid, file, name)
		}
		if found, err = jsonLiteral(value); err != nil {
			return cty.NilVal, fmt.Errorf("%w: %s: %q must be a literal string, number or bool", release.ErrInvalid, file, name)
		}
	}
	if _, err := d.Token(); err != nil {
		return fail(err)
	}
	if found == cty.NilVal {
		slices.Sort(names)
		return cty.NilVal, lacks(file, name, names)
	}
	return found, nil
}

// jsonLiteral turns a decoded JSON value into one of the configuration.
func jsonLiteral(value any) (cty.Value, error) {
	switch v := value.(type) {
	case string:
		return cty.StringVal(v), nil
	case bool:
		return cty.BoolVal(v), nil
	case json.Number:
		return cty.ParseNumberVal(v.String())
	default:
		return cty.NilVal, errors.New("neither string, number nor bool")
	}
}

// lacks says that a file does not set a variable.
func lacks(file, name string, names []string) error {
	hint := "set it there"
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("%w: %s does not set %q: %s", release.ErrRefused, file, name, hint)
}
