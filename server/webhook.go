package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// maxWebhook bounds a webhook's body, in bytes.
const maxWebhook = 1 << 20

// webhook takes a forge's push webhook. The body is never read beyond its
// signature: even a genuine one only makes the service look at the remote.
// An unknown repository and a wrong signature look the same from outside.
func (s *Server) webhook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhook))
	if err != nil {
		s.metrics.refused.WithLabelValues("unreadable").Inc()
		s.writeProblem(w, r, fmt.Errorf("%w: reading the webhook's body: %w", release.ErrInvalid, err))
		return
	}
	name := r.PathValue("repository")
	secret := s.cfg.WebhookSecrets[name]
	signed := isSigned(body, secret, r.Header.Get("X-Hub-Signature-256"))
	if secret == "" || !signed {
		reason := "signature"
		if secret == "" {
			reason = "repository"
		}
		s.metrics.refused.WithLabelValues(reason).Inc()
		s.log.WarnContext(r.Context(), "webhook refused", "request_id", requestID(r.Context()), "reason", reason)
		send(w, newProblem(r.Context(), http.StatusUnauthorized,
			"no repository of this name expects webhooks, or X-Hub-Signature-256 is not the HMAC-SHA256 of the body under its secret"))
		return
	}
	if s.cfg.Hint != nil {
		s.cfg.Hint(name)
	}
	w.WriteHeader(http.StatusAccepted)
}

// isSigned compares in constant time, and does the same work for a secret that
// does not exist.
func isSigned(body []byte, secret, header string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	sent, err := hex.DecodeString(strings.TrimPrefix(header, "sha256="))
	return hmac.Equal(mac.Sum(nil), sent) && err == nil && strings.HasPrefix(header, "sha256=")
}
