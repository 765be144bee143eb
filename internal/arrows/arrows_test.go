package arrows

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const module = "github.com/tenantgate/tenantgate"

// floors are the rooms from the top down. A room may import those below it, never one beside or above.
func floors() []string {
	return []string{
		"cmd/proxy", "", "config", "admin", "router", "auth",
		"billing/checkout", "billing/reconcile", "billing/webhook", "billing/stripeapi", "billing/ledger", "billing",
		"jobs/lifecycle", "jobs/provision", "jobs/tenantdb", "jobs", "audit", "sealing", "catalog",
	}
}

// grounds are rooms that any floor may import and that import nothing of ours but what is named here.
func grounds() map[string][]string {
	return map[string][]string{
		"cache":            nil,
		"assertion":        nil,
		"telemetry":        {"internal/secret"},
		"internal/secret":  nil,
		"internal/seal":    {"internal/secret"},
		"internal/pytime":  nil,
		"internal/dbfault": nil,
		"internal/page":    {"internal/secret"},
	}
}

// side are rooms that only the program (demo) or tests may import.
func side() map[string][]string {
	return map[string][]string{
		"internal/devidp":  {"internal/secret", "internal/page"},
		"internal/demoapp": {"assertion", "catalog", "internal/secret", "internal/page"},
		"internal/demo": {
			"", "admin", "auth", "catalog", "config", "internal/demoapp", "internal/devidp", "internal/secret", "internal/stripefake",
			"router", "telemetry",
		},
		"internal/pgtest":      nil,
		"internal/faultwire":   nil,
		"internal/fhsaas":      nil,
		"internal/browsertest": nil,
		"internal/stripefake":  {"internal/secret", "internal/page"},
		"internal/smalldisk":   nil,
		"internal/arrows":      nil,
		"internal/deps":        nil,
	}
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func root() string { return filepath.Join("..", "..") }

// room cuts the module's path off; ok is false for packages of others.
func room(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// floorOf returns the floor on which a room stands: extauthz stands on router's.
func floorOf(r string) int {
	for i, f := range floors() {
		if r == f || f != "" && strings.HasPrefix(r, f+"/") {
			return i
		}
	}
	return -1
}

// program: benchmarks, examples and what tests of the whole share stand above everything, and nothing may import them.
func program(r string) bool {
	return slices.Contains([]string{"internal/gatetest", "internal/acceptance", "internal/attack", "bench"}, r) ||
		strings.HasPrefix(r, "bench/") || strings.HasPrefix(r, "examples/")
}

func known(r string) bool {
	_, ground := grounds()[r]
	_, aside := side()[r]
	return ground || aside || program(r) || floorOf(r) >= 0
}

func name(r string) string {
	if r == "" {
		return "tenantgate (root)"
	}
	return r
}

func allowed(from, to string) error {
	fromFloor, toFloor := floorOf(from), floorOf(to)
	ground, isGround := grounds()[from]
	aside, isSide := side()[from]
	_, toGround := grounds()[to]
	switch {
	case isGround || isSide:
		if !slices.Contains(ground, to) && !slices.Contains(aside, to) {
			return fmt.Errorf("%s may import of ours only %v", name(from), append(ground, aside...))
		}
	case program(from), toGround:
	case fromFloor < 0:
		return fmt.Errorf("%s has no place among the rooms", name(from))
	case toFloor < 0:
		if _, ok := side()[to]; !ok || fromFloor != 0 {
			return fmt.Errorf("%s is for the demo and for tests", name(to))
		}
	case toFloor == fromFloor && strings.HasPrefix(to+"/", from+"/"), toFloor > fromFloor:
	case toFloor == fromFloor && strings.HasPrefix(from+"/", to+"/"):
	default:
		return fmt.Errorf("%s stands above %s", name(to), name(from))
	}
	return nil
}

func TestImportsRunDownwardsOnly(t *testing.T) {
	seen := 0
	for _, p := range list(t) {
		from, ours := room(p.ImportPath)
		if !ours {
			continue
		}
		seen++
		for _, path := range p.Imports {
			if to, ours := room(path); ours {
				if err := allowed(from, to); err != nil {
					t.Errorf("%s imports %s: %v", name(from), name(to), err)
				}
			}
		}
		if !known(from) {
			t.Errorf("%s is a room that has no place yet: give it one in this test", name(from))
		}
	}
	if seen < 5 {
		t.Fatalf("go list showed %d packages of ours: nothing was checked", seen)
	}
}

// The rules above would be worth nothing if they let everything through.
func TestArrowsUpAndSidewaysAreRefused(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd/proxy", "", true},
		{"", "router", true},
		{"router", "auth", true},
		{"router/extauthz", "router", true},
		{"auth", "catalog", true},
		{"auth", "cache", true},
		{"cmd/proxy", "internal/devidp", true},
		{"telemetry", "internal/secret", true},
		{"catalog", "internal/pytime", true},
		{"bench", "", true},
		{"catalog", "cache", true},
		{"catalog", "router", false},
		{"auth", "router", false},
		{"billing", "auth", false},
		{"cache", "catalog", false},
		{"assertion", "internal/secret", false},
		{"telemetry", "catalog", false},
		{"", "cmd/proxy", false},
		{"", "internal/devidp", false},
		{"router", "internal/pgtest", false},
		{"billing/webhook", "billing/ledger", true},
		{"billing/ledger", "billing", true},
		{"billing/ledger", "billing/webhook", false},
		{"billing/ledger", "jobs", true},
		{"jobs/provision", "jobs", true},
		{"jobs", "jobs/provision", false},
		{"router", "bench", false},
		{"cmd/proxy", "internal/gatetest", false},
		{"surprise", "catalog", false},
		{"internal/devidp", "auth", false},
	} {
		if err := allowed(tc.from, tc.to); (err == nil) != tc.ok {
			t.Errorf("%s imports %s: %v, want allowed %v", name(tc.from), name(tc.to), err, tc.ok)
		}
	}
}

// foreign says in which rooms a library of others may stand; elsewhere it is for tests.
func foreign() map[string][]string {
	return map[string][]string{
		"github.com/zitadel/oidc":             {"internal/devidp"},
		"github.com/envoyproxy":               {"router/extauthz"},
		"github.com/chromedp":                 {"internal/browsertest"},
		"pgregory.net/rapid":                  nil,
		"go.uber.org/goleak":                  {"internal/pgtest"},
		"github.com/jackc/pgx":                {"catalog", "internal/dbfault", "internal/demoapp", "internal/pgtest", "jobs/tenantdb", "jobs/tenantdb/backup"},
		"github.com/jackc/pgx/v5/pgconn":      {"catalog", "internal/dbfault"}, // its errors hold secrets: dbfault alone takes them apart
		"modernc.org/sqlite":                  {"catalog", "internal/dbfault", "internal/demoapp", "jobs/tenantdb", "jobs/tenantdb/backup"},
		"github.com/pressly/goose":            {"catalog", "jobs/tenantdb"},
		"database/sql":                        {"catalog", "internal/dbfault", "internal/demoapp", "internal/fhsaas", "jobs/tenantdb", "jobs/tenantdb/backup"},
		"github.com/stripe/stripe-go":         {"billing/stripeapi"},
		"github.com/spf13":                    {"cmd/proxy"},
		"github.com/goccy/go-yaml":            {"config"},
		"github.com/prometheus/client_golang": {"telemetry"},
		"testing":                             {"internal/pgtest", "internal/browsertest", "internal/faultwire", "internal/smalldisk"},
	}
}

func TestLibrariesStayInTheirRooms(t *testing.T) {
	for _, p := range list(t) {
		from, ours := room(p.ImportPath)
		if !ours || from == "internal/deps" || program(from) {
			continue
		}
		for _, path := range p.Imports {
			for library, rooms := range foreign() {
				if strings.HasPrefix(path+"/", library+"/") && !slices.Contains(rooms, from) {
					t.Errorf("%s imports %s, which belongs in %v", name(from), path, rooms)
				}
			}
		}
	}
}

// Entitlement and decision are pure: they can neither wait nor be deceived by what they would read.
func TestPureRoomsDoNoInputAndOutput(t *testing.T) {
	impure := []string{"net", "net/http", "os", "database/sql", "log", "log/slog", "context", "io"}
	for file, allowed := range map[string][]string{
		"router/decide.go":       {"time", module + "/billing", module + "/catalog"},
		"billing/entitlement.go": nil,
		"billing/plan.go":        nil,
	} {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(), file), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(impure, path) || allowed != nil && !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}
