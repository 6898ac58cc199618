package storm

import (
	"cmp"
	"context"
	"slices"
	"syscall"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
)

// event is something that happens at a time of the storm.
type event struct {
	at time.Duration // since it began
	do func()
}

// backlog is how many tags of one target may wait for their end: the load
// follows what the machine can do.
const backlog = 3

// plan draws all faults of the storm from its seed. Which process they hit is
// drawn when they come, of those that are there.
func (s *storm) plan() {
	for i := range s.kills {
		s.at(float64(i)+s.random.Float64(), float64(s.kills), s.killOne)
	}
	minutes := s.duration.Minutes()
	for _, f := range []struct {
		perMinute float64
		do        func()
	}{
		{4, s.pauseOne}, {2, s.freezeOne}, {6, s.killRunner}, {3, s.cutOne}, {1.5, s.restartDatabase},
		{3, s.failRemote}, {3, s.moveTag}, {2, s.restartOne}, {1, s.fillOne},
	} {
		n := max(1, int(f.perMinute*minutes))
		for i := range n {
			s.at(float64(i)+s.random.Float64(), float64(n), f.do)
		}
	}
}

// at puts an event at a part of the storm's duration.
func (s *storm) at(part, of float64, do func()) {
	s.agenda = append(s.agenda, event{time.Duration(float64(s.duration) * part / of), do})
}

// after puts an event into the time that is still to come.
func (s *storm) after(d time.Duration, do func()) {
	s.agenda = append(s.agenda, event{time.Since(s.began) + d, do})
}

// between draws a time.
func (s *storm) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.random.Int64N(int64(most-least)))
}

// weather lets the faults happen, and pushes tags all the while.
func (s *storm) weather() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	all := targets()
	waiting := map[string]int{}
	for n := 0; time.Since(s.began) < s.duration || len(s.agenda) > 0; n++ {
		<-tick.C
		s.due()
		s.nurse()
		s.watchDeaths()
		if n%10 == 0 {
			waiting = s.backlogs()
			s.watchLedger()
		}
		if target := all[s.random.IntN(len(all))]; n%4 == 0 && waiting[target] < backlog && time.Since(s.began) < s.duration {
			s.push(target, "")
			waiting[target]++
		}
	}
}

// due does what the agenda has for now.
func (s *storm) due() {
	slices.SortStableFunc(s.agenda, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	for len(s.agenda) > 0 && s.agenda[0].at <= time.Since(s.began) {
		e := s.agenda[0]
		s.agenda = s.agenda[1:]
		e.do()
	}
}

// nurse starts replicas again that ended by themselves, as a service manager does.
func (s *storm) nurse() {
	for _, r := range s.replicas {
		if !r.running() && !r.leave {
			s.counts["(replicas that gave up and were started again)"]++
			r.leave = true
			s.after(500*time.Millisecond, func() { s.must(r.start()) })
		}
	}
}

// backlogs counts, by target, the tags whose run has not ended.
func (s *storm) backlogs() map[string]int {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	out := map[string]int{}
	for target, n := range s.pushed {
		out[target] = n
	}
	rows, err := s.record.Query(ctx, `SELECT env||'_'||scope||'/'||team, count(*) FROM runs
		WHERE state NOT IN ('queued', 'running', 'awaiting_approval', 'unknown') GROUP BY 1`)
	if err != nil {
		return out
	}
	defer rows.Close()
	for rows.Next() {
		var target string
		var n int
		if rows.Scan(&target, &n) == nil {
			out[target] -= n
		}
	}
	return out
}

// pick draws one replica that is up. Where none is, or another reason speaks
// against it, the fault comes a little later.
func (s *storm) pick(again func(), fits func(*replica) bool) *replica {
	up := slices.DeleteFunc(slices.Clone(s.replicas), func(r *replica) bool { return !r.up() || fits != nil && !fits(r) })
	if len(up) == 0 {
		if time.Since(s.began) < s.duration+10*s.heartbeat {
			s.after(300*time.Millisecond, again)
		}
		return nil
	}
	return up[s.random.IntN(len(up))]
}

// killOne kills a replica, one time of six with all its runners, as a machine
// does that loses its power. Some come back at once, some after they were
// declared dead.
func (s *storm) killOne() {
	r := s.pick(s.killOne, nil)
	if r == nil {
		return
	}
	down, kind := s.between(100*time.Millisecond, s.heartbeat/2), "replica killed"
	if s.random.IntN(3) == 0 {
		down = s.heartbeat + s.between(time.Second, s.heartbeat)
	}
	power := s.random.IntN(6) == 0
	if power {
		kind = "replica killed with its runners"
	}
	s.counts[kind]++
	s.noteDeath(r)
	r.leave = true
	r.kill()
	if power {
		signalAll(r.machine(), syscall.SIGKILL)
	}
	s.after(down, func() { s.must(r.start()) })
}

// pauseOne stops a replica for up to twice the heartbeat; its runners go on.
func (s *storm) pauseOne() {
	if r := s.pick(s.pauseOne, nil); r != nil {
		s.counts["replica stopped and continued"]++
		s.stopAndContinue(r, nil)
	}
}

// freezeOne stops a replica with its runners and engines: a machine that pauses.
func (s *storm) freezeOne() {
	if r := s.pick(s.freezeOne, nil); r != nil {
		s.counts["machine stopped and continued"]++
		s.stopAndContinue(r, r.machine())
	}
}

func (s *storm) stopAndContinue(r *replica, rest []process) {
	r.signal(syscall.SIGSTOP)
	r.stopped = true
	signalAll(rest, syscall.SIGSTOP)
	s.after(s.between(s.heartbeat/6, 2*s.heartbeat), func() {
		signalAll(rest, syscall.SIGCONT)
		r.signal(syscall.SIGCONT)
		r.stopped = false
	})
}

// killRunner kills one runner of any replica.
func (s *storm) killRunner() {
	var all []process
	for _, r := range s.replicas {
		all = append(all, r.runners()...)
	}
	if len(all) == 0 {
		if time.Since(s.began) < s.duration {
			s.after(100*time.Millisecond, s.killRunner)
		}
		return
	}
	s.counts["runner killed"]++
	signalAll(all[s.random.IntN(len(all)):][:1], syscall.SIGKILL)
}

// cutOne cuts a replica off from the database: every other time its connections
// break, every other time nothing comes through any more.
func (s *storm) cutOne() {
	r := s.pick(s.cutOne, func(r *replica) bool { return r.database.Mode() == testkit.Passes })
	if r == nil {
		return
	}
	mode, kind := testkit.Cuts, "database cut off"
	if s.random.IntN(2) == 0 {
		mode, kind = testkit.Stalls, "database silent"
	}
	s.counts[kind]++
	r.database.Set(mode)
	s.after(s.between(200*time.Millisecond, 2*s.heartbeat), func() { r.database.Set(testkit.Passes) })
}

func (s *storm) restartDatabase() {
	s.counts["database restarted"]++
	s.database.Restart()
}

func (s *storm) failRemote() {
	moods := []string{remoteRefuses, remoteTruncates, remoteHangs}
	mood := moods[s.random.IntN(len(moods))]
	s.counts["git remote "+mood]++
	s.git.set(mood)
	s.after(s.between(500*time.Millisecond, 4*time.Second), func() { s.git.set(remoteWell) })
}

// moveTag points a tag that is done with at another object.
func (s *storm) moveTag() {
	var tag string
	if !s.ask("SELECT tag FROM runs WHERE state = 'succeeded' ORDER BY id DESC OFFSET $1 LIMIT 1", []any{s.random.IntN(10)}, &tag) || s.moved[tag] {
		if time.Since(s.began) < s.duration {
			s.after(500*time.Millisecond, s.moveTag)
		}
		return
	}
	s.counts["tag moved"]++
	s.moved[tag] = true
	s.remote.MoveTag(tag, "main")
}

// restartOne stops a replica in good order and starts it again, as an upgrade does.
func (s *storm) restartOne() {
	r := s.pick(s.restartOne, nil)
	if r == nil {
		return
	}
	s.counts["replica restarted in good order"]++
	r.signal(syscall.SIGTERM)
	r.stopped, r.leave = true, true // nothing else happens to it until it is back
	var again func()
	patience := time.Now().Add(stopWithin)
	again = func() {
		switch {
		case !r.running():
			s.must(r.start())
		case time.Now().After(patience):
			s.t.Errorf("%s did not stop within %s of SIGTERM", r.name, stopWithin)
			r.kill()
			s.must(r.start())
		default:
			s.after(100*time.Millisecond, again)
		}
	}
	again()
}

// stopWithin is how long a replica may take to stop: its grace, and what it
// needs to say goodbye on a busy machine.
const stopWithin = 30 * time.Second

// fillOne fills the small disk for a while.
func (s *storm) fillOne() {
	for _, r := range s.replicas {
		if r.small {
			s.counts["disk full"]++
			fillDisk(r.data)
			s.after(s.between(time.Second, 5*time.Second), func() { emptyDisk(r.data) })
		}
	}
}

// calm repairs everything.
func (s *storm) calm() {
	s.git.set(remoteWell)
	for _, r := range s.replicas {
		r.database.Set(testkit.Passes)
		if !r.running() {
			s.must(r.start())
		}
	}
}
