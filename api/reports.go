package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Report is a gate's own report on a run, without its content.
type Report struct {
	Gate   string `json:"gate" example:"test"`
	Format string `json:"format" enum:"sarif,junit"`
	Bytes  int    `json:"bytes"`
}

// ReportList holds the reports of a run, by the names of the gates.
type ReportList struct {
	Reports []Report `json:"reports" nullable:"false"`
}

// Reports lists the reports that gates wrote of a run.
func (c *Client) Reports(ctx context.Context, id string) (ReportList, error) {
	return get[ReportList](ctx, c, "runs/"+escape(id)+"/reports", nil)
}

// Report copies one gate's report to w as the gate wrote it: SARIF 2.1.0 or
// JUnit XML.
func (c *Client) Report(ctx context.Context, id, gate string, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, "runs/"+escape(id, "reports", gate), nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		if ctx.Err() != nil {
			return gaveUp(ctx)
		}
		return fmt.Errorf("the report of gate %s on run %s broke off: %w", gate, id, err)
	}
	return nil
}
