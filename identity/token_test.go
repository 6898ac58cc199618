package identity_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/identity"
)

var tokenForm = regexp.MustCompile(`^wm_[0-9A-Za-z]{49}$`)

func TestTokens(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		text, hash := identity.NewToken()
		if seen[text] || !tokenForm.MatchString(text) {
			t.Fatalf("token %q", text)
		}
		seen[text] = true
		sum := sha256.Sum256([]byte(text))
		if got, err := identity.TokenHash(text); err != nil || got != hash || hash != hex.EncodeToString(sum[:]) {
			t.Fatalf("%q: hash %s, %s, %v", text, hash, got, err)
		}
	}
	text, _ := identity.NewToken()
	swapped := []byte(text)
	for i := 3; i+1 < len(text); i++ { // two letters typed in the wrong order
		if text[i] != text[i+1] {
			swapped[i], swapped[i+1] = text[i+1], text[i]
			break
		}
	}
	for _, bad := range []string{"", "wm_", text[:len(text)-1], text + "0", " " + text, text + "\n", strings.ToUpper(text), string(swapped),
		"gh" + text[2:], strings.Replace(text, "_", "-", 1), text[:10] + "\x00" + text[11:], text[:10] + "é" + text[12:]} {
		if _, err := identity.TokenHash(bad); !errors.Is(err, identity.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzToken: no text passes but one of the exact form whose checksum holds, and
// none in two spellings.
func FuzzToken(f *testing.F) {
	text, _ := identity.NewToken()
	for _, s := range []string{text, text[:20], text + "x", "wm_" + strings.Repeat("0", 49), "wm_", "", strings.Repeat("é", 26)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hash, err := identity.TokenHash(s)
		if err != nil {
			return
		}
		if !tokenForm.MatchString(s) || len(hash) != 64 {
			t.Fatalf("%q passed", s)
		}
		for i := range s { // a single wrong letter is always noticed
			changed := []byte(s)
			changed[i] ^= 1
			if _, err := identity.TokenHash(string(changed)); err == nil {
				t.Fatalf("%q and %q both pass", s, changed)
			}
		}
	})
}
