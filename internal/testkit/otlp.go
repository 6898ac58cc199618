package testkit

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// OTLPSpan is one span as a collector got it. Ids are in hexadecimal.
type OTLPSpan struct {
	Trace, ID, Parent string
	Name              string
	Start, End        time.Time
	Attributes        map[string]string
	Failed            string // the message of a status that is an error
	Instance          string // of the process that sent it
}

// Collector is a real receiver of OTLP over HTTP, with protocol buffers.
type Collector struct {
	URL string
	t   testing.TB

	mu      sync.Mutex
	status  int // that it answers with; 0: it takes everything
	hold    chan struct{}
	spans   []OTLPSpan
	headers []http.Header
}

// NewCollector starts a collector that takes everything. It ends with the test.
func NewCollector(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", c.serve)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(c.LetGo) // a request that is held would hold up Close
	c.URL = s.URL
	return c
}

// Refuses makes it answer everything with a status from now on; 0 takes everything.
func (c *Collector) Refuses(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// Hold makes it answer nothing until LetGo.
func (c *Collector) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold == nil {
		c.hold = make(chan struct{})
	}
}

// LetGo ends Hold.
func (c *Collector) LetGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold != nil {
		close(c.hold)
		c.hold = nil
	}
}

func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	spans, err := readOTLP(r)
	if err != nil {
		c.t.Errorf("what the collector got is not OTLP: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	status, hold := c.status, c.hold
	c.headers = append(c.headers, r.Header.Clone())
	if status == 0 && hold == nil {
		c.spans = append(c.spans, spans...)
	}
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
		return
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	_, _ = w.Write(answer)
}

// readOTLP decodes one request.
func readOTLP(r *http.Request) (out []OTLPSpan, err error) {
	body := io.Reader(r.Body)
	if got := r.Header.Get("Content-Type"); got != "application/x-protobuf" {
		return nil, fmt.Errorf("content type %q", got)
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(r.Body); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &request); err != nil {
		return nil, err
	}
	for _, of := range request.ResourceSpans {
		instance := texts(of.GetResource().GetAttributes())["service.instance.id"]
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				span := OTLPSpan{Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId),
					Name: s.Name, Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
					Attributes: texts(s.Attributes), Instance: instance}
				if s.GetStatus().GetCode() == 2 { // STATUS_CODE_ERROR
					span.Failed = s.GetStatus().GetMessage()
				}
				out = append(out, span)
			}
		}
	}
	return out, nil
}

// texts are attributes with their values as text.
func texts(attributes []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			out[a.Key] = fmt.Sprint(v.IntValue)
		default:
			out[a.Key] = fmt.Sprint(v)
		}
	}
	return out
}

// Spans returns all that it has taken so far.
func (c *Collector) Spans() []OTLPSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]OTLPSpan{}, c.spans...)
}

// Headers returns those of all requests so far, also of those that it refused.
func (c *Collector) Headers() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]http.Header{}, c.headers...)
}

// TraceOf returns the spans of one trace, by id. It fails the test where a span's
// parent is missing, or where there is not one span without any.
func (c *Collector) TraceOf(trace string) map[string]OTLPSpan {
	c.t.Helper()
	out, roots := map[string]OTLPSpan{}, 0
	for _, s := range c.Spans() {
		if s.Trace == trace {
			out[s.ID] = s
		}
	}
	for _, s := range out {
		if s.Parent == "" {
			roots++
		} else if _, there := out[s.Parent]; !there {
			c.t.Errorf("the parent of span %q is missing", s.Name)
		}
		if s.End.Before(s.Start) {
			c.t.Errorf("span %q ends before it starts", s.Name)
		}
	}
	if roots != 1 {
		c.t.Errorf("trace %s has %d spans without a parent, of %d: want 1", trace, roots, len(out))
	}
	return out
}
