//go:build unix && !linux

package terraform

import "syscall"

// processAttributes puts the engine into a process group of its own, so that
// an interrupt of the caller's terminal does not reach it by itself.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
