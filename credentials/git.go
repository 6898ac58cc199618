package credentials

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// codeCommitHost is the form of CodeCommit's host names, with the Region.
var codeCommitHost = regexp.MustCompile(`^git-codecommit(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// GitCredentials makes a user name and password for one exchange with a
// CodeCommit repository over HTTPS, from the service's own identity, in the way
// of git-remote-codecommit: the password is a signature that lasts some
// minutes. region "" is that of the URL's host, else the service's.
//
// Errors wrap release.ErrInvalid where the URL cannot be a repository's, and
// release.ErrUnavailable where the identity cannot be had just now.
func (b *Broker) GitCredentials(ctx context.Context, rawURL, region string) (username, password string, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") == "" {
		return "", "", fmt.Errorf("%w CodeCommit URL: write https://git-codecommit.<region>.amazonaws.com/v1/repos/<name>", release.ErrInvalid)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && !(u.Scheme == "http" && ip != nil && ip.IsLoopback()) {
		return "", "", fmt.Errorf("%w CodeCommit URL %s: credentials go over https alone", release.ErrInvalid, u.Redacted())
	}
	if m := codeCommitHost.FindStringSubmatch(u.Hostname()); m != nil {
		region = cmp.Or(region, m[1])
	}
	region = cmp.Or(region, b.cfg.Region)
	if err := b.ready(ctx, region); err != nil {
		return "", "", err
	}
	who, err := b.cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return "", "", fmt.Errorf("looking for the service's AWS identity: %w", err)
	}
	username = who.AccessKeyID
	if who.SessionToken != "" {
		username += "%" + who.SessionToken
	}
	return username, signGit(who.SecretAccessKey, u, region, b.now()), nil
}

// signGit is the password: Signature Version 4 of a request that is never sent
// in this form. The port and the time's Z are no part of what is signed.
func signGit(secret string, u *url.URL, region string, now time.Time) string {
	at := now.UTC().Format("20060102T150405")
	request := "GIT\n" + strings.TrimSuffix(u.EscapedPath(), "/") + "\n\nhost:" + u.Hostname() + "\n\nhost\n"
	digest := sha256.Sum256([]byte(request))
	scope := at[:8] + "/" + region + "/codecommit/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + at + "\n" + scope + "\n" + hex.EncodeToString(digest[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{at[:8], region, "codecommit", "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return at + "Z" + hex.EncodeToString(key)
}
