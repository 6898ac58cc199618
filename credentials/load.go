package credentials

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/net/http/httpproxy"

	"github.com/waymark-cd/waymark/release"
)

const (
	// defaultRegion is where AWS is reached where nothing says another one.
	defaultRegion = "us-east-1"
	// maxAttempts is how often a request is sent at most. With the SDK's delays,
	// which grow to 20 s and are random, a request that is throttled all the time
	// is given up after some 45 s.
	maxAttempts = 8
)

// Settings say how the service reaches AWS. The zero value is what the SDK
// finds by itself.
type Settings struct {
	Region    string            // default Region; "": the SDK's chain, else us-east-1
	Profile   string            // of the shared configuration; "": the SDK's default chain
	Endpoints map[string]string // URL by service: sts, s3, dynamodb, kms, sqs, codecommit
	CABundle  string            // path of a PEM file that replaces the system's authorities; "": none
	Proxy     string            // URL of the proxy for HTTPS; "": HTTPS_PROXY of the process
}

// Load finds the service's own identity by the SDK's default chain and returns
// a configuration for clients of any service: regional endpoints or those of
// the settings, and requests that are throttled or lost are sent again. It asks
// nobody yet: that there is an identity shows at the first request.
//
// The error wraps release.ErrInvalid where the settings are wrong.
func Load(ctx context.Context, s Settings) (aws.Config, error) {
	client, err := httpClient(s)
	if err != nil {
		return aws.Config{}, err
	}
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithDefaultRegion(defaultRegion),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = maxAttempts })
		}),
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			if c, ok := o.Client.(*sts.Client); ok {
				o.Client = s.atEndpoint(c)
			}
		}),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			if c, ok := o.Client.(*sts.Client); ok {
				o.Client = s.atEndpoint(c)
			}
		}),
	}
	if s.Region != "" {
		options = append(options, config.WithRegion(s.Region))
	}
	if s.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.Profile))
	}
	if s.CABundle != "" {
		pem, err := readCABundle(s.CABundle)
		if err != nil {
			return aws.Config{}, err
		}
		options = append(options, config.WithCustomCABundle(bytes.NewReader(pem)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("%w AWS settings: %w: look at the profile, ~/.aws and the AWS_ variables of the service",
			release.ErrInvalid, err)
	}
	cfg.ConfigSources = append([]any{endpoints(s.Endpoints)}, cfg.ConfigSources...)
	return cfg, nil
}

// atEndpoint is the client by which the SDK finds the service's identity, at the
// endpoint of the settings; it is made before anybody sees the configuration.
func (s Settings) atEndpoint(client *sts.Client) *sts.Client {
	at := s.Endpoints["sts"]
	if at == "" {
		return client
	}
	return sts.New(client.Options(), func(o *sts.Options) { o.BaseEndpoint = aws.String(at) })
}

// endpoints is a source of the SDK's configuration with an endpoint per
// service. Where the process has AWS_ENDPOINT_URL, the SDK does not ask it.
type endpoints map[string]string

// GetServiceBaseEndpoint is what clients ask by their service's id, such as "DynamoDB".
func (e endpoints) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	at := e[strings.ToLower(strings.ReplaceAll(sdkID, " ", ""))]
	return at, at != "", nil
}

func readCABundle(file string) ([]byte, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w AWS settings: reading the CA bundle: %w", release.ErrInvalid, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w AWS settings: the CA bundle %s holds no certificate: write PEM files there, one after another",
			release.ErrInvalid, file)
	}
	return pem, nil
}

// linkLocal are the addresses of the machine's own metadata and credentials,
// which no proxy knows.
const linkLocal = "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,fd00:ec2::23"

// httpClient makes the client of all services. The proxy of the settings is for
// HTTPS alone, as HTTPS_PROXY is; the process's NO_PROXY counts for both.
func httpClient(s Settings) (*awshttp.BuildableClient, error) {
	client := awshttp.NewBuildableClient()
	if s.Proxy == "" {
		return client, nil
	}
	u, err := url.Parse(s.Proxy)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w AWS settings: the proxy is no URL: write http://host:port", release.ErrInvalid)
	}
	through := (&httpproxy.Config{HTTPSProxy: s.Proxy, NoProxy: linkLocal + "," + noProxy()}).ProxyFunc()
	return client.WithTransportOptions(func(t *http.Transport) {
		t.Proxy = func(r *http.Request) (*url.URL, error) { return through(r.URL) }
	}), nil
}

// noProxy is what the process must reach without a proxy, as NO_PROXY says.
func noProxy() string { return httpproxy.FromEnvironment().NoProxy }
