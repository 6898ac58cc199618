package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// instances reads every instance on record, with the runs that each has in hand.
func (s *Server) instances(ctx context.Context) ([]api.Instance, error) {
	inHand, err := s.cfg.Store.InHand(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Store.Instances(ctx)
	return mapped(all, func(i store.Instance) api.Instance {
		out := s.wireInstance(i)
		out.RunsInHand = inHand[i.ID]
		return out
	}), err
}

func (s *Server) wireInstance(i store.Instance) api.Instance {
	out := api.Instance{ID: i.ID, Name: i.Name, Host: i.Host, Roles: append([]string{}, i.Roles...), Pools: []string{},
		Version: i.Version, ConfigDigest: i.ConfigDigest, State: api.InstanceAlive,
		StartedAt: utc(i.StartedAt), BeatAt: utc(i.BeatAt), BeatAge: i.Age.Milliseconds(), StoppedAt: utc(i.StoppedAt)}
	if i.Pool != "" {
		out.Pools = strings.Split(i.Pool, ",")
	}
	switch {
	case !i.StoppedAt.IsZero():
		out.State = api.InstanceStopped
	case i.Age >= s.cfg.Heartbeat:
		out.State = api.InstanceDead
	case i.Draining:
		out.State = api.InstanceDraining
	}
	return out
}

func (s *Server) listInstances(ctx context.Context, _ *noInput) (api.InstanceList, error) {
	if err := s.may(ctx, identity.Watch, release.Target{}); err != nil {
		return api.InstanceList{}, err
	}
	all, err := s.instances(ctx)
	return api.InstanceList{Instances: all, Self: s.cfg.Self, ConfigDigest: s.cfg.ConfigDigest}, err
}

type drainInput struct {
	ID   string     `path:"id" maxLength:"200" doc:"Id of the instance" example:"host-0123456789abcdef"`
	Body *api.Drain // may be left out
}

func (s *Server) drainInstance(ctx context.Context, in *drainInput) (api.Instance, error) {
	if err := s.may(ctx, identity.Drain, release.Target{}); err != nil {
		return api.Instance{}, err
	}
	if s.cfg.Drain == nil {
		return api.Instance{}, fmt.Errorf("%w: this service drains no instances", release.ErrUnavailable)
	}
	var d api.Drain
	if in.Body != nil {
		d = *in.Body
	}
	if err := s.cfg.Drain(ctx, in.ID, d.Undo, s.actor(ctx), strings.TrimSpace(d.Reason)); err != nil {
		return api.Instance{}, err
	}
	all, err := s.instances(ctx)
	if err != nil {
		return api.Instance{}, err
	}
	i := slices.IndexFunc(all, func(i api.Instance) bool { return i.ID == in.ID })
	if i < 0 {
		return api.Instance{}, fmt.Errorf("instance %q: %w: it was forgotten meanwhile", in.ID, release.ErrNotFound)
	}
	return all[i], nil
}

// instanceMetrics reads the instances at each scrape, so that the figures are
// those of the record and not of this process's memory.
type instanceMetrics struct {
	server *Server
	info   *prometheus.Desc
	count  *prometheus.Desc
}

// scrapeWithin bounds how long a scrape waits for the database.
const scrapeWithin = 5 * time.Second

func (s *Server) newInstanceMetrics() instanceMetrics {
	return instanceMetrics{server: s,
		info: prometheus.NewDesc("waymark_instance_info", "1 for each instance that lives, with what it tells of itself.",
			[]string{"id", "name", "version", "config_digest", "roles", "pool"}, nil),
		count: prometheus.NewDesc("waymark_instances", "Instances on record by state.", []string{"state"}, nil)}
}

// Describe is part of prometheus.Collector.
func (m instanceMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.info
	out <- m.count
}

// Collect is part of prometheus.Collector. Where the database does not answer
// there are no figures, and the others are still served.
func (m instanceMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	all, err := m.server.cfg.Store.Instances(ctx)
	if err != nil {
		m.server.log.WarnContext(ctx, "instances cannot be counted", "error", err)
		return
	}
	states := map[string]int{api.InstanceAlive: 0, api.InstanceDraining: 0, api.InstanceDead: 0, api.InstanceStopped: 0}
	for _, stored := range all {
		i := m.server.wireInstance(stored)
		states[i.State]++
		if i.Lives() {
			m.send(out, m.info, 1, i.ID, i.Name, i.Version, i.ConfigDigest, strings.Join(i.Roles, ","), strings.Join(i.Pools, ","))
		}
	}
	for state, n := range states {
		m.send(out, m.count, float64(n), state)
	}
}

// send leaves out what Prometheus cannot carry, such as a name that is not UTF-8.
func (m instanceMetrics) send(out chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	if metric, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, value, labels...); err == nil {
		out <- metric
	}
}
