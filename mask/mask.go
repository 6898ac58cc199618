// Package mask owns what text must not show: values that are known to be secret,
// in the forms in which tools print them, what the operator's patterns match,
// tokens of well-known shapes, private keys, and long tokens that look random.
//
// It finds and replaces, in memory. It must never print, keep or send a value.
package mask

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Mark stands where something was taken out.
const Mark = "(masked)"

// MinValue is the length, in bytes, from which a value is looked for: shorter
// ones are no secrets, and would blot out half of a text.
const MinValue = 4

// Mask takes secrets out of text. The zero value knows no values and no patterns.
// It is safe for concurrent use: values may be added while others mask.
type Mask struct {
	patterns []*regexp.Regexp

	mu     sync.Mutex // of those who add
	values map[string]bool
	words  atomic.Pointer[automaton]
}

// New returns a Mask with patterns, in the syntax of RE2; what one matches is
// masked as a whole. The error wraps none of release's sentinels and does not
// repeat more than the pattern: CheckPattern says it earlier.
func New(patterns []string) (*Mask, error) {
	m := &Mask{}
	for _, p := range patterns {
		if err := CheckPattern(p); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		m.patterns = append(m.patterns, regexp.MustCompile(p))
	}
	return m, nil
}

// maxPattern bounds a pattern in bytes.
const maxPattern = 1000

// CheckPattern judges a pattern: it must compile, and match something.
func CheckPattern(pattern string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("it has more than %d bytes", maxPattern)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	if re.MatchString("") {
		return errors.New("it matches the empty text, and so everywhere: write what must be there, such as corp-[0-9a-f]{32}")
	}
	return nil
}

// Add makes values be masked from now on, however a tool encodes them. A value
// of several lines is looked for line by line.
func (m *Mask) Add(values ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	grown := false
	for _, v := range values {
		if harmless(v) || m.values[v] {
			continue
		}
		if m.values == nil {
			m.values = map[string]bool{}
		}
		m.values[v], grown = true, true
	}
	if !grown {
		return
	}
	set := map[string]bool{}
	for v := range m.values {
		forms(set, v)
	}
	m.words.Store(newAutomaton(set))
}

// harmless are values that say nothing although somebody marks them.
func harmless(v string) bool {
	v = strings.TrimSpace(v)
	return len(v) < MinValue || slices.Contains([]string{"true", "false", "null", "none", Mark}, strings.ToLower(v))
}

// Text returns a text of any number of lines without secrets.
func (m *Mask) Text(s string) string { return replace(s, m.spans(s, true)) }

// Known is Text without looking for what merely looks random: for text in which
// digests and keys of others must stay readable.
func (m *Mask) Known(s string) string { return replace(s, m.spans(s, false)) }

// Cut is Text for a text whose end is missing: a value that may have begun at
// its end is masked too.
func (m *Mask) Cut(s string) string {
	found := m.spans(s, true)
	if a := m.words.Load(); a != nil {
		if n := a.begun(s); n > 0 {
			found = append(found, span{len(s) - n, len(s)})
		}
	}
	// What a pattern or a shape would have matched is not to be told from a short
	// beginning: the last word goes too.
	if at := max(strings.LastIndexAny(s, " \t\n\"'=,;")+1, len(s)-maxNeedle); len(s)-at >= minToken/2 {
		found = append(found, span{at, len(s)})
	}
	return replace(s, found)
}

// span is a part of a text, by bytes.
type span struct{ from, to int }

func (m *Mask) spans(s string, guess bool) []span {
	var found []span
	if a := m.words.Load(); a != nil {
		found = a.find(s, found)
	}
	for _, p := range m.patterns {
		for _, at := range p.FindAllStringIndex(s, -1) {
			found = append(found, span{at[0], at[1]})
		}
	}
	found = findShapes(s, found)
	if guess {
		found = findRandom(s, found)
	}
	return found
}

// replace puts the mark where spans are; spans that touch become one.
func replace(s string, found []span) string {
	if len(found) == 0 {
		return s
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Or(a.from-b.from, b.to-a.to) })
	var out strings.Builder
	done := 0 // up to where s is written, or masked
	for i := 0; i < len(found); {
		from, to := found[i].from, found[i].to
		for i++; i < len(found) && found[i].from <= to; i++ {
			to = max(to, found[i].to)
		}
		if from == to {
			continue
		}
		out.WriteString(s[done:from])
		out.WriteString(Mark)
		done = to
	}
	out.WriteString(s[done:])
	return out.String()
}
