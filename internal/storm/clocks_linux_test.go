package storm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Clocks that differ: the storm's waymark is built with a package time that adds
// to the wall clock what the name of the executable says after an @, in seconds.
// The product's code stays as it is; replicas and their runners run under names
// of their own.

// clockNames are the names of the executable by replica: right, ahead, behind.
func clockNames(replicas int, apart bool) []string {
	names := make([]string, replicas)
	for i := range names {
		names[i] = "waymark"
		if seconds := []int{0, 150, -210}[i%3]; apart && seconds != 0 {
			names[i] = fmt.Sprintf("waymark@%d", seconds)
		}
	}
	return names
}

// skewedTime is added to package time.
const skewedTime = `package time

import "syscall"

var stormSkew = readStormSkew()

func readStormSkew() (seconds int64) {
	var name [4096]byte
	n, err := syscall.Readlink("/proc/self/exe", name[:])
	if err != nil {
		return 0
	}
	sign, found := int64(1), false
	for _, c := range name[:n] {
		switch {
		case c == '@':
			found, sign, seconds = true, 1, 0
		case found && c == '-':
			sign = -1
		case found && '0' <= c && c <= '9':
			seconds = seconds*10 + int64(c-'0')
		}
	}
	return sign * seconds
}
`

// clockOverlay writes the arguments that build with the skewed package time.
func clockOverlay(t *testing.T) []string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	_, now, found := strings.Cut(string(text), "\nfunc Now() Time {\n")
	if !found || !strings.HasPrefix(strings.TrimLeft(now, "\t"), reads) {
		t.Fatalf("Now in %s does not begin with %q: this storm knows another version of Go; leave -storm.clocks out", source, reads)
	}
	changed := strings.Replace(string(text), "\nfunc Now() Time {\n\t"+reads, "\nfunc Now() Time {\n\t"+reads+"\tsec += stormSkew\n", 1)
	dir := t.TempDir()
	replace := map[string]string{}
	for name, text := range map[string]string{"time.go": changed, "storm_skew.go": skewedTime} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(source, name)] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-overlay", file}
}
