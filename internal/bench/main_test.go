package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"
)

// row is one line of the table: what was measured, by hand and by Waymark.
type row struct {
	what         string
	theirs, ours time.Duration
	result, goal string
}

// table is filled by the benchmarks, one after the other, and printed at the end.
var table []row

func TestMain(m *testing.M) {
	code := m.Run()
	if len(table) > 0 {
		printTable()
	}
	os.Exit(code)
}

func printTable() {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURED\tBY HAND\tWAYMARK\tRATIO\tRESULT\tGOAL")
	for _, r := range table {
		ratio := "-"
		if r.theirs > 0 {
			ratio = fmt.Sprintf("%.2f", float64(r.ours)/float64(r.theirs))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, ms(r.theirs), ms(r.ours), ratio, r.result, r.goal)
	}
	w.Flush()
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// median of several timings.
func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
