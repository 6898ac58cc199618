package testkit

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestDynaliteEndsWithAKilledTestBinary(t *testing.T) {
	needDynalite(t)
	child := exec.Command(os.Args[0], "-test.run=^TestDynaliteChild$")
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var pid int
	if _, scanErr := fmt.Sscanf(line, "dynalite %d", &pid); scanErr != nil {
		t.Fatalf("the child said %q (%v), want the pid of node", line, err)
	}
	node := pidfd(t, pid)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	awaitEnd(t, node, "node")
}

// TestDynaliteChild is the test binary that TestDynaliteEndsWithAKilledTestBinary kills.
func TestDynaliteChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("plays a part in another test")
	}
	StartAWS(t).CreateTable("locks", "", "")
	p, err := theDynalite()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("dynalite %d\n", p.cmd.Process.Pid)
	select {} // until it is killed
}
