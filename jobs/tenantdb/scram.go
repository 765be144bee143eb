package tenantdb

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/tenantgate/tenantgate/internal/secret"
)

const (
	scramIterations = 4096 // PostgreSQL's own; the password is random, no word to guess
	scramSalt       = 16
)

// verifier is what a server keeps of a password (RFC 5802 section 3, as PostgreSQL writes it). The password is ASCII, so
// that SASLprep leaves it as it is.
func verifier(password secret.Text) (string, error) {
	var salt [scramSalt]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	return verifierWith(password, salt[:])
}

func verifierWith(password secret.Text, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password.Reveal(), salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive a password's verifier: %w", err)
	}
	mac := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
