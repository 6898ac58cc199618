package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// registerReports adds the reports that gates write beside their findings.
func (s *Server) registerReports(a huma.API) {
	register(s, a, get("runs/{id}/reports", "list-reports", "The reports that gates wrote of a run"), s.listReports)
	op := get("runs/{id}/reports/{gate}", "get-report", "A gate's own report: SARIF 2.1.0 or JUnit XML")
	content := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	op.Responses["200"] = &huma.Response{Description: "The report as the gate wrote it",
		Content: map[string]*huma.MediaType{reportType("sarif"): content, reportType("junit"): content}}
	huma.Register(a, op, s.getReport)
}

// reportType is the media type of a report.
func reportType(format string) string {
	if format == "sarif" {
		return "application/sarif+json"
	}
	return "application/xml"
}

func (s *Server) listReports(ctx context.Context, in *runInput) (api.ReportList, error) {
	run, err := s.run(ctx, in.ID)
	if err != nil {
		return api.ReportList{}, err
	}
	reports, err := s.wireReports(ctx, run.ID)
	return api.ReportList{Reports: reports}, err
}

// wireReports lists a run's reports by the names of the gates; never nil.
func (s *Server) wireReports(ctx context.Context, id int64) ([]api.Report, error) {
	reports, err := s.cfg.Store.Reports(ctx, id)
	out := make([]api.Report, 0, len(reports))
	for _, gate := range slices.Sorted(maps.Keys(reports)) {
		out = append(out, api.Report{Gate: gate, Format: reports[gate].Format, Bytes: len(reports[gate].Content)})
	}
	return out, err
}

type reportInput struct {
	ID   string `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
	Gate string `path:"gate" maxLength:"100" doc:"Name of the gate" example:"test"`
}

// getReport hands a report out as a file: a tool of the repository's may have
// written it, so that no browser is to show it.
func (s *Server) getReport(ctx context.Context, in *reportInput) (*huma.StreamResponse, error) {
	run, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, s.problemOf(ctx, err)
	}
	reports, err := s.cfg.Store.Reports(ctx, run.ID)
	if err != nil {
		return nil, s.problemOf(ctx, err)
	}
	report, ok := reports[in.Gate]
	if !ok {
		known := "it has none"
		if len(reports) > 0 {
			known = "there are those of " + strings.Join(slices.Sorted(maps.Keys(reports)), ", ")
		}
		return nil, s.problemOf(ctx, fmt.Errorf("run %d has no report of a gate %q: %w; %s", run.ID, in.Gate, release.ErrNotFound, known))
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		suffix := ".xml"
		if report.Format == "sarif" {
			suffix = ".sarif"
		}
		hc.SetHeader("Content-Type", reportType(report.Format))
		hc.SetHeader("Content-Disposition", fmt.Sprintf(`attachment; filename="run-%d-%s%s"`, run.ID, fileName(in.Gate), suffix))
		hc.SetHeader("X-Content-Type-Options", "nosniff")
		hc.SetStatus(http.StatusOK)
		_, _ = hc.BodyWriter().Write([]byte(report.Content)) // the reader is gone: nobody to tell
	}}, nil
}

// fileName keeps of a gate's name what can stand in a file's.
func fileName(gate string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, gate)
}
