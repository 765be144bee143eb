package catalog

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/tenantgate/tenantgate/internal/pytime"
)

// GenID returns a new identifier: 128 random bits as 32 lower-case hex characters, as fh-saas's gen_id().
func GenID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Timestamp renders t as fh-saas's timestamp() does: UTC, ISO 8601 without zone, microseconds, the fraction absent
// when it is zero. Finer digits are cut.
func Timestamp(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05")
	}
	return t.Format("2006-01-02T15:04:05.000000")
}

// ParseTimestamp reads every form that Python 3.11's datetime.fromisoformat reads. A zone suffix counts; without one
// the time is UTC. The error does not repeat the text.
func ParseTimestamp(s string) (time.Time, error) { return pytime.Parse(s) }
