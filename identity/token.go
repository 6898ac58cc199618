package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
)

// An API token is "wm_", 256 random bits as 43 digits and letters, and six more
// that are the CRC-32 of what is before them. So one that leaks is recognised by
// the pattern wm_[0-9A-Za-z]{49}, and one that was cut or mistyped without a look
// into the record.
const (
	TokenPrefix = "wm_"

	secretBytes  = 32
	secretDigits = 43 // the least n with 62^n >= 2^256
	sumDigits    = 6  // the least n with 62^n >= 2^32
	tokenLength  = len(TokenPrefix) + secretDigits + sumDigits
)

// ErrMalformed says that a text is no API token, whatever the record holds.
var ErrMalformed = errors.New("is no token: it was cut or mistyped")

// NewToken makes an API token and the hash by which it is kept. The text itself
// is shown once and kept nowhere.
func NewToken() (text, hash string) {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	text = TokenPrefix + base62(new(big.Int).SetBytes(secret), secretDigits)
	text += checksum(text)
	return text, hashOf(text)
}

// LooksLikeToken reports whether a text means to be an API token.
func LooksLikeToken(text string) bool { return strings.HasPrefix(text, TokenPrefix) }

// TokenHash gives the hash by which an API token is kept: its SHA-256 in
// hexadecimal. A text that cannot be a token is ErrMalformed.
func TokenHash(text string) (string, error) {
	if len(text) != tokenLength || !LooksLikeToken(text) {
		return "", ErrMalformed
	}
	for _, c := range []byte(text[len(TokenPrefix):]) {
		if strings.IndexByte(digits, c) < 0 {
			return "", ErrMalformed
		}
	}
	if cut := tokenLength - sumDigits; checksum(text[:cut]) != text[cut:] {
		return "", ErrMalformed
	}
	return hashOf(text), nil
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func checksum(s string) string {
	return base62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(s)))), sumDigits)
}

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// base62 writes n in exactly width digits; n must fit.
func base62(n *big.Int, width int) string {
	out := make([]byte, width)
	rest, base, digit := new(big.Int).Set(n), big.NewInt(int64(len(digits))), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		rest.DivMod(rest, base, digit)
		out[i] = digits[digit.Int64()]
	}
	return string(out)
}
