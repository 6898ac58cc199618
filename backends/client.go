package backends

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/waymark-cd/waymark/release"
)

// S3Config says how this process reaches AWS.
type S3Config struct {
	AWS aws.Config // the identity, how often to try, and the Region where a backend names none
	// Endpoints are addresses by service: s3, dynamodb, sts. Those of a backend
	// itself take precedence. Buckets are named in the path at an address that
	// is given here.
	Endpoints map[string]string
}

// Client looks at the storage of states, and changes it where it is asked to:
// never a state. It may be used by several goroutines.
type Client struct {
	cfg S3Config

	mu    sync.Mutex
	known map[string]*connection // by where and how
}

// New returns a client. It reaches nothing yet. A client that looks at local
// states alone needs no configuration.
func New(cfg S3Config) *Client {
	if cfg.AWS.HTTPClient == nil {
		cfg.AWS.HTTPClient = awshttp.NewBuildableClient() // one pool of connections
	}
	return &Client{cfg: cfg, known: map[string]*connection{}}
}

// s3Place is where one target's state lives in S3.
type s3Place struct {
	bucket, key, table string
	region             string // empty where nothing names one
	lockfile           bool
	kms, acl           string
	customerKey        string // base64, of SSE-C
	endpoints          map[string]string
	pathStyle          bool
	role               map[string]any
}

// s3PlaceOf reads a specification of type "s3". Errors wrap release.ErrInvalid.
func s3PlaceOf(spec release.BackendSpec) (p s3Place, err error) {
	if err := check(spec); err != nil {
		return p, err
	}
	if spec.Type != s3Type {
		return p, fmt.Errorf("%w backend %q: only states in S3 and local ones can be looked at without the engine", release.ErrInvalid, spec.Type)
	}
	v := spec.Values
	p = s3Place{bucket: v["bucket"], key: v["key"], table: v["dynamodb_table"], region: v["region"], lockfile: v["use_lockfile"] == "true",
		kms: v["kms_key_id"], acl: v["acl"], customerKey: v["sse_customer_key"]}
	var style string
	if p.endpoints, err = endpointsOf(v); err == nil {
		p.role, err = roleOf(v)
	}
	if err == nil {
		style, err = either(v, pathStyle[:]...)
	}
	p.pathStyle = style == "true"
	if err == nil && (p.bucket == "" || p.key == "") {
		err = fmt.Errorf("bucket and key are needed to find a state")
	}
	if err != nil {
		return p, fmt.Errorf("%w backend %q: %w", release.ErrInvalid, s3Type, err)
	}
	return p, nil
}

// connection holds the clients of one Region, set of addresses and identity.
type connection struct {
	s3     *s3.Client
	tables *dynamodb.Client
	sts    *sts.Client
	region string
}

// connect returns the clients for a place. The error wraps release.ErrInvalid
// where nothing names a Region.
func (c *Client) connect(p s3Place) (*connection, error) {
	cfg := c.cfg.AWS.Copy()
	if p.region != "" {
		cfg.Region = p.region
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("%w backend %q: no Region is known for bucket %q: set region in the backend block", release.ErrInvalid, s3Type, p.bucket)
	}
	endpoints := maps.Clone(c.cfg.Endpoints)
	if endpoints == nil {
		endpoints = map[string]string{}
	}
	maps.Copy(endpoints, p.endpoints)
	name := fmt.Sprint(cfg.Region, endpoints, p.pathStyle, p.role) // fmt sorts maps
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.known[name]; known != nil {
		return known, nil
	}
	at := func(service string) *string {
		if endpoints[service] == "" {
			return nil
		}
		return aws.String(endpoints[service])
	}
	if p.role != nil {
		cfg.Credentials = assumed(cfg, at("sts"), p.role)
	}
	out := &connection{region: cfg.Region, sts: stsClient(cfg, at("sts")),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) {
			if base := at("s3"); base != nil {
				o.BaseEndpoint = base
			}
			o.UsePathStyle = p.pathStyle || p.endpoints["s3"] == "" && c.cfg.Endpoints["s3"] != ""
			o.DisableLogOutputChecksumValidationSkipped = true
		}),
		tables: dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
			if base := at("dynamodb"); base != nil {
				o.BaseEndpoint = base
			}
		})}
	c.known[name] = out
	return out, nil
}

func stsClient(cfg aws.Config, endpoint *string) *sts.Client {
	return sts.NewFromConfig(cfg, func(o *sts.Options) {
		if endpoint != nil {
			o.BaseEndpoint = endpoint
		}
	})
}

// assumed is the identity of the role that a backend assumes by itself.
func assumed(cfg aws.Config, endpoint *string, role map[string]any) aws.CredentialsProvider {
	text := func(name string) string {
		s, _ := role[name].(string)
		return s
	}
	return aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(stsClient(cfg, endpoint), text("role_arn"), func(o *stscreds.AssumeRoleOptions) {
		if s := text("external_id"); s != "" {
			o.ExternalID = aws.String(s)
		}
		if s := text("source_identity"); s != "" {
			o.SourceIdentity = aws.String(s)
		}
		o.RoleSessionName = text("session_name")
		if o.RoleSessionName == "" {
			o.RoleSessionName = "waymark"
		}
		if length, err := time.ParseDuration(text("duration")); err == nil {
			o.Duration = length
		}
	}))
}

// object asks for an object in the bucket of a place.
func (p s3Place) object(key string) *s3.GetObjectInput {
	in := &s3.GetObjectInput{Bucket: aws.String(p.bucket), Key: aws.String(key)}
	if raw, err := base64.StdEncoding.DecodeString(p.customerKey); err == nil && len(raw) > 0 {
		in.SSECustomerAlgorithm, in.SSECustomerKey = aws.String("AES256"), aws.String(p.customerKey) // the SDK adds the digest
	}
	return in
}

// StateSerial reads the serial and lineage of a state, of type "local" or "s3".
// A state that does not exist yet, or is still empty, has serial 0 and no
// lineage. Errors wrap release.ErrInvalid for other backends and for what is no
// state, release.ErrNotFound for a missing bucket, and release.ErrUnavailable
// where AWS does not answer now.
func (c *Client) StateSerial(ctx context.Context, spec release.BackendSpec) (serial int64, lineage string, err error) {
	if spec.Type == local {
		return localSerial(spec)
	}
	p, err := s3PlaceOf(spec)
	if err != nil {
		return 0, "", err
	}
	conn, err := c.connect(p)
	if err != nil {
		return 0, "", err
	}
	out, err := conn.s3.GetObject(ctx, p.object(p.key))
	if isMissingObject(err) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", conn.explain(err, "s3:GetObject", p.objectARN(conn.region, p.key))
	}
	defer out.Body.Close()
	serial, lineage, err = readSerial(out.Body, "s3://"+p.bucket+"/"+p.key)
	return serial, lineage, err
}
