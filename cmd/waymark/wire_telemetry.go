package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/telemetry"
)

// openTelemetry makes what sends the traces of runs, where the configuration asks
// for them. It returns the log whose lines about a run say the run's trace.
func (s *service) openTelemetry(ctx context.Context, id string, log *slog.Logger, metrics prometheus.Registerer) (*slog.Logger, error) {
	t := s.cfg.Telemetry
	if !t.IsSet() {
		return log, nil
	}
	installation, err := s.installation(ctx)
	if err != nil {
		return log, err
	}
	headers := map[string]string{}
	for name, value := range t.Headers {
		headers[name] = value.Reveal()
	}
	s.telemetry, err = telemetry.New(telemetry.Config{Endpoint: t.Endpoint, Headers: headers, CAFile: t.CAFile, Sample: float64(t.Sample),
		Installation: installation, Instance: id, Version: versionText(), Logger: log, Metrics: metrics})
	if err != nil {
		return log, err
	}
	return slog.New(tracedHandler{log.Handler(), s.telemetry.TraceID}), nil
}

// installation is what tells the runs of this database from those of others: the
// name that its audit log was given first.
func (s *service) installation(ctx context.Context) (string, error) {
	if _, err := openAuditKeys(ctx, s.cfg, s.store); err != nil { // at the first start there is no name yet
		return "", err
	}
	keys, err := s.store.AuditKeys(ctx)
	if err != nil {
		return "", err
	}
	first := keys[0]
	for _, k := range keys[1:] {
		if k.CreatedAt.Before(first.CreatedAt) {
			first = k
		}
	}
	name, _, _ := strings.Cut(first.Verifier, "+")
	return name, nil
}

// traceID is nil where no run is traced.
func (s *service) traceID() func(run int64) string {
	if s.telemetry == nil {
		return nil
	}
	return s.telemetry.TraceID
}

// sendTraces sends spans until ctx ends.
func (s *service) sendTraces(ctx context.Context) {
	if s.telemetry != nil {
		s.telemetry.Run(ctx)
	}
}

// maskedSpans takes the service's own secrets out of what spans say.
func maskedSpans(to func(release.Span), hide *mask.Mask) func(release.Span) {
	return func(s release.Span) {
		s.Failed = hide.Text(s.Failed) // an error may say anything
		for name, value := range s.Attributes {
			s.Attributes[name] = hide.Known(value)
		}
		to(s)
	}
}

// tracedHandler adds the id of a run's trace to each line about a run.
type tracedHandler struct {
	slog.Handler
	id func(run int64) string
}

// Handle looks for the run that a record is about.
func (h tracedHandler) Handle(ctx context.Context, r slog.Record) error {
	found := ""
	r.Attrs(func(a slog.Attr) bool {
		found = h.of(a)
		return found == ""
	})
	if found != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", found))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs looks for the run that every record will be about.
func (h tracedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := append([]slog.Attr(nil), attrs...)
	for _, a := range attrs {
		if id := h.of(a); id != "" {
			with = append(with, slog.String("trace_id", id))
		}
	}
	return tracedHandler{h.Handler.WithAttrs(with), h.id}
}

// WithGroup passes the group on.
func (h tracedHandler) WithGroup(name string) slog.Handler {
	return tracedHandler{h.Handler.WithGroup(name), h.id}
}

// of is the trace of the run that an attribute names; empty where it names none.
func (h tracedHandler) of(a slog.Attr) string {
	if a.Key != "run" || a.Value.Kind() != slog.KindInt64 || a.Value.Int64() <= 0 {
		return ""
	}
	return h.id(a.Value.Int64())
}
