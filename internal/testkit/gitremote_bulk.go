package testkit

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// BulkTags makes n annotated tags of rev, named name(0) to name(n-1), with
// packed refs. It writes one pack and the packed-refs file: git itself needs a
// minute for 100,000 tags, most of it for a file per tag.
func (r *Remote) BulkTags(n int, rev string, name func(i int) string) {
	r.t.Helper()
	commit := r.Rev(rev + "^{commit}")
	r.Git("pack-refs", "--all")
	refs := r.packedRefs()
	pack := &packBuilder{}
	for i := range n {
		tag := name(i)
		id := pack.addTag(fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger Test Tagger <tagger@example.org> %d +0000\n\nbulk\n",
			commit, tag, r.clock.Unix()+int64(i)))
		refs = append(refs, fmt.Sprintf("%s refs/tags/%s\n^%s\n", id, tag, commit))
	}
	r.GitInput(string(pack.finish(n)), "index-pack", "--stdin")
	slices.SortFunc(refs, func(a, b string) int { return strings.Compare(refName(a), refName(b)) })
	text := "# pack-refs with: peeled fully-peeled sorted \n" + strings.Join(refs, "")
	if err := os.WriteFile(filepath.Join(r.Dir, "packed-refs"), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func refName(line string) string {
	name, _, _ := strings.Cut(line[41:], "\n")
	return name
}

// packedRefs reads the packed refs, each with its peeled line.
func (r *Remote) packedRefs() []string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir, "packed-refs"))
	if err != nil {
		r.t.Fatal(err)
	}
	var refs []string
	for line := range strings.Lines(string(b)) {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "^"):
			refs[len(refs)-1] += line
		default:
			refs = append(refs, line)
		}
	}
	return refs
}

// packBuilder writes tag objects as a git pack.
type packBuilder struct {
	body bytes.Buffer
	z    *zlib.Writer
}

func (p *packBuilder) addTag(text string) (id string) {
	const tag = 4
	size := len(text)
	c := byte(tag<<4 | size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.body.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	p.body.WriteByte(c)
	if p.z == nil {
		p.z, _ = zlib.NewWriterLevel(&p.body, zlib.BestSpeed)
	}
	p.z.Reset(&p.body)
	_, _ = p.z.Write([]byte(text))
	_ = p.z.Close()
	return fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "tag %d\x00%s", len(text), text)))
}

func (p *packBuilder) finish(n int) []byte {
	out := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(n))
	out = append(out, p.body.Bytes()...)
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}
