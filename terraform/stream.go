package terraform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
)

// maxMessage bounds one message of the engine's -json stream, in bytes.
const maxMessage = 16 << 20

// sensitive stands where a value must not be shown.
const sensitive = "(sensitive)"

// message is one line of the engine's machine-readable output, as far as it is
// used (https://developer.hashicorp.com/terraform/internals/machine-readable-ui).
type message struct {
	Message    string                   `json:"@message"`
	Type       string                   `json:"type"`
	Diagnostic *tfjson.Diagnostic       `json:"diagnostic"`
	Hook       *streamHook              `json:"hook"`
	Changes    *streamChanges           `json:"changes"`
	Outputs    map[string]*streamOutput `json:"outputs"`
}

type streamHook struct {
	Resource struct {
		Addr string `json:"addr"`
	} `json:"resource"`
	Action string `json:"action"`
}

type streamChanges struct {
	Add       int    `json:"add"`
	Change    int    `json:"change"`
	Remove    int    `json:"remove"`
	Operation string `json:"operation"`
}

type streamOutput struct {
	Sensitive bool            `json:"sensitive"`
	Value     json.RawMessage `json:"value"`
}

// stream collects what the messages of one plan or apply tell, and logs them.
type stream struct {
	log      func(...string)
	hold     func(...string) // takes diagnostics
	diags    []Diagnostic
	done     release.Changes // counted resource by resource
	total    *release.Changes
	outputs  map[string]string
	failed   []ResourceFailure
	starting map[string]string // address -> action, of what has begun and not ended
}

func newStream(log, hold func(...string)) *stream {
	return &stream{log: log, hold: hold, outputs: map[string]string{}, starting: map[string]string{}}
}

// read takes the messages of r until it ends. What is not a message is logged
// as it is: a panic of the engine, for instance.
func (s *stream) read(r io.Reader) {
	readLines(r, maxMessage, func(line []byte, isCut bool) {
		if isCut {
			s.log(fmt.Sprintf("(a message of more than %d MiB was left out)", maxMessage>>20))
			return
		}
		var m message
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			return
		}
		if line[0] != '{' {
			s.log(string(line))
			return
		}
		if err := json.Unmarshal(line, &m); err != nil {
			s.log("(a message that could not be read was left out)")
			return
		}
		s.take(m)
	})
}

func (s *stream) take(m message) {
	switch {
	case m.Type == "diagnostic" && m.Diagnostic != nil:
		d := diagnosticOf(*m.Diagnostic)
		s.hold(d.lines()...)
		if len(s.diags) < maxDiagnostics {
			s.diags = append(s.diags, d)
		}
		return
	case m.Type == "outputs":
		s.takeOutputs(m)
		return
	case m.Type == "change_summary" && m.Changes != nil:
		s.total = &release.Changes{Add: m.Changes.Add, Change: m.Changes.Change, Destroy: m.Changes.Remove}
	case m.Hook != nil:
		s.takeHook(m.Type, *m.Hook)
	}
	if m.Message != "" {
		s.log(m.Message)
	}
}

func (s *stream) takeHook(kind string, h streamHook) {
	addr := h.Resource.Addr
	switch kind {
	case "apply_start":
		s.starting[addr] = h.Action
	case "apply_complete":
		delete(s.starting, addr)
		switch h.Action {
		case "create":
			s.done.Add++
		case "update":
			s.done.Change++
		case "delete":
			s.done.Destroy++
		}
	case "apply_errored":
		delete(s.starting, addr)
		s.failed = append(s.failed, ResourceFailure{Address: addr, Action: h.Action})
	}
}

// takeOutputs keeps and logs the outputs' values. A plan's message has none:
// it says how many there are.
func (s *stream) takeOutputs(m message) {
	lines := []string{"Outputs:"}
	for _, name := range slices.Sorted(maps.Keys(m.Outputs)) {
		o := m.Outputs[name]
		if o == nil || !o.Sensitive && o.Value == nil {
			continue
		}
		s.outputs[name] = cut(o.text(), maxLine)
		lines = append(lines, "  "+name+" = "+s.outputs[name])
	}
	if len(s.outputs) == 0 {
		lines = []string{m.Message}
	}
	s.log(lines...)
}

// text is the value as people write it: a string without quotes, anything else
// as compact JSON.
func (o *streamOutput) text() string {
	if o.Sensitive {
		return sensitive
	}
	var str string
	if json.Unmarshal(o.Value, &str) == nil && string(o.Value) != "null" {
		return str
	}
	var buf bytes.Buffer
	if json.Compact(&buf, o.Value) != nil {
		return ""
	}
	return buf.String()
}

// failures is every resource that failed, with the reason where a diagnostic
// names one. A resource that had begun when the engine ended counts too.
func (s *stream) failures() []ResourceFailure {
	out := s.failed
	for _, addr := range slices.Sorted(maps.Keys(s.starting)) {
		out = append(out, ResourceFailure{Address: addr, Action: s.starting[addr], Reason: "its end was not seen"})
	}
	for _, d := range s.diags {
		if d.Severity != "error" || d.Address == "" {
			continue
		}
		i := slices.IndexFunc(out, func(f ResourceFailure) bool { return f.Address == d.Address })
		if i < 0 {
			out = append(out, ResourceFailure{Address: d.Address})
			i = len(out) - 1
		}
		if out[i].Reason == "" {
			place := d
			place.Address = ""
			out[i].Reason = place.reason()
		}
	}
	return out
}
