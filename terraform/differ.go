package terraform

import (
	"fmt"
	"reflect"
	"strconv"

	"github.com/waymark-cd/waymark/release"
)

// differ lists the attributes in which two sides of a resource differ.
type differ struct {
	*masker
	changes []release.AttributeChange
	more    bool // some were left out
}

// walk compares two values and goes into objects and lists that are on both
// sides, or on the only side that there is.
func (d *differ) walk(path string, before, after side, depth int) {
	if d.more || !before.there && !after.there {
		return
	}
	if before.masked() || after.masked() {
		// One side's mark holds for both: the other may be the same secret.
		before.marks, after.marks = true, true
		if after.unknown == true || !reflect.DeepEqual(before.value, after.value) {
			d.add(path, before, after)
		}
		return
	}
	if after.unknown != true && depth < maxDepth {
		b, bObject := before.value.(map[string]any)
		a, aObject := after.value.(map[string]any)
		if (bObject || !before.there) && (aObject || !after.there) && len(a)+len(b) > 0 {
			for _, name := range keys(b, a, after.unknown) {
				d.walk(d.child(path, name), before.child(name), after.child(name), depth+1)
			}
			return
		}
		bl, bList := before.value.([]any)
		al, aList := after.value.([]any)
		if (bList || !before.there) && (aList || !after.there) && len(al)+len(bl) > 0 {
			for i := range max(len(bl), len(al), length(after.unknown)) {
				d.walk(d.child(path, i), before.at(i), after.at(i), depth+1)
			}
			return
		}
	}
	if after.unknown == true || hasTrue(after.unknown) || !reflect.DeepEqual(before.value, after.value) {
		d.add(path, before, after)
	}
}

func (d *differ) add(path string, before, after side) {
	if len(d.changes) == maxAttributes {
		d.more = true
		return
	}
	d.changes = append(d.changes, release.AttributeChange{
		Path:   cut(neutral(path), maxValue),
		Before: d.text(before),
		After:  d.text(after),
	})
}

// child is the path of a part: a.b for names, a["b c"] for other keys, a[0].
func (m *masker) child(path string, step any) string {
	switch step := step.(type) {
	case string:
		step = m.redact(step)
		if !identifier(step) {
			return path + "[" + strconv.Quote(step) + "]"
		}
		if path == "" {
			return step
		}
		return path + "." + step
	default:
		return path + fmt.Sprintf("[%v]", step)
	}
}

func identifier(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '-')) {
			return false
		}
	}
	return s != ""
}
