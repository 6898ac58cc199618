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
