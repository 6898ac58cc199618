package server

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// delivery is what a webhook's header says of it. It is not signed and steers
// nothing but whether the service looks at a remote.
type delivery struct {
	forge string // github, gitlab, gitea, forgejo, bitbucket or other
	kind  string // hookTaken, hookIgnored or hookPing, as far as the event goes
	id    string // the forge's own; empty: it gave none
}

// forgeHeader is how one forge names the event and the delivery.
type forgeHeader struct {
	forge, event string
	ids          []string // the first that is there
	looks        []string // events of pushes and tags
	pings        []string
}

// forgeHeaders is in the order in which they are looked for: Forgejo sends
// Gitea's headers and GitHub's beside its own.
func forgeHeaders() []forgeHeader {
	push := []string{"push", "create", "delete"}
	return []forgeHeader{
		{"forgejo", "X-Forgejo-Event", []string{"X-Forgejo-Delivery"}, push, nil},
		{"gitea", "X-Gitea-Event", []string{"X-Gitea-Delivery"}, push, nil},
		{"github", "X-GitHub-Event", []string{"X-GitHub-Delivery"}, push, []string{"ping"}},
		{"gitlab", "X-Gitlab-Event", []string{"Webhook-Id", "Idempotency-Key", "X-Gitlab-Event-UUID"},
			[]string{"push hook", "tag push hook"}, nil},
		{"bitbucket", "X-Event-Key", []string{"X-Request-UUID", "X-Request-Id"},
			[]string{"repo:push", "repo:refs_changed"}, []string{"diagnostics:ping"}},
	}
}

// deliveryOf reads a webhook's header. One without a forge's event is somebody's
// own script, and tells of a push.
func deliveryOf(h http.Header) delivery {
	for _, f := range forgeHeaders() {
		event := strings.ToLower(h.Get(f.event))
		if event == "" {
			continue
		}
		d := delivery{forge: f.forge, kind: hookIgnored}
		for _, name := range f.ids {
			if d.id = h.Get(name); d.id != "" {
				break
			}
		}
		if slices.Contains(f.looks, event) {
			d.kind = hookTaken
		} else if slices.Contains(f.pings, event) {
			d.kind = hookPing
		}
		return d
	}
	return delivery{forge: noForge, kind: hookTaken}
}

// noForge is the forge of a webhook that names no event.
const noForge = "other"

// What a replay is known by, and for how long.
const (
	rememberFor  = time.Hour
	mostRemember = 10_000 // ids and bodies
	longestID    = 200    // bytes of a delivery's id that count
)

// memory knows the webhooks of the last hour, 5,000 at most, by the forge's id
// and by the body. The id is in no signature: it alone would let a body that
// somebody overheard come back under another. The zero memory is ready.
type memory struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]time.Time
	order [][sha256.Size]byte // as they came; the oldest first
}

// again remembers a webhook and reports whether it was here before. byID says
// that the body tells nothing: its id is signed with it, or nothing is signed and
// whoever knows the secret writes any.
func (m *memory) again(repository string, d delivery, body [sha256.Size]byte, byID bool, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now)
	before := false
	if d.id != "" {
		before = m.add(sha256.Sum256([]byte("id\x00"+repository+"\x00"+d.id[:min(len(d.id), longestID)])), now)
	}
	if byID {
		return before
	}
	key := sha256.Sum256([]byte("body\x00" + repository + "\x00" + string(body[:])))
	if d.forge == noForge {
		_, was := m.known[key] // a script may well send the same body each time
		return was || before
	}
	return m.add(key, now) || before
}

// add remembers a key and reports whether it was known.
func (m *memory) add(key [sha256.Size]byte, now time.Time) bool {
	if _, was := m.known[key]; was {
		return true
	}
	if m.known == nil {
		m.known = map[[sha256.Size]byte]time.Time{}
	}
	m.known[key] = now
	m.order = append(m.order, key)
	return false
}

// forget drops what is too old or too much.
func (m *memory) forget(now time.Time) {
	n := 0
	for n < len(m.order) && (len(m.order)-n >= mostRemember || now.Sub(m.known[m.order[n]]) > rememberFor) {
		delete(m.known, m.order[n])
		n++
	}
	m.order = append(m.order[:0], m.order[n:]...)
}
