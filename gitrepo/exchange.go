package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// maxRefName bounds a ref's name; longer ones are left out of a listing. No
// deployment tag is a tenth as long.
const maxRefName = 1024

// exchange speaks git's upload-pack protocol over a conn: gitprotocol-v2 where
// the server offers it, gitprotocol-pack (version 0) otherwise.
type exchange struct {
	conn  conn
	in    *pktReader
	v2    bool
	caps  string // v0: separated by spaces; v2: by newlines
	first []byte // v0: the first ref line, without capabilities
	asked bool   // v0: the one request was sent
}

// refLine is one advertised ref. The slices are valid during the callback.
type refLine struct {
	name, id []byte
	peeled   []byte // empty for what is no annotated tag
}

// connect dials and reads the server's greeting.
func (r *Repository) connect(ctx context.Context) (*exchange, error) {
	c, err := r.dialer.dial(ctx)
	if err != nil {
		return nil, err
	}
	x := &exchange{conn: c, in: newPktReader(c.greeting())}
	if err := x.hello(); err != nil {
		c.close()
		return nil, err
	}
	return x, nil
}

func (x *exchange) close() { x.conn.close() }

func (x *exchange) hello() error {
	line, ok, err := x.in.line()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return x.conn.said(nil)
	}
	if err != nil {
		return err
	}
	if !ok {
		return nil // version 0, no refs
	}
	if string(line) != "version 2" {
		ref, caps, _ := bytes.Cut(line, []byte{0})
		x.first, x.caps = bytes.Clone(ref), string(caps)
		return x.checkFormat(strings.Fields(x.caps))
	}
	x.v2 = true
	var caps strings.Builder
	for n := 0; ; n++ {
		line, ok, err := x.in.line()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if n > 100 {
			return errors.New("the server names too many capabilities")
		}
		caps.Write(line)
		caps.WriteByte('\n')
	}
	x.caps = caps.String()
	return x.checkFormat(strings.Split(x.caps, "\n"))
}

func (x *exchange) checkFormat(caps []string) error {
	for _, c := range caps {
		if format, ok := strings.CutPrefix(c, "object-format="); ok && format != "sha1" {
			return fmt.Errorf("%w: the repository uses object format %q; only sha1 is supported", release.ErrInvalid, clip(format))
		}
	}
	return nil
}

// refs gives each advertised ref, in the server's order, to each. With version
// 2 the server sends only those that begin with one of the prefixes.
func (x *exchange) refs(ctx context.Context, prefixes []string, each func(refLine) error) error {
	if !x.v2 {
		return x.refsV0(each)
	}
	req := appendPkt(nil, "command=ls-refs\n")
	req = append(req, delimPkt...)
	req = appendPkt(req, "peel\n")
	for _, p := range prefixes {
		req = appendPkt(req, "ref-prefix %s\n", p)
	}
	if err := x.ask(ctx, append(req, flushPkt...)); err != nil {
		return err
	}
	for {
		line, ok, err := x.in.line()
		if err != nil || !ok {
			return err
		}
		ref, err := parseV2Ref(line)
		if err != nil {
			return err
		}
		if err := each(ref); err != nil {
			return err
		}
	}
}

// parseV2Ref reads "<id> <name>[ peeled:<id>][ symref-target:<name>]".
func parseV2Ref(line []byte) (refLine, error) {
	ref, err := parseRef(line)
	if err != nil {
		return ref, err
	}
	name, attrs, _ := bytes.Cut(ref.name, []byte{' '})
	ref.name = name
	for len(attrs) > 0 {
		var attr []byte
		attr, attrs, _ = bytes.Cut(attrs, []byte{' '})
		if id, ok := bytes.CutPrefix(attr, []byte("peeled:")); ok {
			if !isHexID(id) {
				return ref, badRef(line)
			}
			ref.peeled = id
		}
	}
	return ref, nil
}

// parseRef reads "<id> <rest>".
func parseRef(line []byte) (refLine, error) {
	if len(line) < 42 || line[40] != ' ' || !isHexID(line[:40]) {
		return refLine{}, badRef(line)
	}
	return refLine{id: line[:40], name: line[41:]}, nil
}

func badRef(line []byte) error {
	return fmt.Errorf("the remote lists a malformed ref %q", clip(string(line)))
}

// refsV0 pairs every tag with the "^{}" line that follows it where the tag is
// annotated.
func (x *exchange) refsV0(each func(refLine) error) error {
	if x.first == nil || bytes.HasSuffix(x.first, []byte(" capabilities^{}")) {
		if x.first == nil {
			return nil
		}
		_, _, err := x.in.line()
		return err
	}
	held, err := parseRef(x.first)
	if err != nil {
		return err
	}
	var scratch []byte
	for {
		line, ok, err := x.in.line()
		if err != nil {
			return err
		}
		if !ok {
			return each(held)
		}
		if bytes.HasPrefix(line, []byte("shallow ")) {
			continue
		}
		ref, err := parseRef(line)
		if err != nil {
			return err
		}
		if name, ok := bytes.CutSuffix(ref.name, []byte("^{}")); ok {
			if held.peeled == nil && bytes.Equal(name, held.name) {
				scratch = append(scratch, ref.id...)
				held.peeled = scratch[len(scratch)-40:]
			}
			continue
		}
		if err := each(held); err != nil {
			return err
		}
		scratch = append(scratch[:0], line...)
		held = refLine{id: scratch[:40:40], name: scratch[41:len(line):len(line)]}
	}
}

// spent tells that this conversation cannot carry another pack request.
func (x *exchange) spent() bool { return !x.v2 && x.asked && !x.conn.stateless() }

// pack asks for objects and returns the pack that holds them. With depth1 the
// wanted commits come without their history where the server can do that.
func (x *exchange) pack(ctx context.Context, wants, haves []string, depth1 bool) (io.Reader, error) {
	depth1 = depth1 && strings.Contains(x.caps, "shallow")
	x.asked = true
	if x.v2 {
		return x.packV2(ctx, wants, haves, depth1)
	}
	return x.packV0(ctx, wants, haves, depth1)
}

func (x *exchange) packV2(ctx context.Context, wants, haves []string, depth1 bool) (io.Reader, error) {
	req := appendPkt(nil, "command=fetch\n")
	req = append(req, delimPkt...)
	req = appendPkt(req, "ofs-delta\n")
	req = appendPkt(req, "no-progress\n")
	req = appendLines(req, "want", wants)
	req = appendLines(req, "have", haves)
	if depth1 {
		req = appendPkt(req, "deepen 1\n")
	}
	req = appendPkt(req, "done\n")
	if err := x.ask(ctx, append(req, flushPkt...)); err != nil {
		return nil, err
	}
	// Sections before the pack (shallow-info) need no answer from us: see
	// install for why no shallow boundary is kept.
	for {
		kind, line, err := x.in.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, x.conn.said(io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		case kind == pktFlush || kind == pktEnd:
			return nil, errors.New("the remote sent no pack")
		case string(bytes.TrimSuffix(line, []byte{'\n'})) == "packfile":
			return &band{in: x.in}, nil
		}
	}
}

func (x *exchange) packV0(ctx context.Context, wants, haves []string, depth1 bool) (io.Reader, error) {
	if !strings.Contains(x.caps, "side-band-64k") {
		return nil, fmt.Errorf("%w: the server is too old: it knows no side-band-64k", release.ErrInvalid)
	}
	req := appendPkt(nil, "want %s side-band-64k ofs-delta no-progress\n", wants[0])
	req = appendLines(req, "want", wants[1:])
	if depth1 {
		req = appendPkt(req, "deepen 1\n")
	}
	req = append(req, flushPkt...)
	req = appendLines(req, "have", haves)
	if err := x.ask(ctx, appendPkt(req, "done\n")); err != nil {
		return nil, err
	}
	// The shallow section (until a flush), then NAK or ACK, then the pack.
	for {
		kind, line, err := x.in.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, x.conn.said(io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		case kind == pktData && (bytes.HasPrefix(line, []byte("NAK")) || bytes.HasPrefix(line, []byte("ACK "))):
			return &band{in: x.in}, nil
		case kind == pktData && !bytes.HasPrefix(line, []byte("shallow ")) && !bytes.HasPrefix(line, []byte("unshallow ")):
			return nil, fmt.Errorf("%w: %q where ACK or NAK is due", errBadPkt, clip(string(line)))
		}
	}
}

// ask sends a request and turns x.in to the answer.
func (x *exchange) ask(ctx context.Context, request []byte) error {
	answer, err := x.conn.ask(ctx, request)
	if err != nil {
		if !x.conn.stateless() {
			return x.conn.said(err)
		}
		return err
	}
	if x.conn.stateless() {
		x.in = newPktReader(answer)
	}
	return nil
}

func appendLines(b []byte, word string, ids []string) []byte {
	for _, id := range ids {
		b = appendPkt(b, "%s %s\n", word, id)
	}
	return b
}

func isHexID(b []byte) bool {
	if len(b) != 40 {
		return false
	}
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
