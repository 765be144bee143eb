package catalog

import (
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Between Go fields and columns stand two functions: into says where to scan a column, value what to write. Both go by
// the field's type. Reading never fails on what a value looks like: SQLite stores anything in any column, and one odd
// row of another program must not take a whole tenant down. What cannot be read counts as NULL, which never grants.

// into returns the scan destination for a field, given by pointer.
func into(field any) any {
	switch f := field.(type) {
	case **string, *DBURI:
		return f
	case *Locks:
		return locksInto{f}
	case **bool:
		return flagInto{f}
	case *bool:
		return plainFlagInto{f}
	case **int64:
		return numberInto{f}
	case *string:
		return textInto[string]{f}
	case *UserID:
		return textInto[UserID]{f}
	case *TenantID:
		return textInto[TenantID]{f}
	case *MembershipID:
		return textInto[MembershipID]{f}
	case *SubscriptionID:
		return textInto[SubscriptionID]{f}
	case *PlanID:
		return textInto[PlanID]{f}
	case *AuditID:
		return textInto[AuditID]{f}
	case *JobID:
		return textInto[JobID]{f}
	case *WebhookEventID:
		return textInto[WebhookEventID]{f}
	case *StripeID:
		return textInto[StripeID]{f}
	case *SessionID:
		return textInto[SessionID]{f}
	case *DomainName:
		return textInto[DomainName]{f}
	case *APITokenID:
		return textInto[APITokenID]{f}
	}
	return field
}

func intoAll(dst []any, fields []any) []any {
	for _, f := range fields {
		dst = append(dst, into(f))
	}
	return dst
}

// textInto reads a text column into a field that has no NULL: NULL is "".
type textInto[S ~string] struct{ to *S }

func (t textInto[S]) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*t.to = ""
	case string:
		*t.to = S(v)
	case []byte:
		*t.to = S(v)
	default:
		*t.to = S(fmt.Sprint(v))
	}
	return nil
}

// flagInto reads a boolean: SQLite's 0, 1 and NULL too. Anything else is NULL, which is not true.
type flagInto struct{ to **bool }

func (f flagInto) Scan(v any) error {
	*f.to = nil
	switch v := v.(type) {
	case bool:
		*f.to = &v
	case int64:
		if v == 0 || v == 1 {
			*f.to = new(v == 1)
		}
	}
	return nil
}

type plainFlagInto struct{ to *bool }

func (f plainFlagInto) Scan(v any) error {
	var b *bool
	if err := (flagInto{&b}).Scan(v); err != nil {
		return err
	}
	*f.to = b != nil && *b
	return nil
}

// numberInto reads an integer; anything else is NULL.
type numberInto struct{ to **int64 }

func (n numberInto) Scan(v any) error {
	*n.to = nil
	switch v := v.(type) {
	case int64:
		*n.to = &v
	case string:
		if i, err := strconv.ParseInt(v, 10, 64); err == nil {
			*n.to = &i
		}
	}
	return nil
}

// value returns what to write for a field, given by pointer: nil, string, bool or int64. References to other rows and
// an absent URI are NULL when empty.
func value(field any) any {
	switch f := field.(type) {
	case **string:
		if *f == nil {
			return nil
		}
		return **f
	case **bool:
		if *f == nil {
			return nil
		}
		return **f
	case **int64:
		if *f == nil {
			return nil
		}
		return **f
	case *bool:
		return *f
	case *string:
		return *f
	case *DBURI:
		return textOrNull(f.Reveal())
	}
	return textOrNull(idText(field))
}

func idText(field any) string {
	switch f := field.(type) {
	case *UserID:
		return string(*f)
	case *TenantID:
		return string(*f)
	case *MembershipID:
		return string(*f)
	case *SubscriptionID:
		return string(*f)
	case *PlanID:
		return string(*f)
	case *AuditID:
		return string(*f)
	case *JobID:
		return string(*f)
	case *WebhookEventID:
		return string(*f)
	case *StripeID:
		return string(*f)
	case *SessionID:
		return string(*f)
	case *DomainName:
		return string(*f)
	case *APITokenID:
		return string(*f)
	}
	return ""
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// checkStorable refuses what one of the engines cannot store, so that both refuse it. It names the column alone.
func checkStorable(column string, v any) error {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) || strings.Contains(v, "\x00") {
			return fmt.Errorf("%s: %w", column, ErrText)
		}
	case int64:
		if v > math.MaxInt32 || v < math.MinInt32 {
			return fmt.Errorf("%s: number must fit into 32 bits", column)
		}
	}
	return nil
}

// storable is s as a parameter of a lookup: NULL, which matches nothing, if it is empty or no row can hold it.
func storable(s string) sql.NullString {
	ok := s != "" && utf8.ValidString(s) && !strings.Contains(s, "\x00")
	return sql.NullString{String: s, Valid: ok}
}

// foldASCII lower-cases A to Z and nothing else, as SQLite's lower() and PostgreSQL's under COLLATE "C" do.
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
