package server

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// figuresWithin is for all that one scrape reads of the database.
const figuresWithin = 5 * time.Second

// figures are read at each scrape: from the record, where every instance gives the
// same, and of this process. Nothing is counted that grows with time.
type figures struct {
	s                                     *Server
	up, runs, oldest, audit, build, lines *prometheus.Desc
}

func (s *Server) newFigures() figures {
	return figures{s: s,
		up:     prometheus.NewDesc("waymark_database_up", "1 where the database answered this scrape, else 0.", nil, nil),
		runs:   prometheus.NewDesc("waymark_runs", "Runs that are not settled, by state.", []string{"state"}, nil),
		oldest: prometheus.NewDesc("waymark_runs_oldest_age_seconds", "For how long the first of them has been in that state; 0 where there is none.", []string{"state"}, nil),
		audit:  prometheus.NewDesc("waymark_audit_entries", "Entries of the audit log.", nil, nil),
		build:  prometheus.NewDesc("waymark_build_info", "1, with what this process was built from.", []string{"version", "goversion"}, nil),
		lines:  prometheus.NewDesc("waymark_log_readers", "Connections that follow the log of a run.", nil, nil)}
}

// Describe is part of prometheus.Collector.
func (f figures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.up, f.runs, f.oldest, f.audit, f.build, f.lines} {
		out <- d
	}
}

// Collect is part of prometheus.Collector. Where the database does not answer
// there are none of its figures, and the others are still served.
func (f figures) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(f.build, 1, strings.ToValidUTF8(f.s.cfg.Version, "?"), runtime.Version())
	gauge(f.lines, float64(len(f.s.followers)))
	ctx, cancel := context.WithTimeout(context.Background(), figuresWithin)
	defer cancel()
	waiting, err := f.s.cfg.Store.Waiting(ctx)
	size := int64(0)
	if err == nil {
		size, err = f.s.cfg.Store.AuditSize(ctx)
	}
	if err != nil {
		f.s.log.WarnContext(ctx, "the database cannot be asked for figures", "error", err)
		gauge(f.up, 0)
		return
	}
	gauge(f.up, 1)
	gauge(f.audit, float64(size))
	for state, w := range waiting {
		gauge(f.runs, float64(w.Runs), string(state))
		gauge(f.oldest, w.Oldest.Seconds(), string(state))
	}
}

// isStream reports a request whose answer lasts for as long as somebody listens:
// its time says nothing.
func isStream(r *http.Request) bool {
	return r.URL.Path == "/live" || strings.HasSuffix(r.URL.Path, "/events") ||
		strings.HasSuffix(r.URL.Path, "/logs") && r.URL.RawQuery != ""
}
