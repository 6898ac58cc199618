package release

import "time"

// LogLine is one line of a run's log.
type LogLine struct {
	N     int64 // from 1; 0 for a line that is about the log itself
	At    time.Time
	Stage StageName
	State StageState // of a line that tells that the stage began or ended; empty for its output
	Text  string     // masked; of one that tells of a stage its summary
}

// LogRange is which lines of a run's log are asked for. The zero value is all that
// are there now.
type LogRange struct {
	From   int64 // number of the first one; 0 for the first of all
	To     int64 // number of the last one; 0 for no bound
	Tail   int64 // where From is 0: at most so many of those that are there now, from the end; 0 for no bound
	Follow bool  // go on until the run has ended, or the line To
}
