package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// look is how a browser shows a page: how wide, and in which colours.
type look struct {
	name   string
	width  int64
	height int64
	scale  float64
	dark   bool
}

// looks are those that every page has to stand.
func looks() []look {
	return []look{
		{"light-wide", 1280, 900, 1, false}, {"dark-wide", 1280, 900, 1, true},
		{"light-phone", 390, 844, 2, false}, {"dark-phone", 390, 844, 2, true},
	}
}

// browser is one tab of a real Chromium, which reaches this machine alone. What
// it complains of fails the test at its end.
type browser struct {
	t      *testing.T
	ctx    context.Context
	server string

	mu         sync.Mutex
	complaints []string
}

// chromium finds the browser, and fails with its package's name where there is none.
func chromium(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs chromium; left out with -short")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if file, err := exec.LookPath(name); err == nil {
			return file
		}
	}
	t.Fatal("chromium is not on PATH: install the package chromium, or leave these tests out with `make test-short`")
	return ""
}

// newBrowser starts a Chromium with a folder of its own.
func newBrowser(t *testing.T, server string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), chromedp.DisableGPU,
		chromedp.Flag("font-render-hinting", "none"), chromedp.WSURLReadTimeout(time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, end := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx, server: server}
	t.Cleanup(func() {
		b.wantQuiet()
		end()
		stop()
	})
	// The first action makes the tab; what listens needs one.
	b.do(chromedp.Navigate("about:blank"))
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	b.show(looks()[0])
	return b
}

// hear keeps what the browser complains of, and closes dialogs.
func (b *browser) hear(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || strings.Contains(e.Entry.Text, "Content Security Policy") {
			b.complain("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		b.complain("exception: %v", e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			b.complain("console: %s", consoleText(e.Args))
		}
	case *page.EventJavascriptDialogOpening:
		b.complain("dialog: %s", e.Message)
		go func() { // an event's handler must not call
			_ = chromedp.Do(b.ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: false})
				return err
			}))
		}()
	}
}

func consoleText(args []*runtime.RemoteObject) string {
	var b strings.Builder
	for _, a := range args {
		fmt.Fprintf(&b, "%s %s ", a.Value, a.Description)
	}
	return b.String()
}

func (b *browser) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
}

// wantQuiet fails where the browser complained since it was asked last.
func (b *browser) wantQuiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		b.t.Errorf("the browser complains: %s", c)
	}
	b.complaints = nil
}

// forgive takes what was complained of out that holds one of the statuses: a browser
// complains of every page that is an error.
func (b *browser) forgive(statuses ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = slices.DeleteFunc(b.complaints, func(c string) bool {
		return slices.ContainsFunc(statuses, func(s string) bool { return strings.Contains(c, "status of "+s) })
	})
}

// do takes steps within half a minute.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	// The very first action owns the browser, so its context must not end.
	if chromedp.FromContext(b.ctx).Target == nil {
		if err := chromedp.Do(b.ctx, steps...); err != nil {
			b.t.Fatalf("starting chromium: %v", err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v, at %s", err, b.where())
	}
}

// show changes how pages are shown from now on.
func (b *browser) show(l look) {
	b.t.Helper()
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	options := []chromedp.EmulateViewportOption{chromedp.EmulateScale(l.scale)}
	if l.width < 600 {
		options = append(options, chromedp.EmulateMobile)
	}
	b.do(chromedp.EmulateViewport(l.width, l.height, options...), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return err
	}))
}

// open shows a path of the service.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.server + path))
}

// eval gives what an expression is on the page; promises are waited for.
func eval[T any](b *browser, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func mustEval[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := eval[T](b, expression)
	if err != nil {
		b.t.Fatalf("%v, at %s, of %s", err, b.where(), expression)
	}
	return v
}

func (b *browser) where() string {
	at, err := eval[string](b, "location.href")
	if err != nil {
		return err.Error()
	}
	return at
}

// text is what a person reads on the page.
func (b *browser) text() string {
	text, err := eval[string](b, "document.body.innerText")
	if err != nil {
		return err.Error()
	}
	return text
}

// await polls until an expression is true on the page; while a page is left for
// the next one, there is none.
func (b *browser) await(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		ok, err := eval[bool](b, "!!("+expression+")")
		return err == nil && ok, nil
	})
	if err != nil {
		b.t.Fatalf("waited a minute for %s, at %s:\n%s", what, b.where(), b.text())
	}
}

// reads waits until a person reads all of the words on the page.
func (b *browser) reads(words ...string) {
	b.t.Helper()
	for _, w := range words {
		b.await(fmt.Sprintf("%q", w), "document.body.innerText.includes("+quote(w)+")")
	}
}

// at waits for the page at a path.
func (b *browser) at(path string) {
	b.t.Helper()
	b.await("the page "+path, "location.pathname === "+quote(path)+" && document.readyState === 'complete'")
}

// quote writes a string as an expression.
func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(text)
}

// finder is an expression for the first element that a selector gives and that
// shows all of text.
func finder(selector, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%s)].find(e => e.innerText !== undefined && (e.innerText + " " + (e.value || "")).includes(%s) && e.getClientRects().length > 0)`,
		quote(selector), quote(text))
}

// click moves the mouse onto what a selector gives and that shows text, and clicks,
// once it lies still and nothing lies over it.
func (b *browser) click(selector, text string) {
	b.t.Helper()
	b.await(fmt.Sprintf("%s with %q", selector, text), finder(selector, text))
	var at, before []float64
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		var err error
		before = at
		at, err = eval[[]float64](b, `(() => {
			const e = `+finder(selector, text)+`
			e.scrollIntoView({block: "center", behavior: "instant"})
			const r = e.getClientRects()[0], x = r.x + r.width / 2, y = r.y + r.height / 2
			const top = document.elementFromPoint(x, y)
			return top && (e.contains(top) || top.contains(e)) ? [x, y] : []
		})()`)
		return err == nil && len(at) == 2 && slices.Equal(at, before), nil
	})
	if err != nil {
		b.t.Fatalf("something lies over %s with %q, or it does not lie still, at %s:\n%s", selector, text, b.where(), b.text())
	}
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]), chromedp.MouseClickXY(at[0], at[1]))
}

// press types keys into whatever has the focus.
func (b *browser) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// focusStyle is empty where the element with the focus can be told from others.
const focusStyle = `(() => {
	const e = document.activeElement
	if (!e || e === document.body) return ""
	const s = getComputedStyle(e), r = e.getBoundingClientRect()
	const ring = (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none"
	if (!e.matches(":focus-visible") || !ring || r.width < 1 || r.height < 1)
		return "nobody sees the focus on " + e.outerHTML.slice(0, 200) + ": outline " + s.outline
	return ""
})()`

// tabTo goes on by Tab until what a selector gives and that shows text has the
// focus; at each stop the focus has to be seen.
func (b *browser) tabTo(selector, text string) {
	b.t.Helper()
	b.await(fmt.Sprintf("%s with %q", selector, text), finder(selector, text))
	for range 200 {
		if wrong := mustEval[string](b, focusStyle); wrong != "" {
			b.t.Errorf("%s, at %s", wrong, b.where())
		}
		if mustEval[bool](b, "document.activeElement !== document.body && document.activeElement === "+finder(selector, text)) {
			return
		}
		b.press(kb.Tab)
	}
	b.t.Fatalf("200 times Tab do not lead to %s with %q, at %s:\n%s", selector, text, b.where(), b.text())
}
