package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/notify/cloudevents"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// openConsumers makes what hands the audit log to webhooks. Each has a lease of
// its own, so that one instance at a time sends to it.
func (s *service) openConsumers(ctx context.Context, log *slog.Logger, metrics prometheus.Registerer) error {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_consumer_messages_total",
		Help: "Entries of the audit log that a webhook took, did not take, or is not sent, by result."}, []string{"consumer", "result"})
	if err := errors.Join(metrics.Register(messages), metrics.Register(newConsumerMetrics(s.store, log))); err != nil {
		return err
	}
	for _, c := range s.cfg.Consumers {
		if err := s.store.KeepConsumer(ctx, c.Name, store.WebhookConsumer, c.Since == "now"); err != nil {
			return err
		}
		headers := map[string]string{}
		for name, value := range c.Headers {
			headers[name] = value.Reveal()
		}
		sender, err := cloudevents.NewSender(cloudevents.SenderConfig{URL: c.URL.Reveal(), Secret: c.Secret.Reveal(), Headers: headers,
			Mode: c.Mode, Timeout: c.Timeout, Agent: "waymark/" + versionText()})
		if err != nil {
			return fmt.Errorf("consumer %q: %w", c.Name, err)
		}
		for _, result := range []string{"sent", "skipped", "failed"} {
			messages.WithLabelValues(c.Name, result)
		}
		delivery := s.delivery(c, sender)
		delivery.Logger, delivery.Count = log, func(result string) { messages.WithLabelValues(c.Name, result).Inc() }
		s.inBackground("consumer "+c.Name, log, func(ctx context.Context) { cloudevents.Deliver(ctx, delivery) })
	}
	return nil
}

// inBackground has one of the instances with the role of a controller do a task.
func (s *service) inBackground(name string, log *slog.Logger, task func(context.Context)) {
	if !slices.Contains(s.options.Roles, "controller") {
		return
	}
	s.background = append(s.background, func(ctx context.Context) { whileHeld(ctx, s.store, name, s.id, log, task) })
}

// delivery gives the webhook of a consumer the log and a place to keep.
func (s *service) delivery(c config.Consumer, sender *cloudevents.Sender) cloudevents.DeliveryConfig {
	return cloudevents.DeliveryConfig{Name: c.Name, Events: c.Events, Send: sender.Send,
		Where: func(ctx context.Context) (cloudevents.Place, error) {
			now, err := s.store.Consumer(ctx, c.Name)
			return cloudevents.Place{Position: now.Position, Behind: now.Lag, Failures: now.Failures, Due: now.Due}, err
		},
		Read: func(ctx context.Context, from int64, limit int) (string, []cloudevents.Entry, error) {
			key, err := s.store.SigningKey(ctx)
			if err != nil {
				return "", nil, err
			}
			origin, _, _ := strings.Cut(key.Verifier, "+")
			entries, err := s.store.Entries(ctx, from, limit)
			out := make([]cloudevents.Entry, len(entries))
			for i, e := range entries {
				out[i] = cloudevents.Entry{Index: e.Index, At: e.At, Action: e.Action, Subject: cmp.Or(e.Tag, e.Target, e.Repository), Leaf: e.Leaf}
			}
			return origin, out, err
		},
		Moved: func(ctx context.Context, from, to int64, sent bool) (bool, error) {
			return s.store.Consumed(ctx, c.Name, from, to, sent)
		},
		Failed: func(ctx context.Context, at int64, why string, wait time.Duration) error {
			return s.store.ConsumerFailed(ctx, c.Name, at, why, wait)
		}}
}

// shownConsumers is what people may see of the configured consumers.
func (s *service) shownConsumers() (out []server.ConsumerConfig) {
	if c := s.cfg.Audit.Copy; c.IsSet() {
		to := c.Folder
		if c.Bucket != "" {
			to = "s3://" + c.Bucket + "/" + c.Prefix
		}
		out = append(out, server.ConsumerConfig{Name: copyConsumer, To: to})
	}
	for _, c := range s.cfg.Consumers {
		shown := server.ConsumerConfig{Name: c.Name, Events: c.Events}
		if u, err := url.Parse(c.URL.Reveal()); err == nil {
			shown.To = u.Scheme + "://" + u.Host + u.EscapedPath()
		}
		out = append(out, shown)
	}
	return out
}

// readyConsumers tells of consumers that lag behind. They hold up nothing, so
// the service is ready all the same.
func (s *service) readyConsumers(ctx context.Context) (out []server.Check) {
	all, err := s.store.Consumers(ctx)
	if err != nil {
		return nil // that the database does not answer is told already
	}
	configured := s.auditAPI().Consumers
	for _, c := range all {
		if !slices.ContainsFunc(configured, func(k server.ConsumerConfig) bool { return k.Name == c.Name }) {
			continue
		}
		check := server.Check{Name: "consumer " + c.Name, OK: true, Detail: fmt.Sprintf("entries not handed over: %d", c.Lag)}
		if c.Failures > 0 {
			check.Detail += fmt.Sprintf("; failing since %s: %s", c.FailingSince.UTC().Format(time.RFC3339), c.Trouble)
		}
		out = append(out, check)
	}
	return out
}

// consumerMetrics reads the consumers at each scrape: the figures are those of
// the record, the same from every instance.
type consumerMetrics struct {
	store                  *store.Store
	log                    *slog.Logger
	entries, age, failures *prometheus.Desc
}

func newConsumerMetrics(s *store.Store, log *slog.Logger) consumerMetrics {
	labels := []string{"consumer", "kind"}
	return consumerMetrics{s, log,
		prometheus.NewDesc("waymark_consumer_lag_entries", "Entries of the audit log that a consumer was not handed yet.", labels, nil),
		prometheus.NewDesc("waymark_consumer_lag_seconds", "Age of the first entry of the audit log that a consumer was not handed yet.", labels, nil),
		prometheus.NewDesc("waymark_consumer_failures", "Failures of a consumer in a row; 0 while it is well.", labels, nil)}
}

// Describe is part of prometheus.Collector.
func (m consumerMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.entries
	out <- m.age
	out <- m.failures
}

// Collect is part of prometheus.Collector. Where the database does not answer
// there are no figures, and the others are still served.
func (m consumerMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := m.store.Consumers(ctx)
	if err != nil {
		m.log.WarnContext(ctx, "consumers cannot be counted", "error", err)
		return
	}
	for _, c := range all {
		out <- prometheus.MustNewConstMetric(m.entries, prometheus.GaugeValue, float64(c.Lag), c.Name, c.Kind)
		out <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, c.LagAge.Seconds(), c.Name, c.Kind)
		out <- prometheus.MustNewConstMetric(m.failures, prometheus.GaugeValue, float64(c.Failures), c.Name, c.Kind)
	}
}
