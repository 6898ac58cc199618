package server

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// listNotifications tells how far each configured place outside has been told.
func (s *Server) listNotifications(ctx context.Context, _ *noInput) (api.NotificationList, error) {
	if err := s.may(ctx, identity.Watch, release.Target{}); err != nil {
		return api.NotificationList{}, err
	}
	all, err := s.notifications(ctx)
	return api.NotificationList{Notifications: mapped(all, wireNotification)}, err
}

// notifications are those on record that are configured.
func (s *Server) notifications(ctx context.Context) ([]store.Notification, error) {
	all, err := s.cfg.Store.Notifications(ctx)
	return slices.DeleteFunc(all, func(n store.Notification) bool { return !slices.Contains(s.cfg.Notifications, n.Name) }), err
}

func wireNotification(n store.Notification) api.Notification {
	state := "idle"
	switch {
	case n.Failures > 0:
		state = "failing"
	case n.Behind > 0:
		state = "behind"
	}
	return api.Notification{Name: n.Name, State: state, Position: n.Position, Behind: n.Behind, Told: n.Told, Dropped: n.Dropped,
		Failures: n.Failures, Error: n.Error, ToldAt: n.ToldAt, FailedAt: n.FailedAt, RetryAt: n.RetryAt}
}

// notificationMetrics reads the places at each scrape, so that the figures are
// those of the record, from whichever instance they are asked for.
type notificationMetrics struct {
	server   *Server
	behind   *prometheus.Desc
	failures *prometheus.Desc
}

func (s *Server) newNotificationMetrics() notificationMetrics {
	return notificationMetrics{server: s,
		behind:   prometheus.NewDesc("waymark_notification_lag_entries", "Audit entries that a place outside has not been told of.", []string{"notification"}, nil),
		failures: prometheus.NewDesc("waymark_notification_failures", "Attempts in a row in which a place outside could not be told.", []string{"notification"}, nil)}
}

// Describe is part of prometheus.Collector.
func (m notificationMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.behind
	out <- m.failures
}

// Collect is part of prometheus.Collector. Where the database does not answer
// there are no figures, and the others are still served.
func (m notificationMetrics) Collect(out chan<- prometheus.Metric) {
	if len(m.server.cfg.Notifications) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	all, err := m.server.notifications(ctx)
	if err != nil {
		m.server.log.WarnContext(ctx, "notifications cannot be counted", "error", err)
		return
	}
	for _, n := range all {
		out <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, float64(n.Behind), n.Name)
		out <- prometheus.MustNewConstMetric(m.failures, prometheus.GaugeValue, float64(n.Failures), n.Name)
	}
}
