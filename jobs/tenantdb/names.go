package tenantdb

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// namePrefix begins every name of ours: no system role, no template and no key word does. API tokens begin with tg_ and
// tga_, and what follows those is hidden in every log: names must not look like them. earlierPrefix begins names on record
// from before that was so.
const (
	namePrefix    = "tgdb_"
	earlierPrefix = "tg_"
)

// named reports whether a name is one that we give or gave.
func named(name string) bool {
	return strings.HasPrefix(name, namePrefix) || strings.HasPrefix(name, earlierPrefix)
}

const (
	readableBytes = 24
	hashBytes     = 15 // 120 bits, 24 letters
	passwordBytes = 32
)

// nameOf makes an identifier of any id: tgdb_, what can be read of it, and a hash over all of it, the installation and the
// mark. It is made of a-z, 0-9 and _, at most 54 bytes, so that no engine quotes, folds or cuts it (PostgreSQL: 63); two
// ids that read alike have two names, and so have two installations on one server.
func nameOf(installation string, tenant catalog.TenantID, mark string) string {
	var b strings.Builder
	b.WriteString(namePrefix)
	for _, r := range strings.ToLower(string(tenant)) {
		if b.Len() == len(namePrefix)+readableBytes {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if !strings.HasSuffix(b.String(), "_") {
			b.WriteByte('_')
		}
	}
	sum := sha256.Sum256([]byte(installation + "\x00" + mark + "\x00" + string(tenant)))
	name := strings.TrimSuffix(b.String(), "_") + "_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:hashBytes]))
	return strings.NewReplacer("_tg_", "_tg", "_tga_", "_tga").Replace(name) // an id may hold what tokens begin with
}

// commentOf is what our objects say of themselves.
func commentOf(installation, mark string) string { return commentPrefix(installation) + mark }

func commentPrefix(installation string) string { return anyComment + installation + ":" }

// anyComment begins the comments of every installation's objects.
const anyComment = "tenantgate:"

// lockKey is an advisory lock's: what two texts share only by a hash's chance, which would only make one wait.
func lockKey(what string) int64 {
	sum := sha256.Sum256([]byte("tenantgate/" + what))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// NewPassword makes a password for a tenant's role: 256 random bits, of characters that no URI escapes.
func NewPassword() secret.Text {
	var b [passwordBytes]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return secret.New(base64.RawURLEncoding.EncodeToString(b[:]))
}
