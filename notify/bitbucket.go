package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	longestBitbucket = 255
	longestKey       = 40 // bytes of a status's key, by which the next one replaces it
)

// bitbucketStatus is the body of a build status, in both products' words.
type bitbucketStatus struct {
	Key         string `json:"key"`
	State       string `json:"state"`
	Name        string `json:"name"`
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
	RefName     string `json:"refname,omitempty"` // of Bitbucket Cloud
	Ref         string `json:"ref,omitempty"`     // of Bitbucket Data Center
}

// newBitbucketCloud speaks to bitbucket.org. Its API is two words to a commit: no
// client that is kept well covers both products.
func newBitbucketCloud(b forgeBase) (func(context.Context, status) error, error) {
	address := b.cfg.URL
	if b.url.Host == "bitbucket.org" {
		address = "https://api.bitbucket.org/2.0"
	}
	return func(ctx context.Context, s status) error {
		body := b.bitbucketBody(s, "STOPPED")
		body.RefName = s.run.Tag
		return b.post(ctx, address+"/repositories/"+url.PathEscape(b.owner)+"/"+url.PathEscape(b.name)+"/commit/"+url.PathEscape(s.run.Commit)+"/statuses/build", body)
	}, nil
}

// newBitbucketServer speaks to a Bitbucket Data Center of version 7.4 or newer.
func newBitbucketServer(b forgeBase) (func(context.Context, status) error, error) {
	return func(ctx context.Context, s status) error {
		body := b.bitbucketBody(s, "CANCELLED")
		if s.run.Tag != "" {
			body.Ref = "refs/tags/" + s.run.Tag
		}
		return b.post(ctx, strings.TrimSuffix(b.cfg.URL, "/")+"/rest/api/latest/projects/"+url.PathEscape(b.owner)+"/repos/"+url.PathEscape(b.name)+
			"/commits/"+url.PathEscape(s.run.Commit)+"/builds", body)
	}, nil
}

func (b forgeBase) bitbucketBody(s status, stopped string) bitbucketStatus {
	state := map[phase]string{phaseQueued: "INPROGRESS", phaseRunning: "INPROGRESS", phaseWaiting: "INPROGRESS",
		phaseSuccess: "SUCCESSFUL", phaseStopped: stopped}[s.phase]
	if state == "" {
		state = "FAILED"
	}
	return bitbucketStatus{Key: bitbucketKey(s.context), State: state, Name: s.context, URL: s.url, Description: s.description(longestBitbucket)}
}

// bitbucketKey shortens a context that is too long for a key to a digest of it.
func bitbucketKey(context string) string {
	if len(context) <= longestKey {
		return context
	}
	sum := sha256.Sum256([]byte(context))
	return "waymark-" + hex.EncodeToString(sum[:])[:longestKey-len("waymark-")]
}

// errAnswer is an answer other than 2xx; the wire knows which.
var errAnswer = errors.New("it refuses the status")

func (b forgeBase) post(ctx context.Context, address string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+b.cfg.Token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "waymark")
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode/100 == 2 {
		return err
	}
	return errors.Join(errAnswer, errors.New(string(said)))
}
