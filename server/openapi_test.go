package server_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"
)

var updateAPI = flag.Bool("update-api", false, "write docs/openapi.json anew, where nothing that clients use has gone")

const keptAPI = "../docs/openapi.json"

// TestTheAPIKeepsItsWord holds the API's description against the copy that is
// kept: what clients rely on may grow, and never goes.
func TestTheAPIKeepsItsWord(t *testing.T) {
	w := newWorld(t, nil)
	_, body := w.do("GET", "/openapi.json", "")
	now, err := readAPI([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(now, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	file, err := os.ReadFile(keptAPI)
	if os.IsNotExist(err) && *updateAPI {
		file = text
	} else if err != nil {
		t.Fatal(err)
	}
	kept, err := readAPI(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range missing("", kept, now) {
		t.Errorf("clients rely on what has gone: %s", broken)
	}
	switch {
	case t.Failed() || string(file) == string(text) && !*updateAPI:
	case *updateAPI:
		if err := os.WriteFile(keptAPI, text, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the API has grown: keep its description by go test ./server -run TheAPIKeeps -update-api, and read the difference")
	}
}

// readAPI decodes a description without what changes with each version.
func readAPI(text []byte) (map[string]any, error) {
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if info, ok := doc["info"].(map[string]any); ok {
		info["version"] = ""
	}
	return doc, nil
}

// missing lists what a description has no more. Words for people may change.
func missing(at string, kept, now any) (out []string) {
	switch kept := kept.(type) {
	case map[string]any:
		now, ok := now.(map[string]any)
		if !ok {
			return []string{at}
		}
		for key, value := range kept {
			if slices.Contains([]string{"description", "summary", "title", "example", "examples", "info"}, key) {
				continue
			}
			other, ok := now[key]
			if !ok {
				out = append(out, at+"/"+key)
				continue
			}
			out = append(out, missing(at+"/"+key, value, other)...)
		}
		return out
	case []any:
		now, ok := now.([]any)
		if !ok {
			return []string{at}
		}
		for _, value := range kept {
			if !slices.ContainsFunc(now, func(other any) bool { return len(missing(at, value, other)) == 0 }) {
				out = append(out, fmt.Sprintf("%s: %v", at, value))
			}
		}
		return append(out, demanded(at, kept, now)...)
	}
	if !reflect.DeepEqual(kept, now) {
		return []string{fmt.Sprintf("%s was %v and is %v", at, kept, now)}
	}
	return nil
}

// demanded lists parameters that requests need now and did not before.
func demanded(at string, kept, now []any) (out []string) {
	needs := func(all []any) map[any]bool {
		names := map[any]bool{}
		for _, p := range all {
			if p, ok := p.(map[string]any); ok && p["in"] != nil && p["required"] == true {
				names[p["name"]] = true
			}
		}
		return names
	}
	before := needs(kept)
	for name := range needs(now) {
		if !before[name] {
			out = append(out, fmt.Sprintf("%s: a request without %v", at, name))
		}
	}
	return out
}

func TestMissingSeesWhatBreaksClients(t *testing.T) {
	read := func(text string) (v any) {
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	const kept = `{"paths": {"/a": {"get": {"parameters": [{"name": "x", "in": "query", "description": "old"}]}}}, "enum": ["a", "b"], "type": "string"}`
	for now, broken := range map[string]bool{
		kept: false,
		`{"paths": {"/a": {"get": {"parameters": [{"name": "y", "in": "query"}, {"name": "x", "in": "query", "description": "new"}]}}, "/b": {}}, "enum": ["a", "b", "c"], "type": "string"}`: false,
		`{"paths": {"/b": {}}, "enum": ["a", "b"], "type": "string"}`:                                                                                                      true,
		`{"paths": {"/a": {"get": {"parameters": [{"name": "x", "in": "query"}]}}}, "enum": ["a"], "type": "string"}`:                                                      true,
		`{"paths": {"/a": {"get": {"parameters": [{"name": "x", "in": "query"}]}}}, "enum": ["a", "b"], "type": "integer"}`:                                                true,
		`{"paths": {"/a": {"get": {"parameters": [{"name": "x", "in": "query"}, {"name": "z", "in": "query", "required": true}]}}}, "enum": ["a", "b"], "type": "string"}`: true,
	} {
		if got := missing("", read(kept), read(now)); (len(got) > 0) != broken {
			t.Errorf("%s: %q", now, got)
		}
	}
}
