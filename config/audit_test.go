package config_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
)

func TestAuditIsDecoded(t *testing.T) {
	c := parse(t, minimal+`
audit {
  origin = "waymark.example.org/audit"
  copy {
    bucket      = "org-waymark-audit"
    prefix      = "audit/"
    object_lock = "8760h"
  }
}
aws { region = "eu-west-1" }
consumer "siem" {
  url     = "https://siem.example.org/in?token=abc"
  secret  = "0123456789abcdef"
  events  = ["run.*"]
  headers = { authorization = "Splunk 1", X-Empty = "" }
}
consumer "other" {
  url     = "http://127.0.0.1:9000"
  secret  = "0123456789abcdef"
  mode    = "binary"
  timeout = "1s"
  since   = "now"
}
`)
	want := config.AuditCopy{Bucket: "org-waymark-audit", Prefix: "audit/", Region: "eu-west-1", ObjectLock: 365 * 24 * time.Hour,
		ObjectLockMode: "governance", Every: time.Minute}
	if c.Audit.Origin != "waymark.example.org/audit" || c.Audit.Copy != want || !c.Audit.Copy.IsSet() {
		t.Errorf("audit %+v", c.Audit)
	}
	siem, other := c.Consumers[0], c.Consumers[1]
	if siem.Name != "siem" || siem.URL.Reveal() != "https://siem.example.org/in?token=abc" || !slices.Equal(siem.Events, []string{"run.*"}) ||
		siem.Mode != "structured" || siem.Timeout != 10*time.Second || siem.Since != "beginning" ||
		len(siem.Headers) != 1 || siem.Headers["Authorization"].Reveal() != "Splunk 1" {
		t.Errorf("consumer %+v", siem)
	}
	if other.Mode != "binary" || other.Timeout != time.Second || other.Since != "now" || other.Events != nil {
		t.Errorf("consumer %+v", other)
	}
	if text := fmt.Sprintf("%+v %v", siem, siem); strings.Contains(text, "abc") || strings.Contains(text, "Splunk") {
		t.Errorf("it prints a secret: %s", text)
	}
	if parse(t, minimal).Audit.Copy.IsSet() {
		t.Error("without a block there is a copy")
	}
}

// Each case is what must be said of the minimal file and more, and nothing else.
func TestProblemsOfAudit(t *testing.T) {
	const good = "url = \"https://h/x\"\n secret = \"0123456789abcdef\"\n "
	for _, tt := range []struct{ name, src, want string }{
		{"bad origin", `audit { origin = "my log" }`, `audit.origin is no name of a log: "my log"`},
		{"a key that is none", `audit { key = "hunter2" }`, "audit.key is no private key of the form"},
		{"two keys", "audit {\n key = \"PRIVATE+KEY+x\"\n key_file = \"k\"\n}", "audit has both a key and a key_file"},
		{"no place", "audit {\n copy {}\n}", "audit.copy has neither a folder nor a bucket"},
		{"two places", "audit {\n copy {\n folder = \"/a\"\n bucket = \"abc\"\n}\n}", "audit.copy has both a folder and a bucket"},
		{"lock of a folder", "audit {\n copy {\n folder = \"/a\"\n object_lock = \"24h\"\n}\n}", "audit.copy.object_lock does nothing for a folder"},
		{"mode without lock", "audit {\n copy {\n bucket = \"abc\"\n object_lock_mode = \"compliance\"\n}\n}", "object_lock_mode does nothing without object_lock"},
		{"short lock", "audit {\n copy {\n bucket = \"abc\"\n object_lock = \"1h\"\n}\n}", "audit.copy.object_lock cannot be less than 24h"},
		{"copy in data_dir", "audit {\n copy { folder = \"waymark-data/audit\" }\n}", "audit.copy.folder is in data_dir"},
		{"where blobs are", "blobs { folder = \"/b\" }\naudit {\n copy { folder = \"/b\" }\n}", "audit.copy and blobs are the same place"},
		{"reserved name", "consumer \"copy\" {\n " + good + "}", `the name of consumer "copy" cannot be "copy"`},
		{"no URL", "consumer \"a\" {\n url = \"ftp://h\"\n secret = \"0123456789abcdef\"\n}", "consumer.a.url is no URL"},
		{"password in URL", "consumer \"a\" {\n url = \"https://me:hunter2@h\"\n secret = \"0123456789abcdef\"\n}", "consumer.a.url holds a user name or password"},
		{"short secret", "consumer \"a\" {\n url = \"https://h\"\n secret = \"hunter2\"\n}", "consumer.a.secret is too short"},
		{"bad pattern", "consumer \"a\" {\n " + good + "events = [\"Run!\"]\n}", `consumer.a.events[0] is no action: "Run!"`},
		{"own header", "consumer \"a\" {\n " + good + "headers = { ce-id = \"hunter2\" }\n}", "consumer.a.headers cannot set Ce-Id"},
		{"no header", "consumer \"a\" {\n " + good + "headers = { \"a b\" = \"hunter2\" }\n}", `"a b" is no name of a header`},
		{"two lines", "consumer \"a\" {\n " + good + "headers = { X-A = \"hunter2\\r\\nX-B: 1\" }\n}", "holds a control character"},
		{"no map", "consumer \"a\" {\n " + good + "headers = [\"hunter2\"]\n}", "consumer.a.headers must be a map of strings"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("waymark.hcl", []byte(minimal+tt.src+"\n"), nil)
			var problems config.Problems
			if !errors.As(err, &problems) || len(problems) != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want one problem with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it repeats a secret: %v", err)
			}
		})
	}
}
