package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tenantgate/tenantgate/catalog"
)

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

func TestEveryCommandHelpsWithAnExampleOfItself(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	seen := 0
	walk((&program{clock: time.Now}).root(), func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		seen++
		path := cmd.CommandPath()
		if cmd.Short == "" {
			t.Errorf("%s says nothing of itself", path)
		}
		if !strings.Contains(cmd.Example, path) || !strings.HasPrefix(cmd.Example, "tenantgate ") && !strings.HasPrefix(cmd.Example, "umask") {
			t.Errorf("%s: example %q shows another command", path, cmd.Example)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if value, _ := pflag.UnquoteUsage(f); strings.Contains(value, " ") { // what stands in backquotes would be its value's name
				t.Errorf("%s --help shows --%s %s", path, f.Name, value)
			}
		})
		r := c.run(append(strings.Fields(path)[1:], "--help")...)
		if r.code != 0 || r.err != "" || !strings.Contains(r.out, "Examples:\n"+cmd.Example) {
			t.Errorf("%s --help: exit %d, stderr %q, stdout %q", path, r.code, r.err, r.out)
		}
	})
	if seen < 40 {
		t.Errorf("%d commands", seen)
	}
}

func TestWrongUsageExitsTwoWithOneLine(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	for _, line := range []string{
		"", "bogus", "tenant", "tenant bogus", "tenant show", "tenant show a b", "tenant list extra", "tenant list --bogus", "tenant list --limit 0",
		"tenant list --limit 1001", "tenant list --limit x", "tenant list --output yaml", "tenant create extra", "tenant update acme",
		"member create --user a", "member create --tenant a", "member show", "member show id --user a", "member show --user a", "member update --user a --role x",
		"subscription create --status active", "domain create", "domain create a.example.com", "domain create 192.0.2.1 --tenant a", "domain create a..b --tenant a",
		"tenant provision x", "tenant provision --id=", "tenant pause", "tenant pause a --for 0s", "tenant pause a --for -1m", "tenant pause a --for soon", "tenant delete a --retain x", "tenant delete a --backup=", "tenant restore",
		"tenant migrate", "tenant migrate a --all", "tenant migrate a --drain 1x", "tenant migrate a --parallel 0x",
		"plan create --name x", "plan create --id p --tier-level two",
		"plan create --id p --features {}", "plan create --id p --features null", "member create --user a --tenant b --is-active maybe",
		"member create --user a --tenant b --meta-attributes {", "subscription create --tenant a --current-period-end tomorrow",
		"session revoke", "session revoke a --user b", "session show", "user block", "completion", "completion csh", "key", "key generate x",
		"config", "config check a b", "migrate x", "version x", "explain --path nowhere", "explain --method G@T", "demo --listen 0.0.0.0:0", "demo --provider-port x", "init x",
	} {
		c.fails(2, "tenantgate: ", strings.Fields(line)...)
	}
	c.fails(2, "named twice", "config", "check", "config.yaml", "--config", "other.yaml")
}

// column-by-column: what the models have, the command line shows, and can be given.
func TestEveryColumnIsShownAndEveryWritableOneIsAFlag(t *testing.T) {
	root := (&program{clock: time.Now}).root()
	check[catalog.GlobalUser](t, root, "user", users().names(), users().shown())
	check[catalog.TenantCatalog](t, root, "tenant", tenants(nil).names(), tenants(nil).shown())
	check[catalog.Membership](t, root, "member", members().names(), members().shown())
	check[catalog.PricingPlan](t, root, "plan", plans().names(), plans().shown())
	check[catalog.Subscription](t, root, "subscription", subscriptions().names(), subscriptions().shown())
	check[catalog.Domain](t, root, "domain", domains().names(), domains().shown())
	check[catalog.APIToken](t, nil, "token", tokens().names(), nil)
	check[catalog.Session](t, nil, "session", sessionColumns(), nil)
}

// shown are the columns that cannot be given.
func (k *kind[ID, T]) shown() []string {
	var out []string
	for i := range k.columns {
		if k.columns[i].silent {
			out = append(out, k.columns[i].name)
		}
	}
	return out
}

func check[T any](t *testing.T, root *cobra.Command, name string, columns, shownOnly []string) {
	t.Helper()
	var want []string
	for f := range reflect.TypeFor[T]().Fields() {
		if tag := f.Tag.Get("json"); tag != "-" {
			want = append(want, tag)
		}
	}
	if !slices.Equal(columns, want) {
		t.Errorf("%s shows %v, the model has %v", name, columns, want)
	}
	if root == nil {
		return
	}
	for _, verb := range []string{"create", "update"} {
		cmd, _, err := root.Find([]string{name, verb})
		if err != nil {
			t.Fatal(err)
		}
		for _, column := range want {
			flag := strings.ReplaceAll(column, "_", "-")
			switch column {
			case "user_id", "tenant_id":
				flag = strings.TrimSuffix(flag, "-id")
			case "id":
				if verb == "update" {
					continue // names the row
				}
			}
			if (cmd.Flags().Lookup(flag) == nil) != slices.Contains(shownOnly, column) {
				t.Errorf("%s %s: column %s and flag --%s do not fit", name, verb, column, flag)
			}
		}
	}
}

func TestValuesCannotSteerATerminal(t *testing.T) {
	if got := printable("a\x1b[2Jb\nc\u202ed\u00a0é"); got != `a\x1b[2Jb\nc\u202ed\u00a0é` {
		t.Errorf("%s", got)
	}
	lines := faultLines(usagef("first\nsecond \x1b[31m"))
	if len(lines) != 1 || strings.ContainsAny(lines[0], "\n\x1b") {
		t.Errorf("%q", lines)
	}
}

// An error repeats an argument so that it can be put right; one may be a secret that came into the wrong place.
func TestNoErrorRepeatsASecretArgument(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	const uri, key = "postgresql://u:c4nary@h/db", "sk_live_c4naryc4naryc4nary"
	for _, args := range [][]string{
		{"tenant", "show", uri},
		{"tenant", "create", "--id", "a", "--name", "n", "--db-url-file", uri},
		{"tenant", "list", "--limit", uri},
		{"user", "show", key},
		{"member", "create", "--user", uri, "--tenant", uri, "--role", "member"},
		{"domain", "create", uri, "--tenant", "a"},
		{"tenant", "import", "--file", uri},
		{"job", "retry", "tg_c4naryc4naryc4nary"},
	} {
		r := c.run(args...)
		if r.code == exitDone || strings.Contains(r.out+r.err, "c4nary") || !strings.Contains(r.err, "***") {
			t.Errorf("%s: %d: %s%s", args, r.code, r.out, r.err)
		}
	}
}

// Any program may put a megabyte into a row of sys_jobs.
func TestAListCutsWhatNobodyCouldRead(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	var table, all bytes.Buffer
	rows := []record{{{"id", "a"}, {"payload", long}}, {{"id", "b"}, {"payload", strings.Repeat("é", listCell)}}}
	for f, w := range map[format]*bytes.Buffer{formatTable: &table, formatJSON: &all} {
		if err := writeList(w, f, []string{"id", "payload"}, rows, ""); err != nil {
			t.Fatal(err)
		}
	}
	if lines := strings.Split(table.String(), "\n"); len(lines) != 4 || utf8.RuneCountInString(lines[1]) > listCell+4 || !strings.HasSuffix(lines[1], "é…") || !strings.HasSuffix(lines[2], "é") {
		t.Errorf("%d lines, the first row has %d bytes", len(lines), len(lines[1]))
	}
	if !strings.Contains(all.String(), long) {
		t.Error("json is cut")
	}
}

// ofNone wraps no error, though it could several, as an engine's error does whose SQLSTATE has no meaning here.
type ofNone struct{ error }

func (ofNone) Unwrap() []error { return nil }

func TestFaultsThatCameTogetherStandOnLinesOfTheirOwn(t *testing.T) {
	cause := errors.New("second\nline")
	for _, one := range []struct {
		err  error
		want []string
	}{
		{errors.Join(errors.New("first"), cause), []string{"tenantgate: first", `tenantgate: second\nline`}},
		{fmt.Errorf("tenant acme: %w", errors.Join(errors.New("first"), cause)), []string{"tenantgate: tenant acme: first", `tenantgate: tenant acme: second\nline`}},
		{fmt.Errorf("tenant acme: %w", errors.Join(fmt.Errorf("in: %w", errors.Join(errors.New("a"), errors.New("b"))))), []string{"tenantgate: tenant acme: in: a", "tenantgate: tenant acme: in: b"}},
		{fmt.Errorf("%w: %w", catalog.ErrNotFound, cause), []string{"tenantgate: " + catalog.ErrNotFound.Error() + `: second\nline`}},
		{fmt.Errorf("tenant a\nb: %w", catalog.ErrNotFound), []string{`tenantgate: tenant a\nb: ` + catalog.ErrNotFound.Error()}},
		{errors.Join(cause), []string{`tenantgate: second\nline`}},
		{fmt.Errorf("tenant acme: %w", ofNone{cause}), []string{`tenantgate: tenant acme: second\nline`}},
	} {
		if got := faultLines(one.err); !slices.Equal(got, one.want) {
			t.Errorf("%q became %q", one.err.Error(), got)
		}
	}
}

func FuzzPrintableStaysOnItsLine(f *testing.F) {
	for _, seed := range []string{"", "a\nb", "\x1b[31m", "é", "\xff\xfe", "\u2028", "\u202e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := printable(s); strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestActorNamesUserAndHost(t *testing.T) {
	user, host, ok := strings.Cut(strings.TrimPrefix(actor(), "cli:"), "@")
	if !strings.HasPrefix(actor(), "cli:") || !ok || user == "" || host == "" {
		t.Errorf("actor %q", actor())
	}
}

func TestBooleansMayStandAloneOrTakeAValue(t *testing.T) {
	for line, want := range map[string]string{
		"tenant update a --is-active false":      "tenant update a --is-active=false",
		"tenant update a --is-active":            "tenant update a --is-active",
		"tenant update --is-active a":            "tenant update --is-active a",
		"tenant update a --name false":           "tenant update a --name false",
		"user update a --is-sys-admin true --x":  "user update a --is-sys-admin=true --x",
		"tenant update a -- --is-active true":    "tenant update a -- --is-active true",
		"x --cancel-at-period-end=false --y":     "x --cancel-at-period-end=false --y",
		"x --cancel-at-period-end false --limit": "x --cancel-at-period-end=false --limit",
	} {
		if got := strings.Join(joinBools(strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}
