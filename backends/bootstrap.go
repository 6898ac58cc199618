package backends

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/release"
)

// Status is how a property of a store is.
type Status string

// The statuses of a property.
const (
	StatusOK         Status = "ok"         // as wanted, or stronger
	StatusWeaker     Status = "weaker"     // set, but weaker than wanted
	StatusMissing    Status = "missing"    // not set, or the store does not exist
	StatusUnreadable Status = "unreadable" // AWS does not tell; Detail says why
)

// Property is one property of a store, as it was found.
type Property struct {
	Kind     string `json:"kind"` // StoreBucket or StoreTable
	Name     string `json:"name"`
	Region   string `json:"region,omitempty"`
	Property string `json:"property"` // such as "versioning"
	Status   Status `json:"status"`
	Have     string `json:"have,omitempty"` // empty where nothing is there or it is unreadable
	Want     string `json:"want,omitempty"`
	Detail   string `json:"detail,omitempty"` // what to know or to do
}

// Verbs of steps.
const (
	StepCreate = "create"
	StepHarden = "harden"
)

// Step is one change that Bootstrap makes.
type Step struct {
	Verb     string `json:"verb"` // StepCreate or StepHarden
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Region   string `json:"region,omitempty"`
	Property string `json:"property"`
	From     string `json:"from,omitempty"` // empty where nothing is there
	To       string `json:"to"`
	// Blocked says why nobody but a person can make the change; Bootstrap does
	// not try. Empty: it can.
	Blocked string `json:"blocked,omitempty"`

	store Store
	hard  Hardening
}

// Hardening is what a bucket should have beyond what every one gets.
type Hardening struct {
	LogBucket      string // for access logs; empty: none are asked for
	LogPrefix      string // of their keys; empty: the bucket's name and a slash
	NoncurrentDays int32  // how long old versions are kept at least; 0: 365
	KeepVersions   int32  // how many of the newest old versions are kept for ever; 0: 10
}

// filled puts the defaults in place.
func (h Hardening) filled(s Store) Hardening {
	if h.LogPrefix == "" {
		h.LogPrefix = s.Name + "/"
	}
	if h.NoncurrentDays == 0 {
		h.NoncurrentDays = 365
	}
	if h.KeepVersions == 0 {
		h.KeepVersions = 10
	}
	if h.LogBucket == s.Name { // no logs about writing logs
		h.LogBucket = ""
	}
	return h
}

// finding is how a property was found.
type finding struct {
	status       Status
	have, detail string
	blocked      string // why it cannot be changed for the person who asks
}

// facet is one property of one store: how to look at it and how to set it. The
// first facet of a store is whether it exists.
type facet struct {
	name, want  string
	read, write string // the actions that policies know
	look        func(context.Context) (finding, error)
	set         func(context.Context) error // nil: it is reported alone
}

// facets returns the properties of a store. The error wraps release.ErrInvalid.
func (c *Client) facets(s Store, h Hardening) (*connection, []facet, error) {
	conn, err := c.connect(s.place)
	if err != nil {
		return nil, nil, err
	}
	if s.Kind == StoreTable {
		return conn, (&table{conn, s}).facets(), nil
	}
	return conn, (&bucket{conn, s, h.filled(s)}).facets(), nil
}

// storesAtOnce is how many stores are looked at side by side.
const storesAtOnce = 8

// Verify looks at every property of each store. What cannot be read is in the
// list as such; the error is that of the context, or wraps release.ErrInvalid.
func (c *Client) Verify(ctx context.Context, stores []Store, h Hardening) ([]Property, error) {
	_, found, err := c.Plan(ctx, stores, h)
	return found, err
}

// Plan looks at every property of each store, and says what Bootstrap would
// change: what is missing or weaker than wanted. Nothing is ever weakened. What
// cannot be read is among the properties alone. Errors are those of Verify.
func (c *Client) Plan(ctx context.Context, stores []Store, h Hardening) (steps []Step, found []Property, err error) {
	type answer struct {
		steps []Step
		found []Property
	}
	answers := make([]answer, len(stores))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(storesAtOnce)
	for i, s := range stores {
		group.Go(func() (err error) {
			answers[i].steps, answers[i].found, err = c.planStore(inner, s, h)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for _, a := range answers {
		steps, found = append(steps, a.steps...), append(found, a.found...)
	}
	return steps, found, ctx.Err()
}

func (c *Client) planStore(ctx context.Context, s Store, h Hardening) (steps []Step, found []Property, err error) {
	conn, facets, err := c.facets(s, h)
	if err != nil {
		return nil, nil, err
	}
	verb, absent := StepHarden, false
	for i, f := range facets {
		is := finding{status: StatusMissing}
		if !absent {
			is = conn.inspect(ctx, f, s)
			found = append(found, Property{Kind: s.Kind, Name: s.Name, Region: conn.region, Property: f.name,
				Status: is.status, Have: is.have, Want: f.want, Detail: is.detail})
		}
		wrong := is.status == StatusWeaker || is.status == StatusMissing
		if i == 0 && wrong && is.blocked == "" {
			verb, absent = StepCreate, true
			is.blocked = conn.mayCreate(ctx, s)
		}
		if wrong && (f.set != nil || is.blocked != "") {
			steps = append(steps, Step{Verb: verb, Kind: s.Kind, Name: s.Name, Region: conn.region, Property: f.name,
				From: is.have, To: f.want, Blocked: is.blocked, store: s, hard: h})
		}
		if i == 0 && (is.status == StatusUnreadable || is.blocked != "") {
			return steps, found, nil // nothing else can be said, or may be done
		}
		verb = StepHarden
	}
	return steps, found, nil
}

// inspect looks at a property.
func (c *connection) inspect(ctx context.Context, f facet, s Store) finding {
	is, err := f.look(ctx)
	if err == nil {
		return is
	}
	var explained *alreadySaid
	if !errors.As(err, &explained) {
		err = c.explain(err, f.read, s.arn(c.region))
	}
	return finding{status: StatusUnreadable, detail: err.Error()}
}

// alreadySaid is an error that needs no explanation.
type alreadySaid struct{ error }

func (e *alreadySaid) Unwrap() error { return e.error }

func (s Store) arn(region string) string {
	if s.Kind == StoreTable {
		return tableARN(region, s.Name)
	}
	return bucketARN(region, s.Name)
}

// Bootstrap makes the steps of a plan, in order, and reports each one that it
// is done with: the error is nil where the property is as wanted now, also
// where somebody else was faster. A step that fails does not stop the others,
// but those on a store that could not be created. The error joins all of
// theirs; that of a blocked step wraps release.ErrRefused.
func (c *Client) Bootstrap(ctx context.Context, steps []Step, report func(Step, error)) error {
	var errs []error
	failed := map[string]bool{} // stores that are not there
	for _, step := range steps {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		name := step.Kind + " " + step.Name + " " + step.Region
		err := fmt.Errorf("%w: it was not created", release.ErrNotFound)
		if !failed[name] {
			err = c.take(ctx, step)
			failed[name] = step.Verb == StepCreate && err != nil
		}
		if report != nil {
			report(step, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", step.store, step.Property, err))
		}
	}
	return errors.Join(errs...)
}

// take makes one step.
func (c *Client) take(ctx context.Context, step Step) error {
	if step.Blocked != "" {
		return fmt.Errorf("%w: %s", release.ErrRefused, step.Blocked)
	}
	conn, facets, err := c.facets(step.store, step.hard)
	if err != nil {
		return err
	}
	for _, f := range facets {
		if f.name != step.Property {
			continue
		}
		is, err := f.look(ctx)
		switch {
		case err != nil:
			return conn.explain(err, f.read, step.store.arn(conn.region))
		case is.status == StatusOK:
			return nil
		case is.blocked != "":
			return fmt.Errorf("%w: %s", release.ErrRefused, is.blocked)
		}
		if err := f.set(ctx); err != nil {
			return conn.explain(err, f.write, step.store.arn(conn.region))
		}
		return nil
	}
	return fmt.Errorf("%w: a %s has no property %q", release.ErrInvalid, step.Kind, step.Property)
}
