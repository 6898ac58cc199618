package server

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// docsBody is the OpenAPI document as a reader wants it. The usual viewers load
// scripts from elsewhere; this page needs none.
type docsBody struct {
	Title, Description string
	Operations         []docsOperation
	Schemas            []docsSchema
}

type docsOperation struct {
	ID, Method, Path, Summary, Description string
	Params                                 []docsField
	Body                                   docsType
	Answers                                []docsAnswer
}

type docsAnswer struct {
	Status, Description string
	Type                docsType
}

type docsSchema struct {
	Name   string
	Fields []docsField
}

type docsField struct {
	Name, In, Note string
	Type           docsType
	Required       bool
}

// docsType names a type; Ref is the schema on the same page, or empty.
type docsType struct{ Before, Ref, Plain string }

// docs renders the page once; it never changes while the service runs.
func (p *pages) docs(doc *huma.OpenAPI) ([]byte, error) {
	body := docsBody{Title: doc.Info.Title, Description: doc.Info.Description}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, m := range []struct {
			method string
			op     *huma.Operation
		}{{http.MethodGet, item.Get}, {http.MethodPost, item.Post}} {
			if m.op != nil {
				body.Operations = append(body.Operations, docsOperationOf(m.method, path, m.op))
			}
		}
	}
	schemas := doc.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		body.Schemas = append(body.Schemas, docsSchema{Name: name, Fields: docsFieldsOf(schemas[name])})
	}
	var b bytes.Buffer
	f := frame{Title: "API", Style: p.style, Version: doc.Info.Version, Body: body, now: time.Time{}}
	if err := p.templates.ExecuteTemplate(&b, "docs.html", f); err != nil {
		return nil, fmt.Errorf("rendering the API's page: %w", err)
	}
	return b.Bytes(), nil
}

func docsOperationOf(method, path string, op *huma.Operation) docsOperation {
	out := docsOperation{ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		out.Params = append(out.Params, docsField{Name: p.Name, In: p.In, Required: p.Required,
			Type: docsTypeOf(p.Schema), Note: docsNote(cmp.Or(p.Description, p.Schema.Description), p.Schema)})
	}
	if op.RequestBody != nil {
		for _, media := range op.RequestBody.Content {
			out.Body = docsTypeOf(media.Schema)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		answer := docsAnswer{Status: status, Description: op.Responses[status].Description}
		for _, media := range op.Responses[status].Content {
			answer.Type = docsTypeOf(media.Schema)
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

func docsFieldsOf(s *huma.Schema) []docsField {
	var out []docsField
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f := s.Properties[name]
		out = append(out, docsField{Name: name, Type: docsTypeOf(f), Required: slices.Contains(s.Required, name), Note: docsNote(f.Description, f)})
	}
	return out
}

func docsTypeOf(s *huma.Schema) docsType {
	switch {
	case s == nil:
		return docsType{}
	case s.Ref != "":
		return docsType{Ref: s.Ref[strings.LastIndex(s.Ref, "/")+1:]}
	case s.Items != nil:
		item := docsTypeOf(s.Items)
		item.Before = "list of " + item.Before
		return item
	case s.Format != "":
		return docsType{Plain: s.Type + ", " + s.Format}
	default:
		return docsType{Plain: s.Type}
	}
}

// docsNote adds to a description what values are allowed.
func docsNote(description string, s *huma.Schema) string {
	notes := []string{}
	if description != "" {
		notes = append(notes, description)
	}
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, e := range s.Enum {
			words[i] = fmt.Sprint(e)
		}
		notes = append(notes, "one of "+strings.Join(words, ", "))
	}
	if s.Minimum != nil && s.Maximum != nil {
		notes = append(notes, fmt.Sprintf("%g to %g", *s.Minimum, *s.Maximum))
	}
	if s.Default != nil {
		notes = append(notes, fmt.Sprintf("default %v", s.Default))
	}
	if len(s.Examples) > 0 {
		notes = append(notes, fmt.Sprintf("such as %v", s.Examples[0]))
	}
	return strings.Join(notes, "; ")
}
