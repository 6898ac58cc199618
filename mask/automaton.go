package mask

import "strings"

// automaton finds many words in one pass over a text (Aho and Corasick).
type automaton struct {
	root  [256]int32
	nodes []node
}

type node struct {
	child, sibling int32 // 0: none
	fail           int32 // node of the longest proper suffix that begins a word
	depth          int32
	word           int32 // length of the longest word that ends here; 0: none
	char           byte
	rest           bool // the word goes on: it was too long, and takes its line with it
}

// newAutomaton makes an automaton of words, none of which is empty.
func newAutomaton(words map[string]bool) *automaton {
	a := &automaton{nodes: make([]node, 1)}
	for w := range words {
		rest := len(w) > maxNeedle
		a.insert(w[:min(len(w), maxNeedle)], rest)
	}
	a.link()
	return a
}

func (a *automaton) insert(word string, rest bool) {
	at := int32(0)
	for i := range len(word) {
		next := a.down(at, word[i])
		if next == 0 {
			next = int32(len(a.nodes))
			a.nodes = append(a.nodes, node{char: word[i], sibling: a.nodes[at].child, depth: int32(i + 1)})
			a.nodes[at].child = next
			if at == 0 {
				a.root[word[i]] = next
			}
		}
		at = next
	}
	a.nodes[at].word = int32(len(word))
	a.nodes[at].rest = a.nodes[at].rest || rest
}

// down is the node below another; 0 where there is none.
func (a *automaton) down(at int32, c byte) int32 {
	if at == 0 {
		return a.root[c]
	}
	n := a.nodes[at].child
	for n != 0 && a.nodes[n].char != c {
		n = a.nodes[n].sibling
	}
	return n
}

// link gives each node its suffix, breadth first.
func (a *automaton) link() {
	queue := make([]int32, 0, len(a.nodes))
	for n := a.nodes[0].child; n != 0; n = a.nodes[n].sibling {
		queue = append(queue, n)
	}
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		for n := a.nodes[at].child; n != 0; n = a.nodes[n].sibling {
			fail := a.step(a.nodes[at].fail, a.nodes[n].char)
			a.nodes[n].fail = fail
			if shorter := a.nodes[fail]; a.nodes[n].word == 0 {
				a.nodes[n].word, a.nodes[n].rest = shorter.word, shorter.rest
			} else {
				a.nodes[n].rest = a.nodes[n].rest || shorter.rest
			}
			queue = append(queue, n)
		}
	}
}

// step goes on from a node with one more byte.
func (a *automaton) step(at int32, c byte) int32 {
	for {
		if n := a.down(at, c); n != 0 || at == 0 {
			return n
		}
		at = a.nodes[at].fail
	}
}

// find appends where words are.
func (a *automaton) find(s string, found []span) []span {
	at := int32(0)
	for i := range len(s) {
		at = a.step(at, s[i])
		n := &a.nodes[at]
		if n.word == 0 {
			continue
		}
		to := i + 1
		if n.rest {
			to = len(s)
			if end := strings.IndexByte(s[i:], '\n'); end >= 0 {
				to = i + end
			}
		}
		from := i + 1 - int(n.word)
		if last := len(found) - 1; last >= 0 && from <= found[last].from && to >= found[last].to {
			found[last] = span{from, to}
			continue
		}
		found = append(found, span{from, to})
	}
	return found
}

// begun is how many bytes at the end of s are the beginning of a word.
func (a *automaton) begun(s string) int {
	at := int32(0)
	for i := max(0, len(s)-maxNeedle); i < len(s); i++ {
		at = a.step(at, s[i])
	}
	if n := int(a.nodes[at].depth); n >= MinValue {
		return n
	}
	return 0
}
