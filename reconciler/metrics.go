package reconciler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// metrics are the reconciler's own; names follow Prometheus' conventions.
type metrics struct {
	looks       *prometheus.CounterVec
	lookTime    *prometheus.HistogramVec
	tags        *prometheus.CounterVec
	ended       *prometheus.CounterVec
	runTime     *prometheus.HistogramVec
	waitTime    *prometheus.HistogramVec
	stageTime   *prometheus.HistogramVec
	gateTime    *prometheus.HistogramVec
	commandTime *prometheus.HistogramVec
	driving     prometheus.Gauge
	taken       prometheus.Counter
	lost        prometheus.Counter
}

// The bounds of histograms, in seconds: of what machines do, and of what also
// waits for people or for its time.
var (
	machineTime = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600}
	humanTime   = []float64{.25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
)

func newMetrics(reg prometheus.Registerer, leads func() float64) (*metrics, error) {
	m := &metrics{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_repository_polls_total",
			Help: "Looks at a repository's tags, by result."}, []string{"repository", "result"}),
		lookTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_repository_poll_duration_seconds",
			Help: "Time of one look at a repository's tags."}, []string{"repository"}),
		tags: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tags_total",
			Help: "Tags decided on, by decision."}, []string{"repository", "decision"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_runs_ended_total",
			Help: "Runs that ended, by environment, kind and state."}, []string{"env", "kind", "state"}),
		runTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_run_duration_seconds", Buckets: humanTime,
			Help: "Time from a run's start to its end, waiting for approval included."}, []string{"env", "kind", "state"}),
		waitTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_run_wait_duration_seconds", Buckets: humanTime,
			Help: "Time from a run's creation to its first start: for its turn, its time and a worker."}, []string{"env"}),
		stageTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_stage_duration_seconds", Buckets: humanTime,
			Help: "Time of one stage of a run, by how it ended; that of approval is what people took."}, []string{"env", "stage", "state"}),
		gateTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_gate_duration_seconds", Buckets: machineTime,
			Help: "Time of one execution of a gate; a result that was kept is none."}, []string{"gate"}),
		commandTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_engine_command_duration_seconds", Buckets: machineTime,
			Help: "Time of one process of the engine."}, []string{"command"}),
		driving: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_runs_active",
			Help: "Runs that this process is driving now."}),
		taken: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_runs_taken_over_total",
			Help: "Runs that this process took over from an instance without a sign of life."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_runs_lost_total",
			Help: "Runs that another instance took over from this process while it was silent."}),
	}
	leading := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waymark_instance_leads",
		Help: "1 while this process leads: it watches the repositories."}, leads)
	for _, c := range []prometheus.Collector{m.looks, m.lookTime, m.tags, m.ended, m.runTime, m.waitTime, m.stageTime, m.gateTime,
		m.commandTime, m.driving, m.taken, m.lost, leading} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// expect makes the series of what is watched for before there is one: a counter
// whose first sight is 1 has not increased for who watches it.
func (m *metrics) expect(environments []config.Environment, repositories []config.Repository) {
	for _, e := range environments {
		m.ended.WithLabelValues(e.Name, string(release.Deploy), string(release.Unknown))
		m.ended.WithLabelValues(e.Name, string(release.Deploy), string(release.Failed))
	}
	for _, r := range repositories {
		m.looks.WithLabelValues(r.Name, "ok")
		m.looks.WithLabelValues(r.Name, "error")
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

// began counts how long a run waited for its first start.
func (m *metrics) began(r release.Run) {
	if r.Attempt == 1 {
		m.waitTime.WithLabelValues(r.Target.Env).Observe(max(0, r.StartedAt.Sub(r.CreatedAt).Seconds()))
	}
}

// stage counts one that was begun and has ended, and what ran for it.
func (m *metrics) stage(env string, s release.Stage, commands []release.Command) {
	if s.StartedAt.IsZero() || s.FinishedAt.IsZero() {
		return
	}
	m.stageTime.WithLabelValues(env, string(s.Name), string(s.State)).Observe(max(0, s.FinishedAt.Sub(s.StartedAt).Seconds()))
	for _, c := range commands {
		took := max(0, c.FinishedAt.Sub(c.StartedAt).Seconds())
		if judges(s.Name) {
			m.gateTime.WithLabelValues(c.Name).Observe(took)
		} else {
			m.commandTime.WithLabelValues(c.Name).Observe(took)
		}
	}
}

// judges reports whether the commands of a stage are gates.
func judges(stage release.StageName) bool {
	return stage == release.StageLint || stage == release.StageScan
}

func (m *metrics) end(r release.Run) {
	m.ended.WithLabelValues(r.Target.Env, string(r.Kind), string(r.State)).Inc()
	if !r.StartedAt.IsZero() {
		m.runTime.WithLabelValues(r.Target.Env, string(r.Kind), string(r.State)).Observe(r.FinishedAt.Sub(r.StartedAt).Seconds())
	}
}
