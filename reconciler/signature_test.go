package reconciler

import (
	"errors"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// Who is accepted and what is refused, of signers that say this about a tag.
func TestJudgeSignature(t *testing.T) {
	cfg := &config.Config{Teams: []string{"research", "risk"},
		Signers:      []config.Signers{{Name: "a"}, {Name: "b", Teams: []string{"risk"}}},
		Environments: []config.Environment{{Name: "free"}, {Name: "signed", RequireSignature: true}, {Name: "bees", RequireSignature: true, Signers: []string{"b"}}}}
	by := func(name string) any { return release.Signer{Name: name, Key: "k-" + name, Kind: "SSH"} }
	fault := func(f release.SignatureFault) any { return f }
	for _, tt := range []struct {
		target string
		a, b   any    // who signed, or what is wrong
		want   string // who, or "" for nobody, or the fault
		says   string
	}{
		{"free_global/research", fault(release.Unsigned), fault(release.Unsigned), "", "unsigned"},
		{"free_global/research", fault(release.SignatureUnknownKey), fault(release.SignatureUnknownKey), "", "unknown key"},
		{"free_global/research", by("ann"), fault(release.SignatureUnknownKey), "ann", ""},
		{"free_global/research", fault(release.SignatureUnknownKey), by("ben"), "", "may not sign for free_global/research"},
		{"free_global/risk", fault(release.SignatureUnknownKey), by("ben"), "ben", ""},
		{"free_global/research", fault(release.SignatureAltered), fault(release.SignatureUnknownKey), "altered", "new version"},
		{"free_global/research", fault(release.SignatureExpired), fault(release.SignatureUnknownKey), "expired", "new version"},
		{"free_global/research", fault(release.SignatureUnknownKey), fault(release.SignatureRevoked), "revoked", "new version"},
		{"free_global/risk", by("ann"), fault(release.SignatureRevoked), "revoked", "new version"},
		{"free_global/risk", fault(release.SignatureRevoked), by("ben"), "revoked", "new version"},
		{"free_global/risk", by("ann"), fault(release.SignatureExpired), "ann", ""},
		{"free_global/risk", fault(release.SignatureNotYetValid), by("ben"), "ben", ""},
		{"signed_global/research", fault(release.Unsigned), fault(release.Unsigned), "unsigned", "signers a:"},
		{"signed_global/risk", fault(release.SignatureUnknownKey), fault(release.SignatureUnsupported), "unsupported", "signers a, b:"},
		{"signed_global/research", fault(release.SignatureUnknownKey), by("ben"), "wrong signer", "signed by ben"},
		{"signed_global/risk", by("ann"), by("ben"), "ann", ""},
		{"bees_global/risk", by("ann"), by("ben"), "ben", ""},
		{"bees_global/risk", by("ann"), fault(release.SignatureUnknownKey), "wrong signer", "signers b:"},
		{"bees_global/research", by("ann"), by("ben"), "wrong signer", "nobody may give for the team research"},
	} {
		target, err := release.ParseTarget(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		v, err := JudgeSignature(cfg, target, func(signers string) (release.Signer, error) {
			said := map[string]any{"a": tt.a, "b": tt.b}[signers]
			if f, bad := said.(release.SignatureFault); bad {
				return release.Signer{}, release.RefuseSignature(f, "k", "%s", f)
			}
			return said.(release.Signer), nil
		})
		got, text := v.By.Name, v.Unverified
		var bad *release.SignatureError
		if errors.As(err, &bad) {
			got, text = string(bad.Fault), bad.Reason
		}
		if got != tt.want || !strings.Contains(text, tt.says) || v.By != (release.Signer{}) && v.Signers == "" {
			t.Errorf("%s, %v, %v: %q, %q (%+v, %v); want %q, %q", tt.target, tt.a, tt.b, got, text, v, err, tt.want, tt.says)
		}
	}
	away := errors.New("away")
	if _, err := JudgeSignature(cfg, release.Target{Env: "free"}, func(string) (release.Signer, error) { return release.Signer{}, away }); !errors.Is(err, away) {
		t.Errorf("a fault of the reader is %v", err)
	}
}
