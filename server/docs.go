package server

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waymark-cd/waymark/page"
)

// docs renders the page once; it never changes while the service runs.
func (s *Server) docs(doc *huma.OpenAPI) ([]byte, error) {
	body := page.Docs{Title: doc.Info.Title, Description: doc.Info.Description}
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
		body.Schemas = append(body.Schemas, page.DocsSchema{Name: name, Fields: docsFieldsOf(schemas[name])})
	}
	var b bytes.Buffer
	f := page.Frame{Title: "API", Assets: s.assets, Here: "/docs", Version: doc.Info.Version}
	if err := page.DocsPage(f, body).Render(context.Background(), &b); err != nil {
		return nil, fmt.Errorf("rendering the API's page: %w", err)
	}
	return b.Bytes(), nil
}

func docsOperationOf(method, path string, op *huma.Operation) page.DocsOperation {
	out := page.DocsOperation{ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		out.Params = append(out.Params, page.DocsField{Name: p.Name, In: p.In, Required: p.Required,
			Type: docsTypeOf(p.Schema), Note: docsNote(cmp.Or(p.Description, p.Schema.Description), p.Schema)})
	}
	if op.RequestBody != nil {
		for _, media := range op.RequestBody.Content {
			out.Body = docsTypeOf(media.Schema)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		answer := page.DocsAnswer{Status: status, Description: op.Responses[status].Description}
		for _, media := range op.Responses[status].Content {
			answer.Type = docsTypeOf(media.Schema)
		}
		out.Answers = append(out.Answers, answer)
	}
	return out
}

func docsFieldsOf(s *huma.Schema) []page.DocsField {
	var out []page.DocsField
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f := s.Properties[name]
		out = append(out, page.DocsField{Name: name, Type: docsTypeOf(f), Required: slices.Contains(s.Required, name), Note: docsNote(f.Description, f)})
	}
	return out
}

func docsTypeOf(s *huma.Schema) page.DocsType {
	switch {
	case s == nil:
		return page.DocsType{}
	case s.Ref != "":
		return page.DocsType{Ref: s.Ref[strings.LastIndex(s.Ref, "/")+1:]}
	case s.Items != nil:
		item := docsTypeOf(s.Items)
		item.Before = "list of " + item.Before
		return item
	case s.Format != "":
		return page.DocsType{Plain: s.Type + ", " + s.Format}
	default:
		return page.DocsType{Plain: s.Type}
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
