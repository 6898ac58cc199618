package backends

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/waymark-cd/waymark/release"
)

// maxSerialPrefix bounds how much of a state is read, in bytes. Engines write
// serial and lineage first.
const maxSerialPrefix = 64 << 20

// readSerial reads the serial and lineage of a state, and no more of it than
// that needs. name is for errors. One that is empty has serial 0 and no lineage.
// Errors wrap release.ErrInvalid for what is no state.
func readSerial(from io.Reader, name string) (serial int64, lineage string, err error) {
	limited := &io.LimitedReader{R: from, N: maxSerialPrefix}
	found, err := scanSerial(json.NewDecoder(limited))
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return 0, "", nil
	case err != nil && limited.N == 0:
		return 0, "", fmt.Errorf("%w state %s: its first %d MiB hold no serial: is it a state?", release.ErrInvalid, name, maxSerialPrefix>>20)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, errNoObject):
		return 0, "", fmt.Errorf("%w state %s: %w", release.ErrInvalid, name, err)
	case err != nil:
		return 0, "", fmt.Errorf("reading the state %s: %w: %w", name, release.ErrUnavailable, err)
	case found.version == 0 && found.lineage == "": // an encrypted state has a lineage alone
		return 0, "", fmt.Errorf("%w state %s: it has neither version nor lineage: is it a state?", release.ErrInvalid, name)
	}
	return found.serial, found.lineage, nil
}

var errNoObject = errors.New("it is no JSON object")

type stateHead struct {
	version, serial int64
	lineage         string
}

// scanSerial reads until it has seen serial and lineage, or the end. An empty
// input is io.EOF.
func scanSerial(d *json.Decoder) (head stateHead, err error) {
	first, err := d.Token()
	if err != nil {
		return head, err
	}
	if first != json.Delim('{') {
		return head, errNoObject
	}
	seen := map[string]bool{}
	for !seen["serial"] || !seen["lineage"] {
		token, err := d.Token()
		if err != nil {
			return head, noEOF(err)
		}
		name, isName := token.(string)
		if !isName { // the closing brace
			return head, nil
		}
		into := map[string]any{"version": &head.version, "serial": &head.serial, "lineage": &head.lineage}[name]
		if into == nil {
			err = skipValue(d)
		} else {
			err = d.Decode(into)
			seen[name] = true
		}
		if err != nil {
			return head, noEOF(err)
		}
	}
	return head, nil
}

// skipValue reads past one value without keeping it.
func skipValue(d *json.Decoder) error {
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// noEOF tells an input that ends in the middle from an empty one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
