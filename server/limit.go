package server

import (
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/identity"
)

const (
	failuresAtOnce = 10              // that a key may have before it must wait
	failureEvery   = 6 * time.Second // in which one of them is forgotten
	maxLimited     = 8192            // keys that are remembered
	goodFor        = time.Hour       // a token that was good is looked at whatever else fails
	maxGood        = 4096            // such tokens that are remembered
	shownOfToken   = 12              // bytes of an API token by which its failures are counted
)

// limits counts failures by the caller's address and by the beginning of what was
// sent, in bounded memory. It is safe for use by several goroutines.
type limits struct {
	mu     sync.Mutex
	levels map[string]level
	goods  map[[sha256.Size]byte]time.Time
}

// level is how many failures a key has at a moment; they leak away.
type level struct {
	failures float64
	at       time.Time
}

func newLimits() *limits {
	return &limits{levels: map[string]level{}, goods: map[[sha256.Size]byte]time.Time{}}
}

// limitKeys are what failures are counted by. Of an IPv6 address it is the /64,
// all of which one machine may have; of an API token its beginning, and of any
// other the whole, because all ID tokens begin alike.
func limitKeys(client netip.Addr, token string) []string {
	if client.Is6() {
		if p, err := client.Prefix(64); err == nil {
			client = p.Addr()
		}
	}
	if identity.LooksLikeToken(token) {
		token = token[:min(len(token), shownOfToken)]
	}
	beginning := sha256.Sum256([]byte(token))
	return []string{"a" + client.String(), "t" + string(beginning[:8])}
}

// now gives a level's failures at a moment. A clock that was set back forgets
// nothing.
func (l level) now(at time.Time) float64 {
	return max(0, l.failures-max(0, at.Sub(l.at).Seconds())/failureEvery.Seconds())
}

// wait says how long none of these may try; 0 for not at all. A token that was
// good lately may always: others must not lock its holder out.
func (l *limits) wait(now time.Time, token [sha256.Size]byte, keys []string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.goods[token]; ok && now.Sub(at) < goodFor {
		return 0
	}
	var longest time.Duration
	for _, key := range keys {
		if over := l.levels[key].now(now) - (failuresAtOnce - 1); over > 0 {
			longest = max(longest, time.Duration(over*float64(failureEvery)))
		}
	}
	return longest
}

// good remembers a token that counts.
func (l *limits) good(now time.Time, token [sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	makeRoom(l.goods, maxGood, func(at time.Time) bool { return now.Sub(at) >= goodFor })
	l.goods[token] = now
}

// bad counts a failure.
func (l *limits) bad(now time.Time, token [sha256.Size]byte, keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.goods, token)
	makeRoom(l.levels, maxLimited, func(v level) bool { return v.now(now) == 0 })
	for _, key := range keys {
		l.levels[key] = level{failures: min(l.levels[key].now(now)+1, 2*failuresAtOnce), at: now}
	}
}

// makeRoom drops what is over from a map that is full and, where that is too
// little, any of it down to a half: not at each new key again.
func makeRoom[K comparable, V any](all map[K]V, most int, over func(V) bool) {
	if len(all) < most {
		return
	}
	for k, v := range all {
		if over(v) {
			delete(all, k)
		}
	}
	for k := range all {
		if len(all) <= most/2 {
			return
		}
		delete(all, k)
	}
}

// clientAddr is the address that a request comes from: that of its connection
// or, where that is one of the configured proxies, what they say of it.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	client := at.Addr().Unmap()
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(said) - 1; i >= 0 && s.isProxy(client); i-- { // each proxy appends whom it heard
		host := strings.TrimSpace(said[i])
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		next, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil {
			break
		}
		client = next.Unmap()
	}
	return client.WithZone("")
}

func (s *Server) isProxy(a netip.Addr) bool {
	for _, p := range s.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
