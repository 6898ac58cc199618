package release

import "errors"

// Sentinels that callers branch on. One table in server maps them to HTTP
// statuses, one in cmd/waymark to exit codes; everything else is internal.
var (
	// ErrNotFound: the run, release or target does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the thing exists but its state does not allow the request.
	ErrConflict = errors.New("conflict")
	// ErrRefused: a rule of Waymark or of the configuration says no.
	ErrRefused = errors.New("refused")
	// ErrInvalid: the request or the file is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: a part that is needed cannot be reached just now.
	ErrUnavailable = errors.New("unavailable")
)
