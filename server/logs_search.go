package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

const (
	searchBytes   = 16 << 20 // of a log that one search looks at
	searchMatches = 100      // lines that it gives
)

type logSearchInput struct {
	ID   string `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
	Text string `query:"text" required:"true" minLength:"1" maxLength:"200" doc:"What the lines hold, whatever its case"`
	From int64  `query:"from" minimum:"0" doc:"Number of the first line to look at: next of the answer before"`
}

// searchLog looks for a text in a bounded part of a run's log, and says where to go on.
func (s *Server) searchLog(ctx context.Context, in *logSearchInput) (api.LogMatches, error) {
	found := api.LogMatches{Lines: []api.LogLine{}}
	run, err := s.run(ctx, in.ID)
	if err == nil && s.cfg.Logs == nil {
		err = fmt.Errorf("%w: this service keeps no logs", release.ErrUnavailable)
	}
	if err != nil {
		return found, err
	}
	select {
	case s.followers <- struct{}{}:
		defer func() { <-s.followers }()
	default:
		return found, errManyLogs
	}
	text, looked := strings.ToLower(in.Text), 0
	_, err = s.cfg.Logs(ctx, run.ID, release.LogRange{From: in.From}, func(l release.LogLine) error {
		if looked > searchBytes || len(found.Lines) == searchMatches {
			found.Next = l.N
			return errSearched
		}
		looked += len(l.Text) + lineCost
		if strings.Contains(strings.ToLower(l.Text), text) {
			found.Lines = append(found.Lines, wireLine(l))
		}
		return nil
	})
	if errors.Is(err, errSearched) {
		err = nil
	}
	return found, err
}

var (
	errSearched = errors.New("the bound of a search")
	errManyLogs = fmt.Errorf("%w: %d logs are being read already: try again in a moment", release.ErrUnavailable, maxFollowers)
)
