package gitrepo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// pktKind tells the four packets of git's wire format apart
// (gitprotocol-common and gitprotocol-v2).
type pktKind int

const (
	pktData pktKind = iota
	pktFlush
	pktDelim
	pktEnd
)

const maxPkt = 65520 // length header included

var errBadPkt = errors.New("malformed packet")

// pktReader reads packets without copying them.
type pktReader struct {
	r    *bufio.Reader
	used int // bytes of the last packet, dropped at the next call
}

func newPktReader(r io.Reader) *pktReader {
	return &pktReader{r: bufio.NewReaderSize(r, maxPkt+16)}
}

// next returns the next packet; its payload is valid until the following call.
// An ERR packet is returned as an error. io.EOF is returned only between
// packets.
func (p *pktReader) next() (pktKind, []byte, error) {
	_, _ = p.r.Discard(p.used)
	p.used = 0
	head, err := p.r.Peek(4)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	n, ok := hex4(head)
	switch {
	case !ok || n == 3 || n > maxPkt:
		return 0, nil, fmt.Errorf("%w: length %q", errBadPkt, head)
	case n < 3:
		p.used = 4
		return pktKind(n + 1), nil, nil
	}
	line, err := p.r.Peek(n)
	if err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	p.used = n
	line = line[4:]
	if len(line) > 4 && string(line[:4]) == "ERR " {
		return 0, nil, remoteSaid(string(line[4:]), nil)
	}
	return pktData, line, nil
}

// line is next for text: the trailing newline is cut, and flush is told by ok.
func (p *pktReader) line() (text []byte, ok bool, err error) {
	kind, b, err := p.next()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil || kind != pktData {
		return nil, false, err
	}
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	return b, true, nil
}

func hex4(b []byte) (int, bool) {
	n := 0
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// appendPkt adds one data packet. Payloads are ours and short.
func appendPkt(b []byte, format string, args ...any) []byte {
	text := fmt.Sprintf(format, args...)
	return append(fmt.Appendf(b, "%04x", len(text)+4), text...)
}

const (
	flushPkt = "0000"
	delimPkt = "0001"
)

// band reads the pack out of a side-band-64k stream up to its flush. Progress
// is dropped; an error of the remote is returned.
type band struct {
	in   *pktReader
	rest []byte
	end  bool
}

func (b *band) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.end {
			return 0, io.EOF
		}
		kind, data, err := b.in.next()
		switch {
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case kind != pktData:
			b.end = true
		case len(data) == 0:
			return 0, errBadPkt
		case data[0] == 1:
			b.rest = data[1:]
		case data[0] == 3:
			return 0, remoteSaid(string(data[1:]), nil)
		case data[0] != 2:
			return 0, fmt.Errorf("%w: side band %d", errBadPkt, data[0])
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
