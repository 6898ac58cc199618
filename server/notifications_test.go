package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/server"
)

func TestNotificationsAreListedAndMeasured(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { c.Notifications = []string{"notification ops", "statuses infra"} })
	for _, name := range []string{"notification ops", "statuses infra", "notification gone"} {
		if _, err := w.store.OpenNotification(t.Context(), name, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	list, err := w.client.Notifications(t.Context())
	if err != nil || len(list.Notifications) != 2 || list.Notifications[0].Name != "notification ops" || list.Notifications[0].State != "idle" {
		t.Fatalf("%+v, %v", list, err)
	}
	w.admit("dev_us-east-1/research/1.0")
	if err := w.store.FailToTell(t.Context(), "statuses infra", "401: it does not know the token: make a new one", time.Minute); err != nil {
		t.Fatal(err)
	}
	list, err = w.client.Notifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ops, statuses := list.Notifications[0], list.Notifications[1]
	if ops.State != "behind" || ops.Behind == 0 || !ops.RetryAt.IsZero() {
		t.Errorf("%+v", ops)
	}
	if statuses.State != "failing" || statuses.Failures != 1 || !strings.HasPrefix(statuses.Error, "401") || statuses.RetryAt.Sub(statuses.FailedAt) != time.Minute {
		t.Errorf("%+v", statuses)
	}
	for sample, want := range map[string]string{
		`waymark_notification_lag_entries{notification="notification ops"}`: "1",
		`waymark_notification_failures{notification="statuses infra"}`:      "1",
		`waymark_notification_failures{notification="notification ops"}`:    "0",
	} {
		if got := w.metric(sample); got != want {
			t.Errorf("%s is %s, want %s", sample, got, want)
		}
	}
}
