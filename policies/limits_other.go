//go:build !linux

package policies

import (
	"os"
	"syscall"
)

// limitMemory does nothing: runs take place on Linux alone. Elsewhere users test
// their rules, bounded by the collector's limit and by time.
func limitMemory(int64) error { return nil }

func apart() *syscall.SysProcAttr { return nil }

func ownExecutable() (string, error) { return os.Executable() }
