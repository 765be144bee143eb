package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Stripe's signature (https://docs.stripe.com/webhooks#verify-manually): Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX…],
// HMAC-SHA256 of "SECONDS.BODY" under the endpoint's secret as it is written.
const (
	signatureHeader = "Stripe-Signature"
	maxHeader       = 4096
	maxSignatures   = 16 // Stripe sends one for each secret of a roll
	// Tolerance is how far the signature's moment may be from ours, either way.
	Tolerance = 300 * time.Second
)

// Why a signature is refused. None says which part was wrong beyond that.
var (
	errNoSignature  = errors.New("the Stripe-Signature header is missing, doubled or malformed")
	errOld          = errors.New("the signature's timestamp is more than 300 seconds away from this server's clock")
	errBadSignature = errors.New("no signature of this body under any secret of this endpoint")
)

// signature is a parsed header.
type signature struct {
	at     string
	hashes [][]byte
}

// parseSignature reads a header and compares its moment with now, before anything of the body is.
func parseSignature(values []string, now time.Time) (signature, error) {
	var s signature
	if len(values) != 1 || len(values[0]) > maxHeader {
		return s, errNoSignature
	}
	for part := range strings.SplitSeq(values[0], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			if s.at != "" {
				return s, errNoSignature
			}
			s.at = value
		case "v1":
			sum, err := hex.DecodeString(value)
			if err != nil || len(sum) != sha256.Size {
				continue // another may be good
			}
			if len(s.hashes) == maxSignatures {
				return s, errNoSignature
			}
			s.hashes = append(s.hashes, sum)
		}
	}
	at, err := strconv.ParseInt(s.at, 10, 64)
	if err != nil || at < 0 || strconv.FormatInt(at, 10) != s.at {
		return s, errNoSignature
	}
	if at > lastSecond {
		return s, errOld
	}
	if away := now.Sub(time.Unix(at, 0)); away > Tolerance || away < -Tolerance {
		return s, errOld
	}
	if len(s.hashes) == 0 {
		return s, errNoSignature
	}
	return s, nil
}

// verify reports whether one of the signatures is one of the secrets'. How long it takes depends on how many there are.
func (s signature) verify(secrets [][]byte, body []byte) bool {
	good := false
	for _, key := range secrets {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(s.at))
		mac.Write([]byte{'.'})
		mac.Write(body)
		sum := mac.Sum(nil)
		for _, h := range s.hashes {
			good = hmac.Equal(sum, h) || good
		}
	}
	return good
}

// parseSecrets reads secrets, one a line; empty lines and spaces around one are none.
func parseSecrets(text secret.Text) [][]byte {
	var keys [][]byte
	for line := range strings.Lines(text.Reveal()) {
		if line = strings.TrimSpace(line); line != "" {
			keys = append(keys, []byte(line))
		}
	}
	return keys
}
