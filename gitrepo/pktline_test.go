package gitrepo

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
)

// replay is a conversation in which the remote always says the same.
type replay string

func (c replay) greeting() io.Reader { return strings.NewReader(string(c)) }
func (c replay) ask(context.Context, []byte) (io.Reader, error) {
	return c.greeting(), nil
}
func (c replay) said(cause error) error { return remoteSaid("", cause) }
func (c replay) stateless() bool        { return true }
func (c replay) close()                 {}

// FuzzListing feeds any bytes to both forms of the listing: no panic, and what
// is accepted is sorted, without twins, with well-formed ids.
func FuzzListing(f *testing.F) {
	id := strings.Repeat("a1", 20)
	pkt := func(s string) string { return string(appendPkt(nil, "%s", s)) }
	f.Add(pkt(id+" HEAD\x00side-band-64k\n")+pkt(id+" refs/heads/main\n")+pkt(id+" refs/tags/a\n")+pkt(id+" refs/tags/a^{}\n")+"0000", false)
	f.Add(pkt(strings.Repeat("0", 40)+" capabilities^{}\x00x\n")+"0000", false)
	f.Add(pkt(id+" refs/tags/a peeled:"+id+" symref-target:x\n")+pkt(id+" refs/heads/main\n")+"0000", true)
	f.Fuzz(func(t *testing.T, wire string, v2 bool) {
		x := &exchange{in: newPktReader(strings.NewReader(wire)), v2: v2, conn: replay(wire)}
		if !v2 && x.hello() != nil {
			return
		}
		x.v2 = v2
		c := collector{branchRef: []byte("refs/heads/main"), max: 100}
		if x.refs(t.Context(), nil, c.add) != nil {
			return
		}
		l, err := c.finish()
		if err != nil {
			return
		}
		for i, ref := range l.Tags {
			if !isHexID([]byte(ref.ObjectID)) || !isHexID([]byte(ref.Commit)) || i > 0 && l.Tags[i-1].Name >= ref.Name {
				t.Fatalf("accepted %+v", l.Tags)
			}
		}
	})
}

// TestListingReusesTheOneBefore: whatever changed, a listing built on an older
// one equals the one built from nothing.
func TestListingReusesTheOneBefore(t *testing.T) {
	id := func(c string) string { return strings.Repeat(c, 40) }
	build := func(prev Listing, refs ...string) Listing {
		c := collector{prev: prev, branchRef: []byte("refs/heads/main"), max: 10}
		for _, r := range refs {
			name, peeled, _ := strings.Cut(r, "=")
			line := refLine{name: []byte("refs/tags/" + name), id: []byte(id("a"))}
			if peeled != "" {
				line.peeled = []byte(id(peeled))
			}
			if err := c.add(line); err != nil {
				t.Fatal(err)
			}
		}
		l, err := c.finish()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	states := [][]string{{}, {"a"}, {"a", "b", "c"}, {"a", "b"}, {"b", "c"}, {"a", "b=b", "c"}, {"a", "b=c", "c"}, {"a", "aa", "b", "c"}, {"c", "b", "a"}}
	for _, before := range states {
		for _, after := range states {
			prev := build(Listing{}, before...)
			got, want := build(prev, after...), build(Listing{}, after...)
			if got.Digest != want.Digest || !slices.Equal(got.Tags, want.Tags) {
				t.Errorf("%v then %v: %v", before, after, got.Tags)
			}
			same := slices.Equal(prev.Tags, want.Tags)
			if same != (prev.Digest == got.Digest) {
				t.Errorf("%v then %v: digests do not tell", before, after)
			}
		}
	}
}

func TestShownAddressHidesCredentials(t *testing.T) {
	for raw, want := range map[string]string{
		"https://u:p@h:8443/a/b.git/": "https://h:8443/a/b.git",
		"https://token@h/a.git":       "https://h/a.git",
		"http://h/a%20b.git":          "http://h/a%20b.git",
		"ssh://git@h:2222/a.git":      "ssh://git@h:2222/a.git",
		"ssh://h/~me/a.git":           "ssh://h/~me/a.git",
		"git@h:team/a.git":            "git@h:team/a.git",
		"file:///srv/a.git":           "/srv/a.git",
		"/srv/../srv/a:b.git":         "/srv/a:b.git",
	} {
		a, err := parseAddress(raw)
		if err != nil || a.shown() != want {
			t.Errorf("%s: %q, %v; want %q", raw, a.shown(), err, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	if got, want := shellQuote(`/a'b!$(c)`), `'/a'\''b'\!'$(c)'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDeltaTarget(t *testing.T) {
	for in, want := range map[string]int64{
		"\x05\x07": 7, "\x85\x01\x80\x80\x01rest": 1 << 14, "": -1, "\x05": -1, "\x05\x80": -1,
		"\x05" + strings.Repeat("\xff", 12): -1,
	} {
		if got := deltaTarget([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}
