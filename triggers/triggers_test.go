package triggers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/triggers"
)

func inSNS(t *testing.T, body string) string {
	text, err := json.Marshal(map[string]string{"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:us-east-1:111122223333:x", "Message": body})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEventsOfTagsMakeItLook(t *testing.T) {
	for name, body := range map[string]string{
		"created":     tagPushed(),
		"updated":     event("referenceUpdated", "tag", "cc-infra"),
		"deleted":     event("referenceDeleted", "tag", "cc-infra"),
		"through SNS": inSNS(t, tagPushed()),
	} {
		t.Run(name, func(t *testing.T) {
			var w *world
			w = newWorld(t, func(context.Context, int) error {
				if q := w.aws.Queue(w.url); len(q) != 1 || !q[0].InFlight {
					t.Errorf("during the look the queue holds %+v", q)
				}
				return nil
			})
			w.run()
			w.aws.Send(w.url, body)
			w.untilEmpty()
			if got := w.looked(); !slices.Equal(got, []string{"infra"}) {
				t.Errorf("looked at %q", got)
			}
			w.untilReady(true, "last answered at")
		})
	}
}

func TestEventsOfBranchesAreDeletedWithoutALook(t *testing.T) {
	w := newWorld(t, nil).run()
	w.aws.Send(w.url, event("referenceUpdated", "branch", "cc-infra"), event("referenceCreated", "branch", "not-ours"))
	w.untilEmpty()
	if got := w.looked(); len(got) != 0 {
		t.Errorf("looked at %q", got)
	}
	w.untilReady(true)
}

func TestOneLookForManyMessages(t *testing.T) {
	first, second := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(_ context.Context, nth int) error {
		if nth == 1 {
			close(first)
			<-second
		}
		return nil
	})
	for range 9 {
		w.aws.Send(w.url, tagPushed())
	}
	w.run()
	<-first
	// What comes during a look may be newer than what the look saw.
	w.aws.Send(w.url, tagPushed(), tagPushed(), tagPushed())
	w.until("all are received", func() bool {
		return !slices.ContainsFunc(w.aws.Queue(w.url), func(m testkitMessage) bool { return !m.InFlight })
	})
	if n := len(w.aws.Queue(w.url)); n != 12 {
		t.Errorf("%d messages before the look ended, want 12", n)
	}
	close(second)
	w.untilEmpty()
	if got := w.looked(); !slices.Equal(got, []string{"infra", "infra"}) {
		t.Errorf("looked at %q", got)
	}
}

func TestRepositoriesDoNotWaitForEachOther(t *testing.T) {
	stuck := make(chan struct{})
	w := newWorld(t, func(ctx context.Context, nth int) error {
		if nth == 1 {
			<-stuck
		}
		return nil
	}).run()
	w.aws.Send(w.url, tagPushed())
	w.until("the first look", func() bool { return len(w.looked()) == 1 })
	w.aws.Send(w.url, event("referenceCreated", "tag", "cc-other"))
	w.until("the other's message is deleted", func() bool { return len(w.looked()) == 2 && len(w.aws.Queue(w.url)) == 1 })
	close(stuck)
	w.untilEmpty()
}

func TestMessagesStayUntilALookSucceeds(t *testing.T) {
	w := newWorld(t, func(_ context.Context, nth int) error {
		if nth < 3 {
			return errors.New("the remote is away")
		}
		return nil
	}).run()
	w.aws.Send(w.url, tagPushed())
	w.untilReady(false, "the remote is away")
	w.aws.Reappear(w.url)
	w.until("a second look", func() bool { return len(w.looked()) == 2 })
	if n := len(w.aws.Queue(w.url)); n != 1 {
		t.Errorf("%d messages after two looks that failed", n)
	}
	w.until("it is given up", func() bool { w.aws.Reappear(w.url); return len(w.aws.Queue(w.url)) == 0 })
	w.untilReady(true)
	if bad, good := w.log.count("level=ERROR"), w.log.count("acted on again"); bad != 1 || good != 1 {
		t.Errorf("%d lines of trouble and %d of its end, want one each:\n%s", bad, good, w.log)
	}
}

func TestLongLooksKeepTheirMessages(t *testing.T) {
	ended := make(chan struct{})
	w := newWorld(t, func(context.Context, int) error { <-ended; return nil })
	w.cfg.Visibility = 3 * time.Second
	w.run()
	w.aws.Send(w.url, tagPushed())
	w.until("it is hidden for longer, twice", func() bool {
		n := 0
		for _, r := range w.aws.Requests() {
			if r.Operation == "ChangeMessageVisibility" && r.Allowed {
				n++
			}
		}
		return n >= 2
	})
	if q := w.aws.Queue(w.url); len(q) != 1 || q[0].Receives != 1 {
		t.Errorf("the queue holds %+v", q)
	}
	// Another delivery in spite of that: the newer handle is the one that counts.
	w.aws.Reappear(w.url)
	w.until("it is received again", func() bool { return w.aws.Queue(w.url)[0].Receives == 2 })
	w.aws.Send(w.url, event("referenceUpdated", "branch", "cc-infra")) // a later batch: the one before is sorted
	w.until("the later one is deleted", func() bool { return len(w.aws.Queue(w.url)) == 1 })
	close(ended)
	w.untilEmpty()
	if got := w.looked(); len(got) != 1 {
		t.Errorf("looked %d times for one message", len(got))
	}
	w.untilReady(true)
}

func TestTooManyMessagesWaitInTheQueue(t *testing.T) {
	ended := make(chan struct{})
	w := newWorld(t, func(context.Context, int) error { <-ended; return nil }).run()
	for range 120 {
		w.aws.Send(w.url, tagPushed())
	}
	w.untilReady(false, "messages wait for looks at their repositories that do not end", "see the log of the looks")
	received := 0
	for _, m := range w.aws.Queue(w.url) {
		received += m.Receives
	}
	if received < 91 || received > 100 {
		t.Errorf("%d messages were received", received)
	}
	close(ended)
	w.untilEmpty()
	w.untilReady(true)
}

func TestTroubleWithTheQueue(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		mend    func(w *world) // nil: it cannot be mended while it runs
		says    []string
	}{
		{"throttled", func(w *world) { w.aws.Fail("sqs", "ReceiveMessage", "ThrottlingException", 400, 1<<30) },
			nil, []string{"SQS limits our requests", "asked less often"}},
		{"throttled, then not", func(w *world) { w.aws.Fail("sqs", "ReceiveMessage", "RequestThrottled", 403, 4) },
			func(*world) {}, nil},
		{"no queue", func(w *world) { w.aws.DeleteQueue(w.url) },
			func(w *world) { w.aws.CreateQueue("us-east-1", "hints") }, []string{"there is no queue", "queue_url and region"}},
		{"other Region", func(w *world) { w.cfg.Region = "eu-west-1" },
			nil, []string{"is not in eu-west-1", "mend the trigger's region"}},
		{"no permission", func(w *world) { w.login(`"sqs:SendMessage"`) },
			nil, []string{"AWS refuses sqs:ReceiveMessage", "user/reader", "allow the identity"}},
		{"no credentials", func(w *world) { w.cfg.AWS.Credentials = nil },
			nil, []string{"has no AWS credentials", "where the SDK looks"}},
		{"unknown key", func(w *world) { w.cfg.AWS.Credentials = credentials.NewStaticCredentialsProvider("AKIAX", "x", "") },
			nil, []string{"does not take the service's credentials", "renew them"}},
		{"clock", func(w *world) { w.aws.Clock(time.Hour) },
			func(w *world) { w.aws.Clock(0) }, []string{"refuses the service's signature", "clock"}},
		{"broken", func(w *world) { w.aws.Fail("sqs", "ReceiveMessage", "InternalError", 500, 4) },
			func(*world) {}, nil},
		{"no server", func(w *world) { w.cfg.Endpoint = "http://127.0.0.1:1" },
			nil, []string{"SQS cannot be reached", "the network, the proxy and the endpoint"}},
		{"key", func(w *world) { w.aws.Fail("sqs", "ReceiveMessage", "KMS.AccessDeniedException", 400, 1<<30) },
			nil, []string{"the queue's key cannot be used", "kms:Decrypt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			tt.prepare(w)
			w.run()
			if tt.says != nil {
				w.untilReady(false, tt.says...)
				if n := w.log.count("level=ERROR"); n != 1 {
					t.Errorf("%d lines for one kind of trouble:\n%s", n, w.log)
				}
			}
			if tt.mend == nil {
				return
			}
			tt.mend(w)
			w.untilReady(true)
			w.aws.Send(w.url, tagPushed())
			w.untilEmpty()
			if bad, good := w.log.count("level=ERROR"), w.log.count("acted on again"); bad != 1 || good != 1 {
				t.Errorf("%d lines of trouble and %d of its end, want one each:\n%s", bad, good, w.log)
			}
		})
	}
}

// login gives the world an identity with these actions on the queue alone.
func (w *world) login(actions string) {
	id, secret := w.aws.Principal("arn:aws:iam::111122223333:user/reader", fmt.Sprintf(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[%s],"Resource":"arn:aws:sqs:us-east-1:111122223333:hints"}]}`, actions))
	w.cfg.AWS.Credentials = credentials.NewStaticCredentialsProvider(id, secret, "")
}

func TestTheDocumentedPermissionsSuffice(t *testing.T) {
	w := newWorld(t, nil)
	w.login(`"sqs:ReceiveMessage","sqs:DeleteMessage","sqs:ChangeMessageVisibility"`)
	w.run()
	w.aws.Send(w.url, tagPushed(), "junk")
	w.untilEmpty()
	w.untilReady(true)
}

func TestMessagesThatCannotBeDeletedShow(t *testing.T) {
	w := newWorld(t, nil)
	w.login(`"sqs:ReceiveMessage","sqs:ChangeMessageVisibility"`)
	w.run()
	w.aws.Send(w.url, tagPushed())
	w.untilReady(false, "AWS refuses sqs:DeleteMessage")
	if n := len(w.aws.Queue(w.url)); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestRunEndsInTheMiddleOfALook(t *testing.T) {
	w := newWorld(t, func(ctx context.Context, _ int) error { <-ctx.Done(); return context.Cause(ctx) }).run()
	w.aws.Send(w.url, tagPushed())
	w.until("a look", func() bool { return len(w.looked()) == 1 })
	w.stop()
	if n := len(w.aws.Queue(w.url)); n != 1 {
		t.Errorf("%d messages, want the one that was not dealt with", n)
	}
	if n := w.log.count("level=ERROR"); n != 0 {
		t.Errorf("stopping is no trouble:\n%s", w.log)
	}
}

func TestALookThatSucceedsWhileTheServiceStopsCounts(t *testing.T) {
	w := newWorld(t, func(ctx context.Context, _ int) error { <-ctx.Done(); return nil }).run()
	w.aws.Send(w.url, tagPushed())
	w.until("a look", func() bool { return len(w.looked()) == 1 })
	w.stop()
	if q := w.aws.Queue(w.url); len(q) != 0 {
		t.Errorf("the queue holds %+v", q)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, nil)
	w.cfg.Metrics = reg
	w.run()
	w.aws.Send(w.url, tagPushed(), "junk", "junk", event("referenceUpdated", "branch", "cc-infra"))
	w.untilEmpty()
	w.stop()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "result" {
					got[l.GetValue()] = m.Counter.GetValue()
				} else if l.GetName() == "queue" && l.GetValue() != "us-east-1/hints" {
					t.Errorf("queue %q", l.GetValue())
				}
			}
		}
	}
	if got["looked"] != 1 || got["set_aside"] != 2 || got["ignored"] != 1 {
		t.Errorf("counted %v", got)
	}
	// A second queue has its own figures beside these.
	other := w.cfg
	other.QueueURL = w.aws.CreateQueue("us-east-1", "more")
	if _, err := triggers.New(other); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesWhatIsNotWhole(t *testing.T) {
	for says, edit := range map[string]func(*triggers.Config){
		"no queue URL": func(c *triggers.Config) { c.QueueURL = "" },
		"no Region":    func(c *triggers.Config) { c.Region = "" },
		"no folder":    func(c *triggers.Config) { c.SetAside = "" },
		"no look":      func(c *triggers.Config) { c.Look = nil },
		"3 seconds to": func(c *triggers.Config) { c.Visibility = time.Second },
	} {
		cfg := triggers.Config{AWS: aws.Config{}, QueueURL: "https://sqs.us-east-1.amazonaws.com/1/q", Region: "us-east-1", SetAside: t.TempDir(),
			Look: func(context.Context, string) error { return nil }}
		edit(&cfg)
		_, err := triggers.New(cfg)
		wantError(t, err, release.ErrInvalid, says)
	}
}
