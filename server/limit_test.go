package server

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestLimitsStaySmall(t *testing.T) {
	l, now := newLimits(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	address := netip.MustParseAddr("2001:db8::")
	for i := range 3 * maxLimited {
		token := sha256.Sum256([]byte(address.String()))
		l.bad(now, token, limitKeys(address, address.String()))
		l.good(now, token)
		raw := address.As16()
		raw[6], raw[7], raw[5] = byte(i), byte(i>>8), byte(i>>16) // another /64
		address = netip.AddrFrom16(raw)
	}
	if len(l.levels) > maxLimited+1 || len(l.goods) > maxGood {
		t.Errorf("%d levels and %d good tokens are remembered", len(l.levels), len(l.goods))
	}
	one, same := limitKeys(netip.MustParseAddr("2001:db8::1"), "x"), limitKeys(netip.MustParseAddr("2001:db8::ffff"), "x")
	if one[0] != same[0] || limitKeys(netip.MustParseAddr("2001:db8:0:1::1"), "x")[0] == one[0] {
		t.Error("an IPv6 address does not count as its /64")
	}
	if limitKeys(address, "eyJhbGciOiJSUzI1NiJ9.a.b")[1] == limitKeys(address, "eyJhbGciOiJSUzI1NiJ9.c.d")[1] {
		t.Error("ID tokens, which begin alike, count as one")
	}
}

func TestClientAddr(t *testing.T) {
	for _, c := range []struct{ remote, forwarded, proxies, want string }{
		{"192.0.2.1:5", "", "", "192.0.2.1"},
		{"192.0.2.1:5", "203.0.113.9", "", "192.0.2.1"},
		{"192.0.2.1:5", "203.0.113.9", "192.0.2.0/24", "203.0.113.9"},
		{"192.0.2.1:5", "203.0.113.9, 198.51.100.7", "192.0.2.0/24", "198.51.100.7"},
		{"192.0.2.1:5", "203.0.113.9, 198.51.100.7, 192.0.2.2", "192.0.2.0/24", "198.51.100.7"},
		{"192.0.2.1:5", "192.0.2.3, 192.0.2.2", "192.0.2.0/24", "192.0.2.3"},
		{"192.0.2.1:5", "203.0.113.9, nonsense", "192.0.2.0/24", "192.0.2.1"},
		{"192.0.2.1:5", ",,", "192.0.2.0/24", "192.0.2.1"},
		{"[::1]:5", "[2001:db8::7]:443", "::1/128", "2001:db8::7"},
		{"[::ffff:192.0.2.1]:5", "203.0.113.9", "192.0.2.0/24", "203.0.113.9"},
		{"@", "203.0.113.9", "0.0.0.0/0", "0.0.0.0"},
	} {
		s := &Server{}
		if c.proxies != "" {
			s.cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.proxies)}
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		r.Header.Set("X-Forwarded-For", c.forwarded)
		if got := s.clientAddr(r); got.String() != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
