package mask

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestValuesInEveryForm(t *testing.T) {
	const secret = `pl4nt/ed "value" ${x} & 'more'`
	m := &Mask{}
	m.Add(secret, "first line of it\nsecond line of it\nxy\n")
	inside := base64.StdEncoding.EncodeToString([]byte("user:" + secret + "@host"))
	for name, text := range map[string]string{
		"itself":         secret,
		"JSON":           `{"a": "pl4nt/ed \"value\" ${x} & 'more'"}`,
		"JSON for HTML":  `pl4nt/ed \"value\" ${x} \u0026 'more'`,
		"JSON in JSON":   `pl4nt/ed \\\"value\\\" ${x} & 'more'`,
		"HCL":            `pl4nt/ed "value" $${x} & 'more'`,
		"shell":          `'pl4nt/ed "value" ${x} & '\''more'\'''`,
		"query":          url.QueryEscape(secret),
		"path":           url.PathEscape(secret),
		"base 64":        base64.StdEncoding.EncodeToString([]byte(secret)),
		"base 64 raw":    base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"inside base 64": inside,
		"hex":            hex.EncodeToString([]byte(secret)),
		"a line":         "error: second line of it!",
		"joined lines":   `"first line of it\nsecond line of it\n"`,
	} {
		got := m.Text("before " + text + " after")
		for _, leak := range []string{"pl4nt", "value", "cGw0bn", "706c346e", "line of it"} {
			if strings.Contains(got, leak) {
				t.Errorf("%s: %q shows %q", name, got, leak)
			}
		}
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, Mark) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestOverlapsAndShortOnes(t *testing.T) {
	m := &Mask{}
	m.Add("abcdef", "defghi", "def", "true", "abcdefXYZ")
	for in, want := range map[string]string{
		"1abcdefghi2":     "1(masked)2",
		"abcdefXYZ":       "(masked)",
		"abcdefX":         "(masked)X",
		"abcdefabcdef":    "(masked)",
		"true def abcde":  "true def abcde",
		"\xffabcdef\xfe":  "\xff(masked)\xfe",
		"abcdeabcdefgabc": "abcde(masked)gabc",
	} {
		if got := m.Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := m.Cut("we know abcd"); strings.Contains(got, "abcd") {
		t.Errorf("the beginning of a value at a cut end: %q", got)
	}
	long := strings.Repeat("0123456789abcdef,", 40)
	m.Add(long)
	if got := m.Text("it is " + long + "!\nnext"); got != "it is (masked)\nnext" {
		t.Errorf("a long value: %q", got)
	}
	if got := m.Cut("it is " + long[:100]); got != "it is (masked)" {
		t.Errorf("a long value, cut: %q", got)
	}
}

func TestShapes(t *testing.T) {
	for _, secret := range []string{
		"AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE",
		"ghp_" + strings.Repeat("a1B2", 9), "github_pat_11ABCDEFG0" + strings.Repeat("x", 30),
		"glpat-abcdefghij0123456789", "xoxb-123456789012-abcdefghijkl",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
		"AGE-SECRET-KEY-1QQPQYRR", "hvs.CAESIJabcdefghijklmnop",
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"kq8z2m4x9w7v1c5b3n6l0p8o2i4u6y7t",
		"FwoGZXIvYXdzEBYaDKs8r3kq0Wz7pQk4yCK3AVxT9jRkqfZ2b1Lh0dN5uE",
	} {
		text := `value = "` + secret + `", next`
		if got := (&Mask{}).Text(text); strings.Contains(got, secret[4:]) || !strings.HasSuffix(got, `", next`) {
			t.Errorf("%s is shown: %q", secret, got)
		}
	}
	for text, want := range map[string]string{
		"postgres://waymark:hunter2x@db/x":                                   "postgres://waymark:(masked)@db/x",
		"Authorization: Bearer abcdef123":                                    "Authorization: Bearer (masked)",
		"https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/abcdefgh":      "https://hooks.slack.com/services/(masked)",
		"-----BEGIN PRIVATE KEY-----\nMIIE\nab==\n-----END PRIVATE KEY-----": "-----BEGIN PRIVATE KEY-----(masked)-----END PRIVATE KEY-----",
	} {
		if got := (&Mask{}).Text(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestReadable: what people need to read stays.
func TestReadable(t *testing.T) {
	for _, text := range []string{
		"commit 0123456789abcdef0123456789abcdef01234567",
		"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
		"h1:fd1dbMRsbFDlQgbYtTzhdXDzzZkqJTSbyqpIGPSXwd8=",
		"SHA256:uNiVztksCsDhcc0u9e8BrQXoCDQ9SUZlVdEgKEC1c1k",
		"arn:aws:iam::111122223333:role/InfraBuildRoleForTheWholeOrganisation",
		"arn:aws:sts::111122223333:assumed-role/WaymarkRun/waymark-7-1-plan-dev-us-east-1-research",
		"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"94cf38b0-64a1-fd90-4c14-082f1bf4e10e",
		"module.regional[\"us-east-1\"].aws_security_group_rule.ingress_https_from_load_balancer[0]",
		"environments/dev/research/variables.tfvars: Error: Unsupported argument",
		"https://registry.opentofu.org/v1/providers/hashicorp/aws/5.31.0/download/linux/amd64",
		"terraform-provider-aws_v5.31.0_x5", "i-0123456789abcdef0", "vpc-0a1b2c3d4e5f60718",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/tmp/TestRolesOfTheAccounttofu2088543189/002/data/runs/1/1/session/config",
		"TestWebIdentitySessionNamesStayReadableInEveryLog", "2026-11-23T03:09:41.402Z",
		"org-awesome-tf-state-production-eu-central-1-account-1111222233",
		"Serializing/Deserializing/AbstractSingletonProxyFactoryBean2",
	} {
		if got := (&Mask{}).Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestRandomIsSeen counts how many random keys are seen by their looks alone.
func TestRandomIsSeen(t *testing.T) {
	for _, size := range []int{18, 24, 30, 48} {
		missed := 0
		for range 2000 {
			data := make([]byte, size)
			rand.Read(data)
			if key := base64.StdEncoding.EncodeToString(data); strings.Contains((&Mask{}).Text("key: "+key+"."), key) {
				missed++
			}
		}
		t.Logf("%d bytes in base 64: %.2f %% missed", size, float64(missed)/20)
		if missed > 2000/25 {
			t.Errorf("%d bytes: %d of 2000 random keys pass", size, missed)
		}
	}
}

func TestPatterns(t *testing.T) {
	m, err := New([]string{`corp-[0-9a-f]{8}`, `(?i)pin: \d+`})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Text("corp-0123abcd and PIN: 1234."); got != "(masked) and (masked)." {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{`a(`, `x*`, `(?=a)`, strings.Repeat("a", maxPattern+1)} {
		if _, err := New([]string{bad}); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func TestKeysOverManyLines(t *testing.T) {
	body := "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nq1w2\nAb==\n"
	m := &Mask{}
	lines := m.Lines()
	text := "before\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n" + body + "-----END RSA PRIVATE KEY-----\nafter q1w2\n"
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			line = "terraform_data.x (local-exec): " + line
		}
		out = append(out, lines.Line(line, false))
	}
	got := strings.Join(out, "\n")
	for line := range strings.SplitSeq(strings.TrimSpace(body), "\n") {
		if strings.Contains(strings.TrimSuffix(got, "after q1w2\n"), line) {
			t.Errorf("%q is shown:\n%s", line, got)
		}
	}
	if !strings.HasSuffix(got, "after q1w2\n") {
		t.Errorf("what follows the key is masked too:\n%s", got)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("some secret", "text with some secret in it", 3)
	f.Add("a\nbcdef", "x", 0)
	f.Fuzz(func(t *testing.T, value, text string, at int) {
		m := &Mask{}
		m.Add(value)
		at = min(max(at, 0), len(text))
		got := m.Text(text[:at] + value + text[at:])
		for line := range strings.SplitSeq(value, "\n") {
			line = strings.TrimSpace(line)
			// The mark itself may hold a value, and what is around it may make one anew.
			if !harmless(value) && len(line) >= MinValue && strings.Contains(strings.ReplaceAll(got, Mark, "\x00"), line) && !strings.Contains(line, "\x00") {
				t.Errorf("%q shows %q", got, line)
			}
		}
		m.Cut(text)
		m.Lines().Line(text, true)
	})
}

// TestCostOfMasking prints how fast a log is masked with many values.
func TestCostOfMasking(t *testing.T) {
	m := &Mask{}
	var values []string
	for i := range 1000 {
		values = append(values, fmt.Sprintf("secret-value-number-%d-of-many", i))
	}
	began := time.Now()
	m.Add(values...)
	t.Logf("1,000 values: ready in %s", time.Since(began).Round(time.Millisecond))
	line := `module.regional.aws_instance.web[0]: Still creating... [id=i-0123456789abcdef0, 10s elapsed] https://example.org/a/path`
	began = time.Now()
	const n = 20_000
	for range n {
		m.Text(line)
	}
	took := time.Since(began)
	t.Logf("%.0f MB/s", float64(n*len(line))/1e6/took.Seconds())
	if took > 10*time.Second {
		t.Errorf("%d lines took %s", n, took)
	}
}
