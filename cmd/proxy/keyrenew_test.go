package main

import (
	"strings"
	"testing"
	"time"
)

func TestAssertionKeyIsRenewedFromTheCommandLine(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		c.clock = func() time.Time { return now }
		c.fails(2, "secret_key", "key", "renew")
		c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
		first := c.object("key", "renew")
		if first["created"] != true || !strings.HasPrefix(first["signs_from"].(string), "2026-06-01T12:15:00") || len(first["id"].(string)) != 32 {
			t.Fatalf("%v", first)
		}
		if again := c.object("key", "renew"); again["created"] != false || again["id"] != first["id"] || again["signs_from"] != first["signs_from"] {
			t.Errorf("one is on its way already: %v", again)
		}
		at := c.object("key", "renew", "--now")
		if at["created"] != true || !strings.HasPrefix(at["signs_from"].(string), "2026-06-01T12:00:00") || at["id"] == first["id"] {
			t.Errorf("%v", at)
		}
		log := c.ok("audit", "list", "--output", "json")
		if strings.Count(log, "key.created") != 3 || strings.Count(log, "key.retired") != 2 || !strings.Contains(log, "cli:") {
			t.Errorf("%s", log)
		}
		for i, line := range c.environ {
			if strings.HasPrefix(line, "TENANTGATE_SECRET_KEY=") {
				c.environ[i] = "TENANTGATE_SECRET_KEY=" + strings.TrimSpace(c.ok("key", "generate"))
			}
		}
		c.fails(1, "sealed under a master secret", "key", "renew")
	})
}
