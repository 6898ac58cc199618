package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

// errNobody says that a request shows nobody whom it comes from.
var errNobody = errors.New("this service asks who you are: send a token as Authorization: Bearer …, or log in on its page")

// statusOf is the one table from sentinels to HTTP statuses. 403 is a rule's
// no, apart from 409, a state's no, so that a program can tell them apart.
func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	var failure *identity.Failure
	var limited *tooMany
	switch {
	case errors.As(err, &limited):
		return http.StatusTooManyRequests
	case errors.As(err, &failure) && failure.Why == identity.Unavailable:
		return http.StatusServiceUnavailable
	case errors.Is(err, errNobody), errors.As(err, &failure):
		return http.StatusUnauthorized
	case errors.Is(err, release.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, release.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, release.ErrRefused):
		return http.StatusForbidden
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, release.ErrInvalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, release.ErrUnavailable):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// problem is a problem document that huma can write.
type problem struct{ *api.Problem }

// GetStatus gives huma the status.
func (p problem) GetStatus() int { return p.Status }

// ContentType gives huma the media type of RFC 9457.
func (problem) ContentType(string) string { return "application/problem+json" }

// problemOf turns an error into what the caller may see of it. An error that is
// none of release's is shown as "internal error", and its detail is logged.
func (s *Server) problemOf(ctx context.Context, err error) problem {
	status := statusOf(err)
	s.denied(ctx, err)
	detail := err.Error()
	if status == http.StatusInternalServerError {
		detail = "internal error"
		if ctx.Err() == nil { // a caller that left is no fault of ours
			s.log.ErrorContext(ctx, "request failed", "request_id", requestID(ctx), "error", err)
		}
	}
	return newProblem(ctx, status, detail)
}

func newProblem(ctx context.Context, status int, detail string) problem {
	return problem{&api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status,
		Detail: detail, Code: api.CodeOf(status), RequestID: requestID(ctx)}}
}

// ownProblems is a huma transformer: what huma itself has to say of a request
// leaves in our shape, without echoing values back.
func ownProblems(ctx huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(ctx.Context(), e.Status, e.Detail)
	for _, d := range e.Errors {
		if d != nil {
			p.Errors = append(p.Errors, api.InvalidField{Location: d.Location, Message: d.Message})
		}
	}
	return p, nil
}

// answer is what huma makes a JSON body of.
type answer[T any] struct{ Body T }

// respond is the frame of every JSON handler: it turns errors into problems.
func respond[I, T any](s *Server, handle func(context.Context, *I) (T, error)) func(context.Context, *I) (*answer[T], error) {
	return func(ctx context.Context, in *I) (*answer[T], error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.problemOf(ctx, err)
		}
		return &answer[T]{out}, nil
	}
}

// writeProblem answers a request that huma does not handle.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	send(w, s.problemOf(r.Context(), err))
}

func send(w http.ResponseWriter, p problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a caller that left cannot be told
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that left cannot be told
}
