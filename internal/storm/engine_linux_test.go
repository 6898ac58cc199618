package storm

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The test binary poses as the engine. In the folder realCode it hands over to
// OpenTofu; in any other it stands in for it, because a thousand real applies
// would take longer than the storm. In both it records each apply in the ledger
// before it begins and when it has ended.

const (
	engineName = "tofu"
	realCode   = "real"
	posedCode  = "posed"
)

// part is what the posing binary reads from the file partFile beside itself:
// its environment is scrubbed.
type part struct {
	Ledger string // the ledger's file
	Real   string // OpenTofu's executable
}

const partFile = "part.json"

// savedPlan is the stand-in's plan file.
type savedPlan struct {
	Target, Tag string
	Hold        time.Duration // how long its apply takes
}

func pose() int {
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), partFile))
	var p part
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err == nil {
		err = p.play(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error: the stand-in:", err)
		return 1
	}
	return 0
}

// play does what one command of the engine does.
func (p part) play(args []string) error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	command, last := args[0], args[len(args)-1]
	isReal := filepath.Base(wd) == realCode
	switch {
	case command == "apply" && isReal:
		return p.applyReal(args, last)
	case command == "version" || isReal:
		return syscall.Exec(p.Real, append([]string{p.Real}, args...), os.Environ())
	case command == "init":
		return nil
	case command == "validate":
		say(`{"format_version":"1.0","valid":true,"error_count":0,"warning_count":0,"diagnostics":[]}`)
		return nil
	case command == "plan":
		return plan(args)
	case command == "show":
		return show(last)
	case command == "apply":
		return p.applyPosed(last)
	}
	return fmt.Errorf("no part for %q", args)
}

// plan writes a plan for the tag that the variables name. Some take longer than
// others, and always the same.
func plan(args []string) error {
	out, variables := option(args, "-out="), option(args, "-var-file=")
	raw, err := os.ReadFile(variables)
	if err != nil {
		return err
	}
	var v struct{ Target, Tag string }
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	planning, hold := times(v.Tag)
	time.Sleep(planning)
	data, err := json.Marshal(savedPlan{Target: v.Target, Tag: v.Tag, Hold: hold})
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, data, 0o600); err != nil {
		return err
	}
	say(`{"@level":"info","@message":"Plan: 1 to add, 0 to change, 0 to destroy.","type":"change_summary","changes":{"add":1,"change":0,"remove":0,"operation":"plan"}}`)
	return nil
}

// slowPlan marks, in a tag's version, a plan that takes slowPlanning: long
// enough to kill the worker in the middle of it.
const (
	slowPlan     = "-slow"
	slowPlanning = 3 * time.Second
)

// times are how long the plan and the apply of a tag take: most are short, one
// of eight applies lasts longer than a replica is usually down.
func times(tag string) (planning, hold time.Duration) {
	h := fnv.New64a()
	h.Write([]byte(tag))
	n := h.Sum64()
	planning = time.Duration(n%300) * time.Millisecond
	hold = time.Duration(20+n/300%500) * time.Millisecond
	if n/150000%8 == 0 {
		hold += 4 * time.Second
	}
	if strings.HasSuffix(tag, slowPlan) {
		planning = slowPlanning
	}
	return planning, hold
}

func show(file string) error {
	p, err := readPlan(file)
	if err != nil {
		return err
	}
	tag, err := json.Marshal(p.Tag)
	if err != nil {
		return err
	}
	say(`{"format_version":"1.2","terraform_version":"1.12.6","variables":{"tag":{"value":` + string(tag) + `}},
		"planned_values":{"root_module":{}},"configuration":{"root_module":{}},
		"resource_changes":[{"address":"terraform_data.it","mode":"managed","type":"terraform_data","name":"it",
			"provider_name":"terraform.io/builtin/terraform","change":{"actions":["create"],"before":null,
			"after":{"input":` + string(tag) + `},"after_unknown":{"id":true},"before_sensitive":false,"after_sensitive":{}}}]}`)
	return nil
}

// applyPosed changes nothing but the ledger. An interrupt does not end it early:
// an engine finishes the resource that it has begun.
func (p part) applyPosed(file string) error {
	saved, err := readPlan(file)
	if err != nil {
		return err
	}
	signal.Ignore(os.Interrupt)
	if err := record(p.Ledger, began, saved.Target, saved.Tag); err != nil {
		return err
	}
	say(`{"@level":"info","@message":"terraform_data.it: Creating...","type":"apply_start","hook":{"resource":{"addr":"terraform_data.it"},"action":"create"}}`)
	time.Sleep(saved.Hold)
	say(`{"@level":"info","@message":"terraform_data.it: Creation complete","type":"apply_complete","hook":{"resource":{"addr":"terraform_data.it"},"action":"create"}}`)
	if err := record(p.Ledger, ended, saved.Target, saved.Tag); err != nil {
		return err
	}
	say(`{"@level":"info","@message":"Apply complete! Resources: 1 added, 0 changed, 0 destroyed.","type":"change_summary","changes":{"add":1,"change":0,"remove":0,"operation":"apply"}}`)
	return nil
}

// applyReal has OpenTofu apply, and dies with it or before it, never after.
func (p part) applyReal(args []string, file string) error {
	doc, err := exec.Command(p.Real, "show", "-json", "-no-color", file).Output()
	if err != nil {
		return fmt.Errorf("reading the plan: %w", err)
	}
	var v struct {
		Variables struct{ Target, Tag struct{ Value string } }
	}
	if err := json.Unmarshal(doc, &v); err != nil {
		return err
	}
	target, tag := v.Variables.Target.Value, v.Variables.Tag.Value
	if err := record(p.Ledger, began, target, tag); err != nil {
		return err
	}
	runtime.LockOSThread() // the child dies with this thread
	cmd := exec.Command(p.Real, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		for range interrupts {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}()
	applyErr := cmd.Wait()
	what := ended
	if applyErr != nil {
		what = failed
	}
	if err := record(p.Ledger, what, target, tag); err != nil {
		return err
	}
	return applyErr
}

func readPlan(file string) (p savedPlan, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(raw, &p)
}

// option gives the value of the last argument that begins with name.
func option(args []string, name string) string {
	for _, a := range slices.Backward(args) {
		if value, ok := strings.CutPrefix(a, name); ok {
			return value
		}
	}
	return ""
}

// say prints one message of the engine, on one line.
func say(message string) {
	fmt.Println(strings.Join(strings.Fields(message), " "))
}

// installEngine puts the posing binary and its part into a folder, and returns
// its path.
func installEngine(dir string, p part) (string, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, partFile), text, 0o644); err != nil {
		return "", err
	}
	engine := filepath.Join(dir, engineName)
	return engine, os.WriteFile(engine, self, 0o755)
}
