package reconciler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// metrics are the reconciler's own; names follow Prometheus' conventions.
type metrics struct {
	looks    *prometheus.CounterVec
	lookTime *prometheus.HistogramVec
	tags     *prometheus.CounterVec
	ended    *prometheus.CounterVec
	runTime  *prometheus.HistogramVec
	driving  prometheus.Gauge
	taken    prometheus.Counter
	lost     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_repository_polls_total",
			Help: "Looks at a repository's tags, by result."}, []string{"repository", "result"}),
		lookTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_repository_poll_duration_seconds",
			Help: "Time of one look at a repository's tags."}, []string{"repository"}),
		tags: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tags_total",
			Help: "Tags decided on, by decision."}, []string{"repository", "decision"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_runs_ended_total",
			Help: "Runs that ended, by environment, kind and state."}, []string{"env", "kind", "state"}),
		runTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_run_duration_seconds",
			Help:    "Time from a run's start to its end, waiting for approval included.",
			Buckets: []float64{.25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}}, []string{"env", "kind", "state"}),
		driving: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_runs_active",
			Help: "Runs that this process is driving now."}),
		taken: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_runs_taken_over_total",
			Help: "Runs that this process took over from an instance without a sign of life."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_runs_lost_total",
			Help: "Runs that another instance took over from this process while it was silent."}),
	}
	for _, c := range []prometheus.Collector{m.looks, m.lookTime, m.tags, m.ended, m.runTime, m.driving, m.taken, m.lost} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// expect makes the series of unknown runs before there is one: a counter whose
// first sight is 1 has not increased for who watches it.
func (m *metrics) expect(environments []config.Environment) {
	for _, e := range environments {
		m.ended.WithLabelValues(e.Name, string(release.Deploy), string(release.Unknown))
	}
}

func (m *metrics) look(repository string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.looks.WithLabelValues(repository, result).Inc()
	m.lookTime.WithLabelValues(repository).Observe(took.Seconds())
}

func (m *metrics) tag(repository string, d release.Decision) {
	m.tags.WithLabelValues(repository, string(d)).Inc()
}

func (m *metrics) end(r release.Run) {
	m.ended.WithLabelValues(r.Target.Env, string(r.Kind), string(r.State)).Inc()
	if !r.StartedAt.IsZero() {
		m.runTime.WithLabelValues(r.Target.Env, string(r.Kind), string(r.State)).Observe(r.FinishedAt.Sub(r.StartedAt).Seconds())
	}
}
