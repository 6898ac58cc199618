package credentials_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/release"
)

// certificate is one for host that an authority of its own signed; file holds
// the authority.
func certificate(t *testing.T, host string) (cert tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	file = filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// proxy forwards every CONNECT to one address and tells where to they were.
type proxy struct {
	*httptest.Server
	mu    sync.Mutex
	hosts []string
}

func startProxy(t *testing.T, to string) *proxy {
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.hosts = append(p.hosts, r.Method+" "+r.Host)
		p.mu.Unlock()
		far, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			far.Close()
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); far.Close() }()
		go func() { _, _ = io.Copy(near, far); near.Close() }()
	}))
	t.Cleanup(p.Close)
	return p
}

// TestSTSIsAskedInTheTargetsRegion goes through a proxy to a server that has
// AWS's own name and a private authority's certificate.
func TestSTSIsAskedInTheTargetsRegion(t *testing.T) {
	a, _ := start(t)
	const host = "sts.ap-southeast-1.amazonaws.com"
	cert, authority := certificate(t, host)
	server := httptest.NewUnstartedServer(a.Handler("sts"))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	defer server.Close()
	p := startProxy(t, server.Listener.Addr().String())
	t.Setenv("NO_PROXY", "internal.example")
	s := credentials.Settings{CABundle: authority, Proxy: p.URL}
	g, err := credentials.New(load(t, s), s).Open(t.Context(), request(func(r *credentials.Request) { r.Region = "ap-southeast-1" }))
	must(t, err)
	if want := []string{"CONNECT " + host + ":443"}; !slices.Equal(p.hosts, want) {
		t.Errorf("the proxy was asked for %q, want %q", p.hosts, want)
	}
	if call := a.AssumeRoles()[0]; call.Region != "ap-southeast-1" {
		t.Errorf("signed for %q", call.Region)
	}
	env := g.Environment("/sessions/7")
	for name, want := range map[string]string{"AWS_CA_BUNDLE": authority, "HTTPS_PROXY": p.URL, "NO_PROXY": "internal.example", "AWS_REGION": "ap-southeast-1"} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	s.CABundle = ""
	_, err = credentials.New(load(t, s), s).Open(t.Context(), request(func(r *credentials.Request) { r.Region = "ap-southeast-1" }))
	checkError(t, err, release.ErrUnavailable, []string{"look at the network, the proxy, the endpoint and the CA bundle", "certificate"})
}

func TestLoadFindsTheRegion(t *testing.T) {
	bare(t)
	for _, c := range []struct{ set, env, want string }{{"", "", "us-east-1"}, {"", "eu-central-1", "eu-central-1"}, {"eu-west-1", "eu-central-1", "eu-west-1"}} {
		t.Setenv("AWS_REGION", c.env)
		if cfg, err := credentials.Load(t.Context(), credentials.Settings{Region: c.set}); err != nil || cfg.Region != c.want {
			t.Errorf("%+v: %q, %v", c, cfg.Region, err)
		}
	}
	cfg, err := credentials.Load(t.Context(), credentials.Settings{})
	if err != nil || cfg.Retryer().MaxAttempts() != 8 {
		t.Errorf("%d attempts, %v", cfg.Retryer().MaxAttempts(), err)
	}
}

// Clients of every service find their endpoint in what Load returns.
func TestEndpointsAreForEachService(t *testing.T) {
	a, _ := start(t)
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	cfg := load(t, credentials.Settings{Endpoints: map[string]string{"s3": server.URL + "/s3", "dynamodb": server.URL + "/dynamodb",
		"sqs": server.URL + "/sqs", "sts": a.Endpoints()["sts"]}})
	for service, ask := range map[string]func(context.Context) error{
		"s3": func(ctx context.Context) error {
			_, err := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
			return err
		},
		"dynamodb": func(ctx context.Context) error {
			_, err := dynamodb.NewFromConfig(cfg).ListTables(ctx, nil)
			return err
		},
		"sqs": func(ctx context.Context) error {
			_, err := sqs.NewFromConfig(cfg).ListQueues(ctx, nil)
			return err
		},
	} {
		if err := ask(t.Context()); err == nil {
			t.Errorf("%s: no error", service)
		}
		select {
		case path := <-asked:
			if !strings.HasPrefix(path, "/"+service) {
				t.Errorf("%s: asked for %s", service, path)
			}
		default:
			t.Errorf("%s: its endpoint was not asked", service)
		}
	}
}

func TestWrongSettingsAreInvalid(t *testing.T) {
	bare(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, os.WriteFile(empty, []byte("nothing"), 0o600))
	for says, s := range map[string]credentials.Settings{
		"reading the CA bundle":                       {CABundle: "/nowhere/ca.pem"},
		"empty.pem holds no certificate: write PEM":   {CABundle: empty},
		"the proxy is no URL: write http://host:port": {Proxy: "://user:hidden@"},
	} {
		_, err := credentials.Load(t.Context(), s)
		checkError(t, err, release.ErrInvalid, []string{says})
	}
}
