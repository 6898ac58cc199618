package credentials

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waymark-cd/waymark/release"
)

// The expected signatures are those that git-remote-codecommit's own tests have
// for the same keys, time and repository.
func TestGitCredentialsAreThoseOfTheRemoteHelper(t *testing.T) {
	const url = "https://git-codecommit.us-west-2.amazonaws.com/v1/repos/test_repo"
	const elsewhere = "https://land.called.honahlee/v1/repos/test_repo"
	const known = "20171224T115320Zb6df2d758a8023b2f000a546417007b65494f3ce8ad0300fd45fcfa173f1959a"
	const knownElsewhere = "20171224T115320Za14a37a53035bbceb6e1748247b143124fe7326cdffd3d418236a592ce6158a0"
	for name, c := range map[string]struct{ url, region, own, token, user, password string }{
		"Region of the host":     {url, "", "eu-central-1", "", "access", known},
		"with a session":         {url, "", "", "token", "access%token", known},
		"the port is not signed": {strings.Replace(url, ".com/", ".com:443/", 1), "us-west-2", "", "", "access", known},
		"a slash at the end":     {url + "/", "", "", "", "access", known},
		"given Region":           {elsewhere, "us-west-2", "eu-central-1", "", "access", knownElsewhere},
		"the service's Region":   {elsewhere, "", "us-west-2", "", "access", knownElsewhere},
	} {
		b := New(aws.Config{Region: c.own, Credentials: sdkcredentials.NewStaticCredentialsProvider("access", "secret", c.token)}, Settings{})
		b.now = func() time.Time { return time.Date(2017, 12, 24, 12, 53, 20, 0, time.FixedZone("", 3600)) }
		user, password, err := b.GitCredentials(t.Context(), c.url, c.region)
		if err != nil || user != c.user || password != c.password {
			t.Errorf("%s: %q, %q, %v", name, user, password, err)
		}
	}
}

func TestGitCredentialsGoToRepositoriesAlone(t *testing.T) {
	b := New(aws.Config{Region: "us-east-1"}, Settings{})
	for url, says := range map[string]string{
		"":                              "CodeCommit URL: write https://",
		"https://":                      "write https://",
		"https://host/":                 "write https://",
		"http://u:hidden@host/v1/repos": "http://u:xxxxx@host/v1/repos: credentials go over https alone",
		"ssh://host/v1/repos/x":         "https alone",
	} {
		_, _, err := b.GitCredentials(t.Context(), url, "")
		if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: got %v", url, err)
		}
	}
	if _, _, err := b.GitCredentials(t.Context(), "https://git-codecommit.us-west-2.amazonaws.com/v1/repos/x", ""); err == nil || !strings.Contains(err.Error(), "has no AWS identity") {
		t.Errorf("got %v", err)
	}
}
