package config

import (
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/router"
)

func TestDurationsReadAndWriteThemselves(t *testing.T) {
	const h = time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "0d": 0, "60s": time.Minute, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "500ms": 500 * time.Millisecond,
		"7d": 168 * h, "1d12h": 36 * h, "1d0s": 24 * h, "106751d": 106751 * 24 * h,
	} {
		got, problem := parseDuration(text)
		if got != want || problem != "" {
			t.Errorf("parseDuration(%q) = %v, %q", text, got, problem)
		}
		if back, problem := parseDuration(formatDuration(want)); back != want || problem != "" {
			t.Errorf("%v is written %q and read %v, %q", want, formatDuration(want), back, problem)
		}
	}
	for _, text := range []string{
		"", "60", "-1s", "-1d", "1d-1h", "1d+1h", "+1h", "1.5d", "d", "1w", "1 h", "1h1d", "1dd", "106752d", "106751d24h", "9999999999d",
		"99999999999h", "1e3s", "١s",
	} {
		if got, problem := parseDuration(text); problem == "" {
			t.Errorf("parseDuration(%q) = %v", text, got)
		}
	}
}

func TestSizesReadAndWriteThemselves(t *testing.T) {
	for text, want := range map[string]router.Bytes{"0": 0, "0B": 0, "1B": 1, "32KiB": 32 << 10, "1025B": 1025, "1MiB": 1 << 20, "3GiB": 3 << 30} {
		got, problem := parseSize(text)
		if got != want || problem != "" {
			t.Errorf("parseSize(%q) = %v, %q", text, got, problem)
		}
		if back, _ := parseSize(formatSize(want)); back != want {
			t.Errorf("%d is written %q and read %d", want, formatSize(want), back)
		}
	}
	for _, text := range []string{"", "B", "1", "-1B", "1.5MiB", "1 KiB", "1KB", "1kib", "+1B", "0x1B", "9007199254740993KiB", "99999999999GiB"} {
		if got, problem := parseSize(text); problem == "" {
			t.Errorf("parseSize(%q) = %v", text, got)
		}
	}
}

func TestMisspeltWordsFindTheirNeighbour(t *testing.T) {
	words := []string{"listen", "public_url", "roles", "routes"}
	for in, want := range map[string]string{"listn": "listen", "publicurl": "public_url", "Roles": "roles", "rotues": "routes", "x": "", "zzzzzz": "", "": ""} {
		if got := nearest(in, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
