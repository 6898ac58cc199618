package testkit

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"time"
)

// codeCommitDate is the form of the time in what is signed: without a Z, which
// the password has behind it nevertheless.
const codeCommitDate = "20060102T150405"

// codeCommitValid is how long CodeCommit takes a signature as a password.
const codeCommitValid = 15 * time.Minute

// CodeCommit serves a remote as CodeCommit does over HTTPS, in one Region, and
// returns its clone address. The user name must be an access key id, with "%"
// and the session token for a session; the password a time and the signature
// of the address; and the caller must be allowed codecommit:GitPull.
func (a *AWS) CodeCommit(remote *Remote, region, name string) (url string) {
	a.t.Helper()
	git := remote.ServeHTTP("", "")
	service := &awsService{name: "codecommit", codes: awsCodes{
		unknownKey: awsCode{"UnknownAccessKey", 403}, wrongToken: awsCode{"WrongSessionToken", 403},
		expired: awsCode{"ExpiredToken", 403}, mismatch: awsCode{"SignatureDoesNotMatch", 403},
		skewed: awsCode{"SignatureExpired", 403}, denied: awsCode{"AccessDenied", 403},
		missing: awsCode{"MissingCredentials", 401}, skew: codeCommitValid,
	}}
	clone := "/v1/repos/" + name
	arn := fmt.Sprintf("arn:aws:codecommit:%s:%s:%s", region, AWSAccount, name)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.Path, clone)
		c, refusal := a.readGitPassword(service, r, region, clone)
		if refusal == nil {
			refusal = c.authorize("GitPull", "GitPull", arn, nil)
		}
		switch {
		case refusal != nil:
			if refusal.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="/v1/repos"`)
			}
			http.Error(w, refusal.Code+": "+refusal.Message, refusal.Status)
		case !found || !strings.HasPrefix(rest, "/"):
			http.NotFound(w, r)
		default:
			r.URL.Path, r.URL.RawPath = "/"+filepath.Base(remote.Dir)+rest, ""
			git.ServeHTTP(w, r)
		}
	}))
	a.t.Cleanup(server.Close)
	return server.URL + clone
}

// readGitPassword checks the Basic credentials of one request.
func (a *AWS) readGitPassword(s *awsService, r *http.Request, region, clone string) (*awsCall, *awsError) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil, s.codes.missing.error("The request has no Basic credentials.")
	}
	id, token, _ := strings.Cut(user, "%")
	session, refusal := a.caller(s, id, token)
	if refusal != nil {
		return nil, refusal
	}
	date, signature, ok := strings.Cut(password, "Z")
	at, err := time.Parse(codeCommitDate, date)
	if !ok || err != nil {
		return nil, s.codes.mismatch.error("The password is no time and signature.")
	}
	if age := a.now().Sub(at); age > s.codes.skew || age < -s.codes.skew {
		return nil, s.codes.skewed.error("The password was signed at " + date + "Z, and it is " + a.now().UTC().Format(amzDate) + ".")
	}
	host, _, _ := strings.Cut(r.Host, ":") // the port is not signed
	digest := sha256.Sum256([]byte("GIT\n" + clone + "\n\nhost:" + host + "\n\nhost\n"))
	text := strings.Join([]string{sigV4Algorithm, date, date[:8] + "/" + region + "/codecommit/aws4_request", hex.EncodeToString(digest[:])}, "\n")
	want := sigV4Sign(session.secret, date[:8], region, "codecommit", text)
	if subtle.ConstantTimeCompare([]byte(want), []byte(signature)) != 1 {
		return nil, s.codes.mismatch.error("The signature is not that of " + clone + " in " + region + " by this key.")
	}
	return &awsCall{Request: r, Caller: session, Region: region, aws: a, service: s}, nil
}
