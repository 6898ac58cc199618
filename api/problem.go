package api

import (
	"fmt"
	"net/http"
	"strings"
)

// Codes of problems: what a program branches on, beside the status.
const (
	CodeInvalid      = "invalid"      // 400, 413, 415, 422: the request is malformed
	CodeUnauthorized = "unauthorized" // 401: nobody, or what was shown does not count
	CodeRefused      = "refused"      // 403: a rule of Waymark or of the configuration says no, or a role is missing
	CodeNotFound     = "not_found"    // 404: it does not exist
	CodeConflict     = "conflict"     // 409: it exists, and its state does not allow the request
	CodeUnavailable  = "unavailable"  // 429, 503: not now: too many failures before, or a part that the service needs cannot be reached
	CodeInternal     = "internal"     // 500: the service's log says more
)

// Problem is an RFC 9457 problem document, and the error that the client
// returns for every answer that is no success.
type Problem struct {
	Type      string         `json:"type" doc:"about:blank: the title and the code say it all"`
	Title     string         `json:"title" example:"Not Found"`
	Status    int            `json:"status" example:"404"`
	Detail    string         `json:"detail" doc:"What is wrong and what to do next, for people"`
	Code      string         `json:"code" enum:"invalid,unauthorized,refused,not_found,conflict,unavailable,internal" doc:"What is wrong, for programs"`
	RequestID string         `json:"request_id,omitempty" doc:"Names the request in the service's log"`
	Errors    []InvalidField `json:"errors,omitempty" nullable:"false" doc:"The parts of the request that are wrong"`
}

// InvalidField is one part of a request that is wrong.
type InvalidField struct {
	Location string `json:"location" example:"query.limit"`
	Message  string `json:"message"`
}

// Error prints the detail, the wrong fields and, for internal errors, the id to
// look for in the log.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	if p.Detail == "" {
		fmt.Fprintf(&b, "the service answered %d %s", p.Status, p.Title)
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "; %s: %s", e.Location, e.Message)
	}
	if p.Code == CodeInternal && p.RequestID != "" {
		fmt.Fprintf(&b, " (request %s in the service's log)", p.RequestID)
	}
	return b.String()
}

// CodeOf gives the code that belongs to a status.
func CodeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return CodeUnauthorized
	case status == http.StatusForbidden:
		return CodeRefused
	case status == http.StatusNotFound:
		return CodeNotFound
	case status == http.StatusConflict:
		return CodeConflict
	case status == http.StatusTooManyRequests, status >= 502 && status <= 504:
		return CodeUnavailable
	case status >= 500:
		return CodeInternal
	default:
		return CodeInvalid
	}
}

// UnreachableError says that no answer came: nothing listens, the name does not
// resolve, TLS failed, or what answers is no Waymark.
type UnreachableError struct {
	URL string
	Err error
}

// Error names the address and what to look at.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from %s: %v; is the service running, and is this its address?", e.URL, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }
