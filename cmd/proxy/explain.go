package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/router"
)

func explainCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain", Short: "Show a decision and every step that led to it, without forwarding anything", Args: noArgs,
		Long: "Answers as the proxy would for a request of that user, or one with that API token. Exits 0 if it is allowed and\n" +
			"1 if it is denied.",
		Example: "tenantgate explain --user ada@example.com --host acme.app.example.com --method POST --path /settings/",
	}
	output := outputFlag(cmd)
	user := cmd.Flags().String("user", "", "who asks: e-mail address or id; absent: nobody is signed in")
	var q router.Question
	token := cmd.Flags().String("token", "", "the API token that it is sent with: its id, not the token itself; instead of --user")
	cmd.Flags().StringVar(&q.Host, "host", "", "the request's host; absent: public_url's")
	cmd.Flags().StringVar(&q.Method, "method", "GET", "the request's method")
	cmd.Flags().StringVar(&q.Path, "path", "/", "the request's path, escaped as on the wire")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !strings.HasPrefix(q.Path, "/") {
			return usagef("--path: want a path that begins with /")
		}
		if !httpguts.ValidHeaderFieldName(q.Method) { // both are tokens (RFC 9110, 9.1 and 5.1)
			return usagef("--method: want a method such as GET or POST")
		}
		if *token != "" && *user != "" {
			return usagef("--user and --token are both given: give one")
		}
		if auth.OwnToken("Bearer " + *token) {
			return usagef("--token: want the token's id, which `tenantgate token list` shows, not the token itself")
		}
		q.Token = catalog.APITokenID(*token)
		answer, err := p.explain(cmd.Context(), *user, q)
		if err != nil {
			return err
		}
		if err := writeExplanation(p.out, *output, answer); err != nil {
			return err
		}
		if !answer.Allowed {
			return errDenied
		}
		return nil
	}
	return cmd
}

func (p *program) explain(ctx context.Context, user string, q router.Question) (answer router.Explanation, err error) {
	cfg, err := load(ctx, p.source())
	if err != nil {
		return answer, err
	}
	quiet := *cfg
	quiet.Telemetry.Log.Level, quiet.Telemetry.Traces = "error", "off"
	g, err := p.open(ctx, &quiet, tenantgate.Options{LogWriter: p.err, Clock: p.clock, OnlyAsks: true})
	if err != nil {
		return answer, configFault(err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Waiting(); err != nil {
		return answer, err
	}
	if user != "" {
		if q.User, err = findUser(ctx, &g.Host().Tables, user); err != nil {
			return answer, err
		}
	}
	return g.Explain(ctx, q)
}

func writeExplanation(w io.Writer, f format, e router.Explanation) error {
	if f == formatJSON {
		if e.Steps == nil {
			e.Steps = []router.Step{}
		}
		return writeJSON(w, e)
	}
	verdict := "allowed"
	if !e.Allowed {
		verdict = fmt.Sprintf("denied: %d %s", e.Status, e.Code)
	}
	_, _ = fmt.Fprintf(w, "%s\n\n", verdict)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "STEP\tRESULT\tSOURCE")
	for _, s := range e.Steps {
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\n", cellText(s.Step), cellText(s.Result), cellText(s.Source))
	}
	return tw.Flush()
}
