package testkit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	sigV4Algorithm = "AWS4-HMAC-SHA256"
	// amzDate is the form of times in signatures.
	amzDate = "20060102T150405Z"
)

// authorization is an Authorization header of AWS Signature Version 4.
type authorization struct {
	accessKeyID, date, region, service string
	signedHeaders                      []string
	signature                          string
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parseAuthorization(header string) (authorization, bool) {
	rest, ok := strings.CutPrefix(header, sigV4Algorithm+" ")
	if !ok {
		return authorization{}, false
	}
	values := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		values[name] = value
	}
	scope := strings.Split(values["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || values["SignedHeaders"] == "" || values["Signature"] == "" {
		return authorization{}, false
	}
	return authorization{accessKeyID: scope[0], date: scope[1], region: scope[2], service: scope[3],
		signedHeaders: strings.Split(values["SignedHeaders"], ";"), signature: values["Signature"]}, true
}

// sign computes the signature that the request must have. S3 escapes paths
// once and takes the body's hash from a header, which is then checked.
func (a authorization) sign(r *http.Request, body []byte, secret string, s3 bool) (string, error) {
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	path := awsEscape(r.URL.EscapedPath(), true)
	if s3 {
		path = awsEscape(r.URL.Path, true)
		claimed := r.Header.Get("X-Amz-Content-Sha256")
		if len(claimed) == len(payload) && claimed != payload {
			return "", errors.New("the provided 'x-amz-content-sha256' header does not match what was computed")
		}
		payload = claimed
	}
	headers, err := a.canonicalHeaders(r)
	if err != nil {
		return "", err
	}
	request := strings.Join([]string{r.Method, path, canonicalQuery(r.URL.Query()), headers, strings.Join(a.signedHeaders, ";"), payload}, "\n")
	requestSum := sha256.Sum256([]byte(request))
	scope := strings.Join([]string{a.date, a.region, a.service, "aws4_request"}, "/")
	text := strings.Join([]string{sigV4Algorithm, r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(requestSum[:])}, "\n")
	return sigV4Sign(secret, a.date, a.region, a.service, text), nil
}

// sigV4Sign signs text with the key that is derived for the scope, in hex.
func sigV4Sign(secret, date, region, service, text string) string {
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// canonicalHeaders returns the signed headers, one per line. What tells of the
// caller must be among them.
func (a authorization) canonicalHeaders(r *http.Request) (string, error) {
	if !slices.Contains(a.signedHeaders, "host") {
		return "", errors.New("the header host must be signed")
	}
	for name := range r.Header {
		if name := strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(a.signedHeaders, name) {
			return "", errors.New("there were headers present in the request which were not signed: " + name)
		}
	}
	var out strings.Builder
	for _, name := range a.signedHeaders {
		values := r.Header.Values(name)
		switch {
		case name == "host":
			values = []string{r.Host}
		case name == "content-length" && len(values) == 0:
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		out.WriteString(name + ":")
		for i, v := range values {
			if i > 0 {
				out.WriteByte(',')
			}
			out.WriteString(strings.Join(strings.Fields(v), " "))
		}
		out.WriteByte('\n')
	}
	return out.String(), nil
}

// canonicalQuery returns the query sorted by name and value, escaped as AWS does.
func canonicalQuery(query url.Values) string {
	var pairs []string
	for name, values := range query {
		for _, v := range values {
			pairs = append(pairs, awsEscape(name, false)+"="+awsEscape(v, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// awsEscape escapes all but letters, digits, and "-._~"; in a path not "/" either.
func awsEscape(s string, path bool) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0, path && c == '/':
			out.WriteByte(c)
		default:
			out.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	if path && out.Len() == 0 {
		return "/"
	}
	return out.String()
}
