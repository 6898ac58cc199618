package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"
)

// stopped is what SQLite in this process takes for the time; nil: the time.
var (
	stopped        atomic.Pointer[time.Time]
	teachesTheTime sync.Once
)

// stopDatabaseClock lets the databases that are opened from now on stand still at a
// time, until the test ends: what they write down, such as the end of a freeze, is
// then the same in every run.
func stopDatabaseClock(t *testing.T, at time.Time) {
	t.Helper()
	teachesTheTime.Do(func() {
		sqlite.MustRegisterScalarFunction("unixepoch", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			if len(args) != 1 || args[0] != "subsec" {
				return nil, fmt.Errorf("unixepoch(%v) is not what the store asks for", args)
			}
			now := time.Now()
			if at := stopped.Load(); at != nil {
				now = *at
			}
			return float64(now.UnixMilli()) / 1000, nil
		})
	})
	stopped.Store(&at)
	t.Cleanup(func() { stopped.Store(nil) })
}

// fixedAuditKey is a signer that is the same in every run, and good for nothing else.
func fixedAuditKey(origin string) string {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := private.Public().(ed25519.PublicKey)
	hash := sha256.Sum256([]byte(origin + "\n\x01" + string(public)))
	return fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", origin, hex.EncodeToString(hash[:4]), base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))
}

// TestTheShowcaseStandsStill: whoever draws the pictures anew changes those alone
// whose page has changed.
func TestTheShowcaseStandsStill(t *testing.T) {
	draw := func() map[string]string {
		s := newShowcase(t)
		at := s.serve("")
		out := map[string]string{}
		for _, path := range []string{"/", "/targets/prod/us-east-1/research", "/runs/" + s.waiting, "/runs/" + s.failed, "/releases", "/audit", "/inventory"} {
			resp, err := http.Get(at + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s %v", path, resp.Status, err)
			}
			out[path] = string(body)
		}
		return out
	}
	first, second := draw(), draw()
	for path, page := range first {
		if page == second[path] {
			continue
		}
		i := 0
		for i < min(len(page), len(second[path])) && page[i] == second[path][i] {
			i++
		}
		t.Errorf("%s is another each time: …%q", path, page[max(0, i-80):min(len(page), i+40)])
	}
}
