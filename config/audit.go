package config

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Audit says how the audit log is signed and where it is copied to.
type Audit struct {
	Origin  string // name of the log and of its keys; empty: one that is made at the first start
	Key     Secret // private key of checkpoints; empty with KeyFile empty: one that the database keeps
	KeyFile string // absolute path of a file that holds it, or empty
	Copy    AuditCopy
}

// AuditCopy is where the audit log is copied to: a folder, a bucket, or, where
// both are empty, nowhere.
type AuditCopy struct {
	Folder         string // absolute
	Bucket         string
	Prefix         string // of every key in the bucket; may end in a slash
	Region         string // of the bucket; empty: the SDK's own choice
	KMSKeyID       string // empty: S3's own key
	ObjectLock     time.Duration
	ObjectLockMode string        // "governance" or "compliance"
	Every          time.Duration // how long an entry waits for others at most
}

// IsSet reports whether the log is copied.
func (c AuditCopy) IsSet() bool { return c.Folder != "" || c.Bucket != "" }

// Consumer is a webhook that is sent the audit log as CloudEvents.
type Consumer struct {
	Name    string
	URL     Secret // may hold a token in its query
	Secret  Secret // signs each message
	Events  []string
	Headers Headers
	Mode    string // "structured" or "binary"
	Timeout time.Duration
	Since   string // "beginning" or "now": where a consumer begins that is new
}

// Headers are headers of requests; their values may be secrets.
type Headers map[string]Secret

// copyName is what the copy is called among the consumers.
const copyName = "copy"

func auditBlock() block {
	return block{
		name:  "audit",
		in:    within(func(c *Config, _ string) any { return &c.Audit }),
		about: "How the audit log's checkpoints are signed, and where the log is copied to. See [audit](audit.md).",
		fields: []field{
			{name: "origin", at: of(func(a *Audit) any { return &a.Origin }), check: checkOrigin, unset: "one that is made at the first start", example: `"waymark.example.org/audit"`,
				meaning: "Name of the log in its checkpoints, and of the keys that sign them. Where it changes, a new key signs from then on."},
			{name: "key", at: of(func(a *Audit) any { return &a.Key }), unset: "one that is made at the first start and kept in the database", example: `env("WAYMARK_AUDIT_KEY")`,
				meaning: "Private key that signs checkpoints, as `waymark audit new-key` prints it. The same for all that share a database."},
			{name: "key_file", at: of(func(a *Audit) any { return &a.KeyFile }), file: true, unset: "no file", example: `"/etc/waymark/audit.key"`,
				meaning: "A file that holds it, instead of `key`."},
		},
		blocks: []block{auditCopyBlock()},
	}
}

func auditCopyBlock() block {
	return block{
		name:  "copy",
		in:    within(func(a *Audit, _ string) any { return &a.Copy }),
		about: "Copy the audit log, as it grows, to a folder or to a bucket: files of entries as JSON Lines, each with its signed checkpoint beside it. A copy that cannot be made holds up nothing; `/readyz`, the metrics and `waymark consumers` tell.",
		fields: []field{
			{name: "folder", at: of(func(c *AuditCopy) any { return &c.Folder }), file: true, unset: "no folder", example: `"/srv/waymark-audit"`,
				meaning: "A folder of its own. With several instances, one that all of them see."},
			{name: "bucket", at: of(func(c *AuditCopy) any { return &c.Bucket }), check: checkBucket, unset: "no bucket", example: `"org-waymark-audit"`,
				meaning: "A bucket of S3. The service's identity needs `s3:PutObject`, `s3:GetObject` and `s3:ListBucket`, and `s3:PutObjectRetention` for `object_lock`."},
			{name: "prefix", at: of(func(c *AuditCopy) any { return &c.Prefix }), check: checkPrefix, unset: "the whole bucket", example: `"audit/"`,
				meaning: "What the keys in the bucket begin with."},
			{name: "region", at: of(func(c *AuditCopy) any { return &c.Region }), check: checkRegion, unset: "`aws.region`, or the SDK's own choice", example: `"us-east-1"`,
				meaning: "Region of the bucket."},
			{name: "kms_key_id", at: of(func(c *AuditCopy) any { return &c.KMSKeyID }), check: checkKMSKey, unset: "S3's own key", example: `"alias/waymark"`,
				meaning: "Key of KMS that S3 encrypts with."},
			{name: "object_lock", at: of(func(c *AuditCopy) any { return &c.ObjectLock }), least: leastRetention, unset: "none", example: `"8760h"`,
				meaning: "For how long S3 keeps each file from being deleted or replaced. The bucket must have been made with Object Lock. At least `\"24h\"`."},
			{name: "object_lock_mode", at: of(func(c *AuditCopy) any { return &c.ObjectLockMode }), fallback: `"governance"`, oneOf: []string{"governance", "compliance"}, example: `"compliance"`,
				meaning: "`governance`: who has `s3:BypassGovernanceRetention` may delete sooner. `compliance`: nobody may, the account's owner included."},
			{name: "every", at: of(func(c *AuditCopy) any { return &c.Every }), fallback: `"1m"`, least: time.Second, example: `"10s"`,
				meaning: "How long an entry waits at most for others to be copied with. A file has 1,000 entries at most."},
		},
	}
}

func consumerBlock() block {
	return block{
		name: "consumer", label: "name", many: true, checkLabel: checkConsumer,
		in: within(func(c *Config, name string) any {
			return added(&c.Consumers, Consumer{Name: name})
		}),
		about: "A webhook that is sent each entry of the audit log as a CloudEvent: at least once, in order, one at a time. It is tried until it answers with a success; meanwhile nothing else waits. See [audit](audit.md#cloudevents).",
		fields: []field{
			{name: "url", required: true, at: of(func(c *Consumer) any { return &c.URL }), check: checkWebhookURL, example: `"https://siem.example.org/waymark"`,
				meaning: "Where entries are sent. What follows a question mark is shown nowhere."},
			{name: "secret", required: true, at: of(func(c *Consumer) any { return &c.Secret }), example: `env("SIEM_SECRET")`,
				meaning: "Signs each message: `X-Waymark-Signature` has the HMAC-SHA256 of its time and body. 16 characters at least."},
			{name: "events", at: of(func(c *Consumer) any { return &c.Events }), check: checkEventPattern, unset: "all", example: `["run.*", "tag.refused"]`,
				meaning: "Actions to send; `*` stands for any text. The others are left out."},
			{name: "headers", at: of(func(c *Consumer) any { return &c.Headers }), unset: "none", example: `{ Authorization = env("SIEM_AUTHORIZATION", "") }`,
				meaning: "Further headers of each message."},
			{name: "mode", at: of(func(c *Consumer) any { return &c.Mode }), fallback: `"structured"`, oneOf: []string{"structured", "binary"}, example: `"binary"`,
				meaning: "`structured`: the body is the whole event as JSON. `binary`: the body is the entry, and the event's attributes are headers."},
			{name: "timeout", at: of(func(c *Consumer) any { return &c.Timeout }), fallback: `"10s"`, least: 100 * time.Millisecond, example: `"30s"`,
				meaning: "How long an answer may take."},
			{name: "since", at: of(func(c *Consumer) any { return &c.Since }), fallback: `"beginning"`, oneOf: []string{"beginning", "now"}, example: `"now"`,
				meaning: "Where a consumer begins that the database does not know yet: with the first entry of the log, or with the next."},
		},
	}
}

// originForm is the name of a log: printable ASCII without spaces and plus signs.
var originForm = regexp.MustCompile(`^[!-*,-~]{1,200}$`)

func checkOrigin(s string) (summary, detail string) {
	if originForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no name of a log: %q", short(s)), `write one such as "waymark.example.org/audit", without spaces and plus signs`
}

// checkConsumer judges the name of a consumer.
func checkConsumer(s string) (summary, detail string) {
	if s == copyName {
		return fmt.Sprintf("cannot be %q", s), "that is what the audit log's copy is called; write another name"
	}
	return checkName(s)
}

// checkWebhookURL judges an address that messages are sent to. It must not repeat
// it: it may hold a token.
func checkWebhookURL(s string) (summary, detail string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "is no URL", "write one such as https://siem.example.org/waymark"
	case u.User != nil:
		return "holds a user name or password", "write headers = { Authorization = env(\"…\") } instead"
	case u.Fragment != "":
		return "has a fragment", "leave out what follows the hash: it is never sent"
	}
	return "", ""
}

// eventPattern is an action, or a pattern of actions.
var eventPattern = regexp.MustCompile(`^[a-z0-9_.*]{1,64}$`)

func checkEventPattern(s string) (summary, detail string) {
	if eventPattern.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no action: %q", short(s)), `write one such as "run.approved" or "run.*"; docs/operations.md lists them`
}

// headerForm is the name of a header.
var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

// ownHeaders are set by Waymark itself, or belong to the connection.
var ownHeaders = []string{"Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "X-Waymark-Signature", "User-Agent"}

// headers reads a map of headers. The values may be secrets and are never
// repeated; those that are empty are left out.
func (d *decoder) headers(value cty.Value, at hcl.Range, path string) Headers {
	if t := value.Type(); value.IsNull() || !value.IsKnown() || !(t.IsObjectType() || t.IsMapType()) {
		d.report(at, fmt.Sprintf("%s must be a map of strings", path), `write { Authorization = env("…") }`)
		return nil
	}
	out := Headers{}
	elements := value.AsValueMap()
	for _, name := range slices.Sorted(maps.Keys(elements)) {
		canonical := http.CanonicalHeaderKey(name)
		switch text := d.text(&field{}, elements[name], at, path+"."+short(name)); {
		case !headerForm.MatchString(name):
			d.report(at, fmt.Sprintf("%s: %q is no name of a header", path, short(name)), "use letters, digits and hyphens")
		case slices.Contains(ownHeaders, canonical) || strings.HasPrefix(canonical, "Ce-"):
			d.report(at, fmt.Sprintf("%s cannot set %s", path, canonical), "it is Waymark's own: take it out")
		case strings.ContainsFunc(text, isControl):
			d.report(at, fmt.Sprintf("%s.%s holds a control character", path, short(name)), "a header is one line of text")
		case text != "":
			out[canonical] = NewSecret(text)
		}
	}
	return out
}

// leastSecret is the fewest characters of a consumer's secret.
const leastSecret = 16

// checkAudit finds keys that exclude each other, and secrets that are none.
func (d *decoder) checkAudit(cfg *Config) {
	a := &cfg.Audit
	if d.has("audit", "key") && d.has("audit", "key_file") {
		d.report(d.at("audit", "key_file"), "audit has both a key and a key_file", "one key signs: take one of the two out")
	}
	if a.Key.IsSet() && !strings.HasPrefix(a.Key.Reveal(), "PRIVATE+KEY+") {
		d.report(d.at("audit", "key"), "audit.key is no private key of the form PRIVATE+KEY+<origin>+<hash>+<key>", "make one with `waymark audit new-key ORIGIN`")
	}
	for _, c := range cfg.Consumers {
		if path := "consumer." + c.Name + ".secret"; len(c.Secret.Reveal()) < leastSecret && !d.broken[path] {
			d.report(d.at("consumer", c.Name, "secret"), path+" is too short", fmt.Sprintf("write %d characters or more, such as what `openssl rand -hex 32` prints", leastSecret))
		}
	}
	if d.has("audit", "copy") {
		d.checkCopy(cfg)
	}
}

// checkCopy finds places of the copy that exclude each other.
func (d *decoder) checkCopy(cfg *Config) {
	c := &cfg.Audit.Copy
	if c.Region == "" && c.Bucket != "" && !d.broken["audit.copy.region"] {
		c.Region = cfg.AWS.Region
	}
	folder, bucket := d.has("audit", "copy", "folder"), d.has("audit", "copy", "bucket")
	switch {
	case folder && bucket:
		d.report(d.at("audit", "copy", "bucket"), "audit.copy has both a folder and a bucket", "there is one copy: take one of the two out")
	case !folder && !bucket:
		d.report(d.at("audit", "copy"), "audit.copy has neither a folder nor a bucket", `write folder = "/srv/waymark-audit" or bucket = "...", or take the block out`)
	case folder:
		for _, name := range []string{"prefix", "region", "kms_key_id", "object_lock", "object_lock_mode"} {
			if d.has("audit", "copy", name) {
				d.report(d.at("audit", "copy", name), fmt.Sprintf("audit.copy.%s does nothing for a folder", name), "it is a setting of a bucket: take it out")
			}
		}
		if c.Folder != "" && d.intact("server.data_dir") && isBeneath(cfg.Server.DataDir, c.Folder) {
			d.report(d.at("audit", "copy", "folder"), "audit.copy.folder is in data_dir", "whoever can change the database could change its copy: write a folder elsewhere, of another owner or on another machine")
		}
	case d.has("audit", "copy", "object_lock_mode") && !d.has("audit", "copy", "object_lock"):
		d.report(d.at("audit", "copy", "object_lock_mode"), "audit.copy.object_lock_mode does nothing without object_lock", `write object_lock = "8760h", or take it out`)
	}
	if c.IsSet() && c.Folder != "" && c.Folder == cfg.Blobs.Folder || c.Bucket != "" && c.Bucket == cfg.Blobs.Bucket && strings.Trim(c.Prefix, "/") == strings.Trim(cfg.Blobs.Prefix, "/") {
		d.report(d.at("audit", "copy"), "audit.copy and blobs are the same place", "give each its own folder, bucket or prefix")
	}
}

// isBeneath reports whether a path is a folder or in it.
func isBeneath(dir, path string) bool {
	rest, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rest)
}
