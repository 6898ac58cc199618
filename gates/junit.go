package gates

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxXMLDepth = 100     // elements within each other
	maxXMLText  = 4 << 10 // bytes of one element's text that are read
)

// junitReader reads JUnit XML as it comes: no file of it, however deep, is built
// in memory. There is no standard; this takes what Ant, Maven, pytest, Checkov
// and tflint write: testsuites or testsuite, with testcase elements anywhere in
// it, and in each at most one of failure, error and skipped that counts.
type junitReader struct {
	file  func(string) string
	depth int

	cases    int
	declared int // failures and errors that the root element counts
	listed   int // failures and errors that are there
	failed   int
	skipped  int
	findings []release.Finding

	test    *junitCase // the one that is open
	outcome string     // "failure", "error" or "skipped" that is open, in test
}

type junitCase struct {
	name, class, file string
	line              int
	bad, skip         bool
	message, text     string
}

// readJUnit turns a JUnit report into a result: a case that fails or breaks is
// an error, one that is skipped is listed as suppressed.
func readJUnit(src []byte, file func(string) string) (release.GateResult, error) {
	r := junitReader{file: file}
	dec := xml.NewDecoder(bytes.NewReader(src))
	dec.CharsetReader = func(label string, in io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("it is written in %s; write it in UTF-8", clean(label, 50))
	}
	roots := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			if _, isStart := token.(xml.StartElement); isStart && r.depth == 0 {
				roots++
			}
			err = r.token(token)
		}
		if err != nil {
			return release.GateResult{}, fmt.Errorf("its output is not the JUnit XML that was asked for (%w)", err)
		}
	}
	switch {
	case roots != 1:
		return release.GateResult{}, fmt.Errorf("its output is not the JUnit XML that was asked for: it holds %d documents", roots)
	case r.declared > r.listed:
		return release.GateResult{}, fmt.Errorf("its report is not whole: %d failures are counted, %d are listed", r.declared, r.listed)
	}
	result := release.GateResult{Findings: r.findings, Summary: fmt.Sprintf("%d passed, %d failed, %d skipped", r.cases-r.failed-r.skipped, r.failed, r.skipped)}
	if r.cases-r.skipped == 0 {
		result.Summary = nothingEvaluated
		result.Findings = append(result.Findings, judgedNothing("no test of its report ran"))
	}
	return result, nil
}

func (r *junitReader) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.StartElement:
		if r.depth++; r.depth > maxXMLDepth {
			return fmt.Errorf("more than %d elements within each other", maxXMLDepth)
		}
		return r.open(t)
	case xml.EndElement:
		r.depth--
		r.close(t.Name.Local)
	case xml.CharData:
		if r.outcome != "" && len(r.test.text) < maxXMLText {
			r.test.text += string(t[:min(len(t), maxXMLText)])
		}
	case xml.Directive:
		return errors.New("a document type, which no report needs")
	}
	return nil
}

func (r *junitReader) open(e xml.StartElement) error {
	name := e.Name.Local
	if r.depth == 1 {
		if name != "testsuites" && name != "testsuite" {
			return fmt.Errorf("the root element is %q", clean(name, 50))
		}
		for _, counted := range []string{"failures", "errors"} {
			if n, err := strconv.Atoi(attribute(e, counted)); err == nil && n >= 0 {
				r.declared += n
			}
		}
	}
	switch {
	case name == "testcase" && r.test != nil:
		return errors.New("a testcase within a testcase")
	case name == "testcase":
		line, _ := strconv.Atoi(attribute(e, "line"))
		r.test = &junitCase{name: attribute(e, "name"), class: attribute(e, "classname"), file: attribute(e, "file"), line: line}
	case r.test == nil || r.outcome != "":
	case name == "failure" || name == "error":
		r.listed++
		r.outcome, r.test.bad = name, true
		if r.test.message == "" {
			r.test.message = attribute(e, "message")
		}
	case name == "skipped":
		r.outcome, r.test.skip = name, true
		r.test.message = attribute(e, "message")
	}
	return nil
}

func (r *junitReader) close(name string) {
	if name == r.outcome {
		r.outcome = ""
		return
	}
	if name != "testcase" || r.test == nil {
		return
	}
	t := *r.test
	r.test, r.outcome = nil, ""
	r.cases++
	r.failed += btoi(t.bad)
	r.skipped += btoi(t.skip && !t.bad)
	if t.bad || t.skip {
		r.findings = append(r.findings, t.finding(r.file))
	}
}

func (t junitCase) finding(file func(string) string) release.Finding {
	f := release.Finding{Rule: t.name, Severity: release.SeverityError, File: file(t.file), Line: t.line, Message: t.message}
	if t.class != "" && t.class != t.name {
		f.Rule = t.class + "/" + t.name
	}
	if strings.TrimSpace(f.Message) == "" {
		f.Message = t.text
	}
	if strings.TrimSpace(f.Message) == "" {
		f.Message = "it failed without a word"
	}
	if t.skip && !t.bad {
		f.Severity, f.Message, f.Suppressed = release.SeverityWarning, "this test is skipped", f.Message
		if t.message == "" && strings.TrimSpace(t.text) == "" {
			f.Suppressed = "no reason given"
		}
	}
	return f
}

// attribute is the value of an element's attribute, or empty.
func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
