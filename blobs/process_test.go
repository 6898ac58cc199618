package blobs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/blobs"
)

// TestMain lets the test binary be a process that puts blobs: one that can be
// killed, that has a disk of its own, or whose memory is measured.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		do, known := map[string]func(arg string) error{"write": write, "measure": measure, "full-disk": fullDisk, "size-limit": sizeLimit}[os.Args[1]]
		if known {
			if err := do(os.Args[2]); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// place is a store as one process tells it to another.
type place struct {
	Folder, Endpoint, ID, Secret string
	Size                         int64
}

// arg is the place of a kit; Size is free to use.
func (k *kit) arg(t *testing.T, size int64) string {
	t.Helper()
	p := place{Folder: k.folder, Size: size}
	if k.aws != nil {
		p.Endpoint = k.aws.Endpoints()["s3"]
		p.ID, p.Secret = k.aws.Service()
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func openPlace(arg string) (*blobs.Blobs, place, error) {
	var p place
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return nil, p, err
	}
	cfg := blobs.Config{Folder: p.Folder}
	if p.Folder == "" {
		cfg.S3 = blobs.S3Config{AWS: awsConfig(p.ID, p.Secret), Endpoint: p.Endpoint, Bucket: "kept", Prefix: "way/mark"}
	}
	b, err := blobs.Open(context.Background(), cfg)
	return b, p, err
}

// child runs this binary to its end and returns what it says. It has user and
// mount namespaces of its own.
func child(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

// halfSize is enough for two parts of S3, of which one is sent.
const halfSize = part + 1000

// write puts a blob, of which it has the second half only when its standard
// input says so.
func write(arg string) error {
	b, _, err := openPlace(arg)
	if err != nil {
		return err
	}
	second := &announced{}
	return b.Put(context.Background(), "log", io.MultiReader(bytes.NewReader(make([]byte, halfSize)), second, bytes.NewReader(make([]byte, halfSize))))
}

// announced says that it was read, waits for a line, and has no content.
type announced struct{ done bool }

func (a *announced) Read([]byte) (int, error) {
	if !a.done {
		a.done = true
		fmt.Println("half")
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// writer is a process that has put half of the blob "log".
type writer struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startWriter(t *testing.T, k *kit) *writer {
	t.Helper()
	w := &writer{cmd: exec.CommandContext(t.Context(), os.Args[0], "write", k.arg(t, 0))}
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.stdin = stdin
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "half\n" {
		t.Fatalf("the writer says %q, %v", line, err)
	}
	return w
}

func (w *writer) finish(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(w.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (w *writer) kill(t *testing.T) {
	t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.cmd.Wait() // says that it was killed
}

func TestAKilledWriterLeavesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, k *kit) {
		startWriter(t, k).kill(t)
		if got := k.keys(t, "") + k.text(t, "log"); got != "none" {
			t.Errorf("a new blob: %q", got)
		}
		k.put(t, "log", "old")
		startWriter(t, k).kill(t)
		if got := k.text(t, "log"); got != "old" {
			t.Errorf("a replaced blob has %d bytes", len(got))
		}
		k.open(t)
		if got := k.keys(t, ""); got != "log" {
			t.Errorf("after opening again: %q", got)
		}
		if k.folder != "" {
			k.wantNoTraces(t, 0)
		}
	})
}

// measure puts and reads a blob of a size, and says the largest heap that it had.
func measure(arg string) error {
	b, p, err := openPlace(arg)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := b.Put(ctx, "large", io.LimitReader(zeros{}, p.Size)); err != nil {
		return err
	}
	r, err := b.Get(ctx, "large")
	if err != nil {
		return err
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); err != nil || n != p.Size {
		return fmt.Errorf("read %d of %d bytes: %w", n, p.Size, err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_, err = fmt.Println(m.HeapSys) // it never shrinks
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLargeBlobsAreStreamed(t *testing.T) {
	onBoth(t, func(t *testing.T, k *kit) {
		peak := func(size int64) (bytes int64) {
			out, err := exec.CommandContext(t.Context(), os.Args[0], "measure", k.arg(t, size)).CombinedOutput()
			if _, scan := fmt.Sscan(string(out), &bytes); err != nil || scan != nil {
				t.Fatalf("%v, %s", err, out)
			}
			return bytes
		}
		const large = 128 << 20
		small, big := peak(1000), peak(large)
		t.Logf("at most %d MiB for a small blob, %d MiB for one of %d MiB", small>>20, big>>20, large>>20)
		if big-small > large/2 {
			t.Errorf("a blob of %d MiB needs %d MiB more than a small one", large>>20, (big-small)>>20)
		}
	})
}

// fullDisk mounts a disk of one MiB, which no other process sees.
func fullDisk(dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mounting a small disk: %w", err)
	}
	return overflow(dir)
}

// sizeLimit lets no file of this process become larger than 1 MiB.
func sizeLimit(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
		return err
	}
	return overflow(dir)
}

// overflow replaces a blob by one that is too large.
func overflow(dir string) error {
	ctx := context.Background()
	b, err := blobs.Open(ctx, blobs.Config{Folder: dir})
	if err != nil {
		return err
	}
	if err := b.Put(ctx, "large", strings.NewReader("old")); err != nil {
		return err
	}
	fmt.Println("put:", b.Put(ctx, "large", io.LimitReader(zeros{}, 4<<20)))
	r, err := b.Get(ctx, "large")
	if err != nil {
		return err
	}
	defer r.Close()
	kept, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Join(dir, ".unfinished"))
	fmt.Printf("kept: %s\nleft: %d\nafter: %v\n", kept, len(left), b.Put(ctx, "small", strings.NewReader("x")))
	return err
}
