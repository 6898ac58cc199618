package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/waymark-cd/waymark/release"
)

// maxTagBytes bounds a tag object: a message and a signature.
const maxTagBytes = 1 << 20

// TagInfo is what a tag says. All text is as the tagger wrote it: hostile.
type TagInfo struct {
	Annotated bool
	Tagger    string // "Name <mail>"; empty for a lightweight tag
	TaggedAt  time.Time
	Message   string // without the signature
	Signature string // armoured OpenPGP, SSH or X.509; empty where unsigned
	Commit    string // the commit that the tag names
	Author    string // of that commit, "Name <mail>"
	Committer string // likewise
}

// Tag reads a tag that was fetched. It fails with release.ErrNotFound where it
// was not, and with release.ErrRefused for what Waymark takes no tag for: a tag
// of a tag, of a tree or of a file, a tag object made for another name (a
// signature covers the name inside, so it must be the name outside), and a
// malformed or overlong one.
func (r *Repository) Tag(ctx context.Context, ref Ref) (TagInfo, error) {
	id, err := parseID(ref.ObjectID)
	if err != nil {
		return TagInfo{}, err
	}
	info, err := r.readTag(ctx, ref, id)
	if err != nil {
		return TagInfo{}, fmt.Errorf("repository %q: tag %q: %w", r.cfg.Name, clip(ref.Name), err)
	}
	return info, nil
}

func (r *Repository) readTag(ctx context.Context, ref Ref, id plumbing.Hash) (TagInfo, error) {
	if err := r.reading.take(ctx); err != nil {
		return TagInfo{}, err
	}
	defer r.reading.give()
	obj, err := r.store.EncodedObject(plumbing.AnyObject, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return TagInfo{}, fmt.Errorf("%w in the local copy: fetch it first", release.ErrNotFound)
	}
	if err != nil {
		return TagInfo{}, r.markDamaged(err)
	}
	switch obj.Type() {
	case plumbing.CommitObject:
		author, committer, err := commitPeople(obj)
		if err != nil {
			return TagInfo{}, r.markDamaged(err)
		}
		return TagInfo{Commit: ref.ObjectID, Author: author, Committer: committer}, nil
	case plumbing.TagObject:
	default:
		return TagInfo{}, fmt.Errorf("%w: it names a %s, not a commit; tag a commit", release.ErrRefused, kindName(obj.Type()))
	}
	raw, err := readBounded(obj, maxTagBytes)
	if err != nil {
		return TagInfo{}, err
	}
	return r.parseTag(ref, raw)
}

func (r *Repository) parseTag(ref Ref, raw []byte) (TagInfo, error) {
	head, body, _ := bytes.Cut(raw, []byte("\n\n"))
	fields := map[string]string{}
	for line := range bytes.SplitSeq(head, []byte{'\n'}) {
		key, value, _ := bytes.Cut(line, []byte{' '})
		if _, twice := fields[string(key)]; !twice {
			fields[string(key)] = string(value)
		}
	}
	target, kind, name := fields["object"], fields["type"], fields["tag"]
	switch {
	case !isHexID([]byte(target)) || name == "":
		return TagInfo{}, fmt.Errorf("%w: the tag object is malformed; delete the tag and make it anew", release.ErrRefused)
	case kind == "tag":
		return TagInfo{}, fmt.Errorf("%w: it is a tag of another tag; tag the commit itself: git tag -a NAME REV^{commit}", release.ErrRefused)
	case kind != "commit":
		return TagInfo{}, fmt.Errorf("%w: it names a %s, not a commit; tag a commit", release.ErrRefused, clip(kind))
	case name != ref.Name:
		return TagInfo{}, fmt.Errorf("%w: the tag object was made for the name %q; make a tag of this name with git tag -a", release.ErrRefused, clip(name))
	}
	commit, err := r.store.EncodedObject(plumbing.AnyObject, plumbing.NewHash(target))
	if err != nil { // a fetch brings the commit with the tag
		return TagInfo{}, r.markDamaged(fmt.Errorf("commit %s: %w", target, err))
	}
	if commit.Type() != plumbing.CommitObject {
		return TagInfo{}, fmt.Errorf("%w: it names %s, which is no commit", release.ErrRefused, target)
	}
	var who object.Signature
	who.Decode([]byte(fields["tagger"]))
	author, committer, err := commitPeople(commit)
	if err != nil {
		return TagInfo{}, r.markDamaged(fmt.Errorf("commit %s: %w", target, err))
	}
	info := TagInfo{Annotated: true, Commit: target, TaggedAt: who.When.UTC(), Author: author, Committer: committer}
	if fields["tagger"] != "" {
		info.Tagger = who.Name + " <" + who.Email + ">"
	}
	info.Message, info.Signature = splitSignature(body)
	return info, nil
}

// maxCommitHead bounds how far into a commit its people are looked for.
const maxCommitHead = 1 << 20

// commitPeople reads who wrote and who committed a commit, "Name <mail>" each.
// Where a name is there twice the first one counts, as for git.
func commitPeople(obj plumbing.EncodedObject) (author, committer string, err error) {
	in, err := obj.Reader()
	if err != nil {
		return "", "", err
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, maxCommitHead))
	if err != nil {
		return "", "", err
	}
	head, _, _ := bytes.Cut(raw, []byte("\n\n"))
	people := map[string]string{}
	for line := range bytes.SplitSeq(head, []byte{'\n'}) {
		key, value, _ := bytes.Cut(line, []byte{' '})
		if _, twice := people[string(key)]; !twice {
			var who object.Signature
			who.Decode(value)
			people[string(key)] = who.Name + " <" + who.Email + ">"
		}
	}
	return people["author"], people["committer"], nil
}

// splitSignature cuts a tag's body where git does: at the last line that opens
// an armoured signature.
func splitSignature(body []byte) (message, signature string) {
	at := len(body)
	for start := 0; start < len(body); {
		for _, opening := range []string{"-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----",
			"-----BEGIN SSH SIGNATURE-----", "-----BEGIN SIGNED MESSAGE-----"} {
			if bytes.HasPrefix(body[start:], []byte(opening)) {
				at = start
			}
		}
		nl := bytes.IndexByte(body[start:], '\n')
		if nl < 0 {
			break
		}
		start += nl + 1
	}
	return string(body[:at]), string(body[at:])
}

func kindName(t plumbing.ObjectType) string {
	if t == plumbing.BlobObject {
		return "file"
	}
	return t.String()
}

// readBounded reads an object; a larger one is ErrTooLarge.
func readBounded(obj plumbing.EncodedObject, most int64) ([]byte, error) {
	if obj.Size() > most {
		return nil, fmt.Errorf("%w: %d bytes; the limit is %d", ErrTooLarge, obj.Size(), most)
	}
	in, err := obj.Reader()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) != obj.Size() {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}
