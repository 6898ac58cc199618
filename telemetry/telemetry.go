// Package telemetry sends the traces of runs to a collector, by OTLP over HTTP.
//
// One run is one trace. The ids of the trace and of its spans are computed from
// the installation, the run and the span's key, so that instances which have a
// run one after the other need to hand nothing on, and an id can be shown before
// there is a span.
//
// It must never hold up, slow down or fail a run: what does not fit into a queue
// of fixed size, or cannot be sent in time, is counted and forgotten. It knows no
// store and no run but by the spans that it is given.
package telemetry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/waymark-cd/waymark/release"
)

const (
	queueSize = 4096             // spans that wait; some fifty runs
	batchSize = 512              // spans of one request
	sendEvery = 2 * time.Second  // how long a span waits for others
	sendTries = 30 * time.Second // for how long a request is tried
	lastSend  = 3 * time.Second  // for what is left when the service stops
)

// Config says where traces go.
type Config struct {
	Endpoint     string            // http or https URL of the collector; /v1/traces is added
	Headers      map[string]string // of each request; may be secret
	CAFile       string            // certificates that are trusted beside the system's own; empty: none
	Sample       float64           // the part of all runs that is traced, 0 to 1
	Installation string            // tells this installation's runs from those of others; the same on every instance
	Instance     string            // the id of this process
	Version      string
	Logger       *slog.Logger
	Metrics      prometheus.Registerer
}

// Exporter sends spans while Run is at work. It is safe for concurrent use.
type Exporter struct {
	cfg    Config
	tracer trace.Tracer
	queue  chan sdktrace.ReadOnlySpan
	send   sdktrace.SpanExporter
	spans  *prometheus.CounterVec
	every  time.Duration
}

// New checks the configuration. It starts nothing and asks nobody.
func New(cfg Config) (*Exporter, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	e := &Exporter{cfg: cfg, queue: make(chan sdktrace.ReadOnlySpan, queueSize), every: sendEvery}
	e.spans = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_trace_spans_total",
		Help: "Spans of traces by what became of them: sent, dropped because too many waited, failed because the collector did not take them."}, []string{"result"})
	if err := cfg.Metrics.Register(e.spans); err != nil {
		return nil, err
	}
	for _, result := range []string{"sent", "dropped", "failed"} {
		e.spans.WithLabelValues(result)
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(strings.TrimSuffix(strings.TrimSuffix(cfg.Endpoint, "/"), "/v1/traces") + "/v1/traces"),
		otlptracehttp.WithHeaders(cfg.Headers), otlptracehttp.WithTimeout(sendTries / 3),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: sendTries / 3, MaxElapsedTime: sendTries}),
	}
	trusted, err := trust(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	if trusted != nil {
		options = append(options, otlptracehttp.WithTLSClientConfig(trusted))
	}
	if e.send, err = otlptracehttp.New(context.Background(), options...); err != nil {
		return nil, fmt.Errorf("%w: telemetry: %w", release.ErrInvalid, err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithIDGenerator(computed{}), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithSpanProcessor(queued{e}), sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "waymark"), attribute.String("service.version", cfg.Version),
			attribute.String("service.namespace", cfg.Installation), attribute.String("service.instance.id", cfg.Instance))))
	e.tracer = provider.Tracer("github.com/waymark-cd/waymark")
	return e, nil
}

// trust is nil where the system's own certificates are enough.
func trust(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: telemetry: reading ca_file: %w", release.ErrInvalid, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: telemetry: ca_file %s holds no certificate in PEM", release.ErrInvalid, file)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// TraceID is the id of a run's trace, in hexadecimal; empty for a run that is not
// traced.
func (e *Exporter) TraceID(run int64) string {
	id := e.traceOf(run)
	if !e.sampled(id) {
		return ""
	}
	return id.String()
}

func (e *Exporter) traceOf(run int64) trace.TraceID {
	sum := sha256.Sum256([]byte("waymark run trace\x00" + e.cfg.Installation + "\x00" + release.FormatID(run)))
	return trace.TraceID(sum[:16])
}

func spanOf(id trace.TraceID, key string) trace.SpanID {
	sum := sha256.Sum256([]byte(id.String() + "\x00" + key))
	return trace.SpanID(sum[:8])
}

// sampled decides by the id alone, as OpenTelemetry's TraceIDRatioBased does:
// every instance comes to the same.
func (e *Exporter) sampled(id trace.TraceID) bool {
	switch {
	case e.cfg.Sample >= 1:
		return true
	case e.cfg.Sample <= 0:
		return false
	}
	return binary.BigEndian.Uint64(id[8:])>>1 < uint64(e.cfg.Sample*math.MaxInt64)
}

// Span takes one span that has ended. It never waits.
func (e *Exporter) Span(s release.Span) {
	id := e.traceOf(s.RunID)
	if !e.sampled(id) || s.Start.IsZero() || s.End.IsZero() {
		return
	}
	ctx := context.WithValue(context.Background(), ids{}, ids{id, spanOf(id, s.Key)})
	if s.Parent != "" {
		ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: id, SpanID: spanOf(id, s.Parent), TraceFlags: trace.FlagsSampled, Remote: true}))
	}
	attributes := []attribute.KeyValue{attribute.Int64("waymark.run.id", s.RunID)}
	for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
		if s.Attributes[name] != "" {
			attributes = append(attributes, attribute.String("waymark."+name, s.Attributes[name]))
		}
	}
	_, span := e.tracer.Start(ctx, s.Name, trace.WithTimestamp(s.Start), trace.WithAttributes(attributes...))
	if s.Failed != "" {
		span.SetStatus(codes.Error, s.Failed)
	}
	span.End(trace.WithTimestamp(s.End))
}

// Run sends what Span takes until ctx ends, and then for a moment what is left.
func (e *Exporter) Run(ctx context.Context) {
	tick := time.NewTicker(e.every)
	defer tick.Stop()
	var batch []sdktrace.ReadOnlySpan
	for {
		select {
		case <-ctx.Done():
			e.sendRest(batch)
			return
		case s := <-e.queue:
			if batch = append(batch, s); len(batch) < batchSize {
				continue
			}
		case <-tick.C:
		}
		e.deliver(ctx, batch)
		batch = nil
	}
}

// sendRest makes one try with what is left at the end.
func (e *Exporter) sendRest(batch []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(context.Background(), lastSend)
	defer cancel()
	for {
		select {
		case s := <-e.queue:
			batch = append(batch, s)
			continue
		default:
		}
		break
	}
	for part := range slices.Chunk(batch, batchSize) {
		e.deliver(ctx, part)
	}
	_ = e.send.Shutdown(ctx) // it holds nothing back
}

// deliver sends one batch, or counts it as failed.
func (e *Exporter) deliver(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	err := e.send.ExportSpans(ctx, batch)
	if err == nil {
		e.spans.WithLabelValues("sent").Add(float64(len(batch)))
		return
	}
	e.spans.WithLabelValues("failed").Add(float64(len(batch)))
	if !errors.Is(err, context.Canceled) {
		e.cfg.Logger.Warn("the collector of traces does not take them; runs go on, these spans are lost", "spans", len(batch), "error", err)
	}
}

// ids are those that the next span gets, handed to the SDK in a context.
type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

// computed gives the SDK the ids that were computed, and makes none up.
type computed struct{}

// NewIDs is part of sdktrace.IDGenerator.
func (computed) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	of, _ := ctx.Value(ids{}).(ids)
	return of.trace, of.span
}

// NewSpanID is part of sdktrace.IDGenerator.
func (computed) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	of, _ := ctx.Value(ids{}).(ids)
	return of.span
}

// queued takes what the SDK hands on into the queue, or counts it as dropped.
type queued struct{ e *Exporter }

// OnStart is part of sdktrace.SpanProcessor.
func (queued) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd is part of sdktrace.SpanProcessor. It never waits.
func (q queued) OnEnd(s sdktrace.ReadOnlySpan) {
	select {
	case q.e.queue <- s:
	default:
		q.e.spans.WithLabelValues("dropped").Inc()
	}
}

// Shutdown is part of sdktrace.SpanProcessor.
func (queued) Shutdown(context.Context) error { return nil }

// ForceFlush is part of sdktrace.SpanProcessor.
func (queued) ForceFlush(context.Context) error { return nil }
