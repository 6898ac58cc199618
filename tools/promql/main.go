// Promql tells what expressions of Prometheus name. It reads rule files, named as
// arguments, and a JSON list of further expressions from its standard input, and
// prints a JSON list with one entry for each selector: the metric, and every label
// that is asked of it by a matcher or by a grouping around it. What Prometheus
// itself would not load ends it with an error.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// selector is one metric that an expression asks for.
type selector struct {
	Expr   string   `json:"expr"`
	Metric string   `json:"metric"`
	Labels []string `json:"labels"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	var expressions []string
	if err := json.NewDecoder(os.Stdin).Decode(&expressions); err != nil {
		return fmt.Errorf("reading expressions: %w", err)
	}
	read := parser.NewParser(parser.Options{})
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, read, slog.New(slog.DiscardHandler))
		if len(errs) > 0 {
			return errs[0]
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				expressions = append(expressions, r.Expr)
			}
		}
	}
	out := []selector{}
	for _, text := range expressions {
		expr, err := read.ParseExpr(text)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		out = gather(out, text, expr, nil)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// gather adds the selectors of an expression, with the labels that are asked for
// around it.
func gather(out []selector, text string, node parser.Node, asked []string) []selector {
	switch n := node.(type) {
	case *parser.VectorSelector:
		s := selector{Expr: text, Metric: n.Name, Labels: slices.Clone(asked)}
		for _, m := range n.LabelMatchers {
			if m.Name == labels.MetricName {
				s.Metric = m.Value
			} else {
				s.Labels = append(s.Labels, m.Name)
			}
		}
		return append(out, s)
	case *parser.AggregateExpr:
		if !n.Without {
			asked = slices.Concat(asked, n.Grouping)
		}
	case *parser.BinaryExpr:
		if n.VectorMatching != nil && n.VectorMatching.On {
			asked = slices.Concat(asked, n.VectorMatching.MatchingLabels)
		}
	}
	for child := range parser.ChildrenIter(node) {
		out = gather(out, text, child, asked)
	}
	return out
}
