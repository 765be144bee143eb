package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/router"
)

const day = 24 * time.Hour

// ParseDuration reads a duration as the configuration does: what time.ParseDuration reads, preceded by whole days where
// wanted (60s, 1h30m, 7d, 1d12h), and 0. None is negative.
func ParseDuration(s string) (time.Duration, error) {
	d, fault := parseDuration(s)
	if fault != "" {
		return 0, errors.New(fault)
	}
	return d, nil
}

// parseDuration reads what time.ParseDuration reads, preceded by whole days where wanted: 60s, 1h30m, 7d, 1d12h. The
// second result says what is wrong, or is empty.
func parseDuration(s string) (time.Duration, string) {
	const form = "must be a duration such as 500ms, 60s, 1h30m or 7d"
	if s == "0" {
		return 0, ""
	}
	if strings.HasPrefix(s, "-") || strings.Contains(s, "d-") {
		return 0, "must not be negative"
	}
	if s != "" && strings.Trim(s, "0123456789") == "" {
		return 0, "needs a unit: s, m, h or d"
	}
	var days time.Duration
	rest := s
	if n, after, ok := strings.Cut(s, "d"); ok {
		whole, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			return 0, form
		}
		if whole > uint64(math.MaxInt64/day) {
			return 0, "is too long"
		}
		days, rest = time.Duration(whole)*day, after
		if rest == "" {
			return days, ""
		}
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil || strings.ContainsAny(rest, "+-"):
		return 0, form
	case d > math.MaxInt64-days:
		return 0, "is too long"
	}
	return days + d, ""
}

// formatDuration writes what parseDuration reads, without zero parts: 1h, 1m30s, 72h, 0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits are powers of 1024, largest first.
var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseSize reads a whole number with B, KiB, MiB or GiB; 0 needs no unit.
func parseSize(s string) (router.Bytes, string) {
	const form = "must be a size: a whole number with B, KiB, MiB or GiB, such as 32KiB"
	if s == "0" {
		return 0, ""
	}
	if strings.HasPrefix(s, "-") {
		return 0, "must not be negative"
	}
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil {
			return 0, form
		}
		if n > uint64(math.MaxInt64/u.bytes) {
			return 0, "is too large"
		}
		return router.Bytes(int64(n) * u.bytes), ""
	}
	return 0, form
}

// formatSize writes what parseSize reads, with the largest unit that keeps it whole.
func formatSize(n router.Bytes) string {
	if n == 0 {
		return "0"
	}
	for _, u := range sizeUnits {
		if int64(n)%u.bytes == 0 {
			return strconv.FormatInt(int64(n)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(n), 10) + "B"
}

// parseInteger reads a decimal whole number that is not negative.
func parseInteger(s string) (int64, string) {
	if strings.HasPrefix(s, "-") {
		return 0, "must not be negative"
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, "must be a whole number"
	}
	return int64(n), ""
}

// parseBool reads true or false and nothing else.
func parseBool(s string) (value bool, problem string) {
	switch s {
	case "true":
		return true, ""
	case "false":
		return false, ""
	}
	return false, "must be true or false"
}
