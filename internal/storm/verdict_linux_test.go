package storm

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/waymark-cd/waymark/api"
)

// settleWithin is how long the last runs may take when all faults are over.
const settleWithin = 3 * time.Minute

// watchLedger looks, while the storm goes on, for what must never be.
func (s *storm) watchLedger() {
	all, err := readLedger(s.ledger)
	if err != nil {
		return // a line is being written
	}
	f := judge(all)
	if bad := slices.Concat(f.doubled, f.overlapping, f.unordered); len(bad) > 0 {
		s.t.Fatalf("BROKEN after %s: %s", time.Since(s.began).Round(time.Second), strings.Join(bad, "; "))
	}
}

// settle waits until every run has ended. Replicas that give up are started
// again, as a service manager does.
func (s *storm) settle() {
	left := ""
	if soon(settleWithin, func() bool {
		s.due()
		s.nurse()
		s.watchDeaths()
		left = s.unfinished()
		return left == ""
	}) {
		return
	}
	s.broken("%s after all faults were over: %s", settleWithin, left)
}

// unfinished names what is still to be done, or is empty.
func (s *storm) unfinished() string {
	var known, active int
	if !s.ask("SELECT count(DISTINCT tag) FROM releases", nil, &known) {
		return "the database does not answer"
	}
	if known < len(s.tags) {
		return fmt.Sprintf("%d of %d tags are on record", known, len(s.tags))
	}
	var tag, state, reason *string
	if !s.ask(`SELECT count(*), min(tag), min(state), min(reason) FROM runs WHERE state IN ('queued', 'running', 'awaiting_approval', 'unknown')`, nil, &active, &tag, &state, &reason) {
		return "the database does not answer"
	}
	if active > 0 {
		return fmt.Sprintf("%d runs have not ended, one of them %s (%s: %s)", active, *tag, *state, *reason)
	}
	return ""
}

// outcome is what a run came to.
type outcome struct {
	id            int64
	state, reason string
	attempt       int
}

// verdict holds everything against what must be, and prints the table.
func (s *storm) verdict() {
	all, err := readLedger(s.ledger)
	s.must(err)
	f := judge(all)
	for _, bad := range slices.Concat(f.doubled, f.overlapping, f.unordered) {
		s.broken("%s", bad)
	}
	runs := s.runs()
	lost := s.checkOutcomes(runs, byTag(all))
	s.checkAudit(runs, all)
	s.checkLocks()
	s.checkProcesses()
	s.checkLogs()
	s.print(runs, all, lost, f)
}

// runs reads every run by its tag. Two runs of one tag are not what was asked for.
func (s *storm) runs() map[string]outcome {
	rows, err := s.record.Query(s.t.Context(), "SELECT tag, id, state, reason, attempt FROM runs ORDER BY id")
	s.must(err)
	defer rows.Close()
	out := map[string]outcome{}
	for rows.Next() {
		var tag string
		var o outcome
		s.must(rows.Scan(&tag, &o.id, &o.state, &o.reason, &o.attempt))
		if before, twice := out[tag]; twice {
			s.broken("%s has the runs %d and %d", tag, before.id, o.id)
		}
		out[tag] = o
	}
	s.must(rows.Err())
	return out
}

// checkOutcomes holds that every tag was admitted and has come to an end, and
// that the end is the one which the ledger saw. It returns how many were lost.
func (s *storm) checkOutcomes(runs map[string]outcome, saw map[string]applies) (lost int) {
	for _, tag := range s.tags {
		run, there := runs[tag]
		if !there {
			var decision, reason string
			s.ask("SELECT decision, reason FROM releases WHERE tag = $1 ORDER BY id LIMIT 1", []any{tag}, &decision, &reason)
			s.broken("%s was lost: it has no run; decision %q: %s", tag, decision, reason)
			lost++
			continue
		}
		switch end := saw[tag].end; {
		case run.state == api.StateSucceeded && end != ended:
			s.broken("%s is said to have succeeded; the ledger saw %d beginnings and the end %q", tag, saw[tag].began, end)
		case run.state == api.StateFailed && end == ended:
			s.broken("%s is said to have failed (%s); the ledger saw it applied", tag, run.reason)
		case run.state == api.StateFailed && strings.Contains(run.reason, "nothing was changed") && saw[tag].began > 0:
			s.broken("%s is said to have changed nothing (%s); the ledger saw it begin", tag, run.reason)
		case run.state != api.StateSucceeded && run.state != api.StateFailed:
			s.broken("%s ended as %s: %s", tag, run.state, run.reason)
		}
	}
	for tag := range saw {
		if _, there := runs[tag]; !there {
			s.broken("%s was applied and has no run", tag)
		}
	}
	return lost
}

// checkAudit holds that the log verifies, and has an entry for each change that
// the record shows, the one of an apply from before its effect.
func (s *storm) checkAudit(runs map[string]outcome, all []line) {
	verify := exec.Command(s.waymark, "audit", "verify", "--server", "http://"+s.replicas[0].address)
	if out, err := verify.CombinedOutput(); err != nil {
		s.broken("the audit log does not verify: %v\n%s", err, out)
	}
	entries := s.entries()
	moved := map[string]bool{}
	of := map[string]map[string][]api.AuditEntry{} // by run and action
	for _, e := range entries {
		if e.Action == "tag.moved" {
			moved[e.Tag] = true
		}
		if of[e.RunID] == nil {
			of[e.RunID] = map[string][]api.AuditEntry{}
		}
		of[e.RunID][e.Action] = append(of[e.RunID][e.Action], e)
	}
	for tag, run := range runs {
		has := of[fmt.Sprint(run.id)]
		if n := len(has["run.queued"]); n != 1 {
			s.broken("%s was queued by %d audit entries", tag, n)
		}
		if n := len(has["run.started"]); n != run.attempt {
			s.broken("%s has %d attempts and %d audit entries of a start", tag, run.attempt, n)
		}
		if len(has["run."+run.state])+len(has["run.resolved"]) != 1 {
			s.broken("%s ended as %s by %d audit entries, and %d resolve it", tag, run.state, len(has["run."+run.state]), len(has["run.resolved"]))
		}
	}
	for _, l := range all {
		started := of[fmt.Sprint(runs[l.Tag].id)]["run.apply_started"]
		if l.Event == began && (len(started) == 0 || !s.clocks && started[0].At.After(l.At)) {
			s.broken("%s was applied at %s without an audit entry from before", l.Tag, l.At)
		}
	}
	for tag := range s.moved {
		if !moved[tag] {
			s.broken("%s was moved, and no audit entry tells of it", tag)
		}
	}
}

// entries reads the whole audit log over the API.
func (s *storm) entries() []api.AuditEntry {
	var out []api.AuditEntry
	for after := int64(0); ; {
		page, err := s.replicas[0].client.Audit(s.t.Context(), after, 500)
		s.must(err)
		out = append(out, page.Entries...)
		if len(page.Entries) == 0 || page.Next == after {
			return out
		}
		after = page.Next
	}
}

// checkLocks holds that no state is locked, by the service's word and in the bucket.
func (s *storm) checkLocks() {
	locks, err := s.replicas[0].client.Locks(s.t.Context(), "")
	s.must(err)
	for _, l := range locks.Locks {
		s.broken("the state of %s is locked by %q since %s, %s", l.Target, l.Who, l.Created, l.Error)
	}
	for _, name := range s.cloud.Objects("storm") {
		if strings.HasSuffix(name, ".tflock") {
			s.broken("the lock %s is left", name)
		}
	}
}

// checkProcesses holds that no runner and no engine is left, and that every
// replica stops when it is told to.
func (s *storm) checkProcesses() {
	var left []process
	none := func() bool {
		left = nil
		for _, r := range s.replicas {
			left = append(left, r.machine()...)
		}
		return len(left) == 0
	}
	if !soon(10*time.Second, none) {
		s.broken("processes are left although every run has ended: %v", left)
	}
	for _, r := range s.replicas {
		r.signal(syscall.SIGTERM)
	}
	if !soon(stopWithin, func() bool { return !slices.ContainsFunc(s.replicas, (*replica).running) }) {
		s.broken("not every replica stopped within %s of SIGTERM", stopWithin)
	} else if left = processes(s.dir); len(left) > 0 {
		s.broken("processes are left after every replica has stopped: %v", left)
	}
}

// checkLogs holds that no replica ever panicked.
func (s *storm) checkLogs() {
	for _, r := range s.replicas {
		text, err := os.ReadFile(r.log)
		s.must(err)
		for _, bad := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
			if i := bytes.Index(text, []byte(bad)); i >= 0 {
				s.broken("%s panicked: %s", r.name, text[i:min(len(text), i+2000)])
			}
		}
	}
}

// keepRecord writes the tables that tell what happened beside the logs.
func (s *storm) keepRecord() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	for name, query := range map[string]string{
		"runs": "SELECT row_to_json(t)::text FROM runs t ORDER BY id", "releases": "SELECT row_to_json(t)::text FROM releases t ORDER BY id",
		"audit": "SELECT leaf FROM audit_entries ORDER BY idx", "instances": "SELECT row_to_json(t)::text FROM instances t",
		"leases": "SELECT row_to_json(t)::text FROM leases t", "jobs": "SELECT row_to_json(t)::text FROM river_job t ORDER BY id",
	} {
		rows, err := s.record.Query(ctx, query)
		if err != nil {
			s.t.Logf("keeping %s: %v", name, err)
			continue
		}
		var out strings.Builder
		for rows.Next() {
			var text string
			if rows.Scan(&text) == nil {
				fmt.Fprintln(&out, text)
			}
		}
		rows.Close()
		s.must(os.WriteFile(s.dir+"/"+name+".jsonl", []byte(out.String()), 0o600))
	}
}

// alike is what differs in reasons that say the same: paths, ids and times.
var alike = regexp.MustCompile(`[^\s"]*[/0-9][^\s"]*`)

// print writes the table.
func (s *storm) print(runs map[string]outcome, all []line, lost int, f findings) {
	states, real := map[string]int{}, 0
	for tag, run := range runs {
		states[run.state]++
		if strings.Contains(tag, "/"+realCode+"/") {
			real++
		}
	}
	s.person.mu.Lock()
	defer s.person.mu.Unlock()
	var accepted int
	for _, as := range s.person.resolved {
		if as == "accept" {
			accepted++
		}
	}
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "STORM\tseed %d, %s, %d replicas, heartbeat %s\t\n", s.seed, s.duration, s.options.replicas, s.heartbeat)
	for _, kind := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(w, "%s\t%d\t\n", kind, s.counts[kind])
	}
	for _, row := range []struct {
		name  string
		value any
	}{
		{"webhooks", s.person.webhooks}, {"tags", len(s.tags)}, {"runs", fmt.Sprintf("%d, %d of them with a real engine", len(runs), real)},
		{"succeeded", states[api.StateSucceeded]}, {"failed, each with its reason", states[api.StateFailed]}, {"plans approved", s.person.approved},
		{"unknown, resolved by the ledger", fmt.Sprintf("%d: %d accepted, %d abandoned", len(s.person.resolved), accepted, len(s.person.resolved)-accepted)},
		{"locks released by hand", s.person.unlocked}, {"lost", lost}, {"doubled", len(f.doubled)}, {"overlapping", len(f.overlapping)}, {"out of order", len(f.unordered)},
		{"from a death to the work elsewhere, in calm", s.calmRecovery.Round(10 * time.Millisecond)},
		{"the longest in the storm", s.recovery.Round(10 * time.Millisecond)}, {"invariants broken", len(s.breaks)},
	} {
		fmt.Fprintf(w, "%s\t%v\t\n", row.name, row.value)
	}
	w.Flush()
	for _, note := range s.notes {
		fmt.Println("not played here:", note)
	}
	reasons := map[string]int{}
	for _, run := range runs {
		if run.state == api.StateFailed {
			reasons[alike.ReplaceAllString(run.reason, "…")]++
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Printf("failed %d: %s\n", reasons[reason], reason)
	}
}
