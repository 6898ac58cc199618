package gitrepo

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

const fuzzedTag = "object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntype commit\ntag dev_global/research/1.0\n" +
	"tagger Ann <ann@example.org> 1700000000 +0100\n\nRelease\n"

// fuzzedSSH is a signer, and the line that allows it.
func fuzzedSSH(f *testing.F) (ssh.Signer, string) {
	f.Helper()
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	return signer, "ann@example.org " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

func fuzzedSSHArmor(f *testing.F, signer ssh.Signer, namespace string) string {
	f.Helper()
	sig, err := sshsig.Sign(strings.NewReader(fuzzedTag), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		f.Fatal(err)
	}
	return string(sshsig.Armor(sig))
}

// No signature but one over these very bytes is accepted, whatever is put in its
// place, and nothing makes a reader panic.
func FuzzSSHSignature(f *testing.F) {
	signer, line := fuzzedSSH(f)
	good := fuzzedSSHArmor(f, signer, "git")
	f.Add(fuzzedTag, good)
	f.Add(fuzzedTag, fuzzedSSHArmor(f, signer, "file"))
	f.Add(fuzzedTag, good+"more\n")
	f.Add(fuzzedTag+"x", good)
	f.Add(fuzzedTag, "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n")
	keys, problems := parseAllowedSigners("allowed", []byte(line))
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	signers := &Signers{ssh: keys}
	f.Fuzz(func(t *testing.T, payload, armored string) {
		who, err := signers.Verify(SignedTag{Payload: []byte(payload), Armor: []byte(armored)}, time.Unix(1_800_000_000, 0))
		if err == nil && (payload != fuzzedTag || who.Name != "ann@example.org") {
			t.Errorf("%q is accepted as signed by %s", payload, who)
		}
		if payload == fuzzedTag && armored == good && err != nil {
			t.Errorf("the good signature is refused: %v", err)
		}
	})
}

func FuzzOpenPGPSignature(f *testing.F) {
	entity, err := openpgp.NewEntity("Ann", "", "ann@example.org", nil)
	if err != nil {
		f.Fatal(err)
	}
	var key, sig bytes.Buffer
	if err := entity.Serialize(&key); err != nil {
		f.Fatal(err)
	}
	if err := openpgp.ArmoredDetachSign(&sig, entity, strings.NewReader(fuzzedTag), nil); err != nil {
		f.Fatal(err)
	}
	keys, problems := parseOpenPGP("key", key.Bytes())
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	signers := &Signers{openpgp: keys}
	good := sig.String() + "\n"
	block, err := armor.Decode(strings.NewReader(good))
	if err != nil {
		f.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(block.Body); err != nil {
		f.Fatal(err)
	}
	f.Add(fuzzedTag, good, []byte{})
	f.Add(fuzzedTag, "", raw.Bytes())
	f.Add(fuzzedTag+"x", "", raw.Bytes())
	f.Add(fuzzedTag, "-----BEGIN PGP SIGNATURE-----\n\n=\n-----END PGP SIGNATURE-----\n", []byte{0xc2, 1, 4})
	f.Fuzz(func(t *testing.T, payload, armored string, packets []byte) {
		if armored == "" { // past the armour, into the packets
			var b bytes.Buffer
			w, err := armor.Encode(&b, openpgp.SignatureType, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(packets)
			_ = w.Close()
			armored = b.String() + "\n"
		}
		who, err := signers.Verify(SignedTag{Payload: []byte(payload), Armor: []byte(armored)}, time.Now())
		if err == nil && (payload != fuzzedTag || who.Name != "Ann <ann@example.org>") {
			t.Errorf("%q is accepted as signed by %s", payload, who)
		}
		if payload == fuzzedTag && armored == good && err != nil {
			t.Errorf("the good signature is refused: %v", err)
		}
	})
}

// What is signed and the signature are the object, byte for byte, and the
// signature is what Tag shows.
func FuzzSplitTag(f *testing.F) {
	f.Add([]byte(fuzzedTag))
	f.Add([]byte(fuzzedTag + "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"))
	f.Add([]byte(fuzzedTag + "-----BEGIN PGP SIGNATURE-----\n-----BEGIN SSH SIGNATURE-----\n"))
	f.Add([]byte("tagger >>>< 999999999999999999999 +9999"))
	f.Add([]byte("\n\n-----BEGIN SIGNED MESSAGE-----"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tag := SplitTag(bytes.Clone(raw))
		if !bytes.Equal(append(bytes.Clone(tag.Payload), tag.Armor...), raw) {
			t.Errorf("%q is split into %q and %q", raw, tag.Payload, tag.Armor)
		}
		_, body, _ := bytes.Cut(raw, []byte("\n\n"))
		if _, shown := splitSignature(body); shown != string(tag.Armor) {
			t.Errorf("%q is shown as %q and verified as %q", raw, shown, tag.Armor)
		}
		if _, err := (&Signers{}).Verify(tag, time.Now()); err == nil {
			t.Errorf("%q is signed by nobody, and accepted", raw)
		}
	})
}

// A line is a key or a problem of its own, and a key is one that somebody may use.
func FuzzAllowedSigners(f *testing.F) {
	_, line := fuzzedSSH(f)
	key := strings.SplitN(line, " ", 2)[1]
	for _, head := range []string{"ann ", `"ann,*@x.org,!y@x.org" namespaces="git,f\"ile",valid-after="20260101Z" `, `ann valid-before="20260101" `,
		"ann cert-authority ", "# ", `" `, `a namespaces="`, "*,!* "} {
		f.Add(head + key)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, problems := parseAllowedSigners("allowed", []byte(text))
		if len(keys)+len(problems) == 0 {
			t.Errorf("%q says nothing, and that is no problem", text)
		}
		for _, k := range keys {
			if k.key == nil || len(k.principals) == 0 || !k.after.IsZero() && !k.before.IsZero() && !k.after.Before(k.before) {
				t.Errorf("%q gives %+v", text, k)
			}
			k.principal("ann@example.org")
		}
		for _, p := range problems {
			if p.Text == "" || p.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%q gives %+v", text, p)
			}
		}
	})
}

func TestMatchList(t *testing.T) {
	for _, tt := range []struct {
		list, name string
		want       listMatch
	}{
		{"ann@x.org", "ann@x.org", matched}, {"ann@x.org", "Ann@x.org", unmatched}, {"*@x.org", "ann@x.org", matched},
		{"*@x.org", "ann@x.org.evil", unmatched}, {"a?n@x.org", "ann@x.org", matched}, {"a?n@x.org", "an@x.org", unmatched},
		{"*", "", matched}, {"?", "", unmatched}, {"a*b*c", "aXbYbc", matched}, {"*,!ann@*", "ann@x.org", excluded},
		{"!ann@*,*", "ben@x.org", matched}, {"!ann@*", "ben@x.org", unmatched},
		{strings.Repeat("*a", 200), strings.Repeat("a", 5000) + "b", unmatched},
	} {
		list, err := patterns(tt.list)
		if got := matchList(list, tt.name); err != nil || got != tt.want {
			t.Errorf("%s against %s: %v, %v", tt.name, tt.list, got, err)
		}
	}
}
