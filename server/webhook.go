package server

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// maxWebhook bounds a webhook's body, in bytes.
const maxWebhook = 1 << 20

// What becomes of a webhook whose proof holds.
const (
	hookTaken    = "taken"    // the service looks at the remote at once
	hookIgnored  = "ignored"  // it tells of something else than pushes and tags
	hookPing     = "ping"     // the forge tries whether it is heard
	hookReplayed = "replayed" // it was here before
)

// webhooks takes what forges send. It is part of a Server.
type webhooks struct {
	decoy   string // stands for the secret of a repository that has none
	seen    memory
	taken   *prometheus.CounterVec
	refused *prometheus.CounterVec
}

func newWebhooks(registry prometheus.Registerer) (*webhooks, error) {
	h := &webhooks{decoy: rand.Text(),
		taken: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_webhooks_total",
			Help: "Webhooks whose proof held, by repository, forge and what became of them."}, []string{"repository", "forge", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_webhooks_refused_total",
			Help: "Webhooks that were not believed, by reason."}, []string{"reason"}),
	}
	for _, reason := range []string{"repository", "unsigned", "signature", "stale", "size", "unreadable"} {
		h.refused.WithLabelValues(reason) // counted from 0: an alert sees the first one too
	}
	return h, errors.Join(registry.Register(h.taken), registry.Register(h.refused))
}

// webhook takes a forge's webhook. Its body is hashed as it comes in and never
// kept or parsed: even a genuine one only makes the service look at the remote.
// An unknown repository and a wrong proof look the same from outside.
func (s *Server) webhook(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > maxWebhook {
		w.Header().Set("Connection", "close") // nobody reads the rest
		s.refuseHook(w, r, "size", &http.MaxBytesError{Limit: maxWebhook})
		return
	}
	name := r.PathValue("repository")
	secret, known := s.cfg.WebhookSecrets[name], true
	if secret == "" {
		secret, known = s.hooks.decoy, false // the same work as for any other
	}
	p, reason := proofOf(r.Header, s.now())
	mac, digest := p.mac(secret), sha256.New()
	if _, err := io.Copy(io.MultiWriter(mac, digest), http.MaxBytesReader(w, r.Body, maxWebhook)); err != nil {
		s.refuseHook(w, r, sizeOr(err, "unreadable"), fmt.Errorf("%w: reading the webhook's body: %w", release.ErrInvalid, err))
		return
	}
	if holds := p.holds(secret, mac); !known {
		reason = "repository"
	} else if reason == "" && !holds {
		reason = "signature"
	}
	if reason != "" {
		s.refuseHook(w, r, reason, nil)
		return
	}
	s.takeHook(w, r, name, digest, p.token != "" || p.standard)
}

// takeHook acts on a webhook whose proof holds, and says what it did.
func (s *Server) takeHook(w http.ResponseWriter, r *http.Request, repository string, digest hash.Hash, byID bool) {
	d := deliveryOf(r.Header)
	outcome, status := d.kind, http.StatusAccepted
	if s.hooks.seen.again(repository, d, [sha256.Size]byte(digest.Sum(nil)), byID, s.now()) && outcome != hookPing {
		outcome = hookReplayed
	}
	switch outcome {
	case hookTaken:
		if s.cfg.Hint != nil {
			s.cfg.Hint(repository)
		}
	case hookPing:
		status = http.StatusOK
	}
	s.hooks.taken.WithLabelValues(repository, d.forge, outcome).Inc()
	s.log.DebugContext(r.Context(), "webhook", "request_id", requestID(r.Context()), "repository", repository, "forge", d.forge, "outcome", outcome)
	writeJSON(w, status, api.WebhookAnswer{Outcome: outcome})
}

// refuseHook counts a webhook that is not believed and answers it: with err, or
// without one as 401.
func (s *Server) refuseHook(w http.ResponseWriter, r *http.Request, reason string, err error) {
	s.hooks.refused.WithLabelValues(reason).Inc()
	s.log.WarnContext(r.Context(), "webhook refused", "request_id", requestID(r.Context()), "reason", reason)
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	send(w, newProblem(r.Context(), http.StatusUnauthorized,
		"no repository of this name expects webhooks, or the webhook lacks a proof that it knows the secret: X-Hub-Signature-256, X-Gitea-Signature, X-Forgejo-Signature, X-Hub-Signature, webhook-signature of the last five minutes, or X-Gitlab-Token"))
}

// sizeOr gives the reason "size" for a body that is too large.
func sizeOr(err error, other string) string {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return "size"
	}
	return other
}

func webhookOperation() *huma.Operation {
	header := func(name, about string) *huma.Param {
		return &huma.Param{Name: name, In: "header", Description: about, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return &huma.Operation{Method: http.MethodPost, Path: "/webhooks/{repository}", OperationID: "take-webhook",
		Summary:     "A forge's push webhook: makes the service look at the repository at once",
		Description: "The body is hashed and not read. It may have 1 MiB. One of the headers must prove that the sender knows the secret.",
		Security:    []map[string][]string{},
		Parameters: []*huma.Param{
			{Name: "repository", In: "path", Required: true, Description: "Name of the repository in the configuration", Schema: &huma.Schema{Type: huma.TypeString}},
			header("X-Hub-Signature-256", "Of GitHub, Gitea and scripts: sha256= and the HMAC-SHA256 of the body in hexadecimal"),
			header("X-Gitea-Signature", "Of Gitea: the HMAC-SHA256 of the body in hexadecimal"),
			header("X-Forgejo-Signature", "Of Forgejo: likewise"),
			header("X-Hub-Signature", "Of Bitbucket: as X-Hub-Signature-256"),
			header("Webhook-Signature", "Of GitLab with a signing token: v1, and the HMAC-SHA256 of Webhook-Id, Webhook-Timestamp and the body in base64"),
			header("X-Gitlab-Token", "Of GitLab with a secret token: the secret"),
		},
		Responses: map[string]*huma.Response{"200": hookAnswer("A ping"), "202": hookAnswer("Genuine; outcome says whether the remote is looked at now"),
			"401": problemResponse("No such repository, or no proof"), "413": problemResponse("The body is too large")}}
}

func hookAnswer(description string) *huma.Response {
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/WebhookAnswer"}}}}
}
