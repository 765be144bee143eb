package checkout

import (
	"strconv"
	"strings"
)

// decimals says how many digits of an amount are behind the point, for those currencies in which they are not two, as
// Stripe counts minor units (https://docs.stripe.com/currencies). ISK and UGX have none by ISO 4217, but are sent to
// Stripe with two.
func decimals(currency string) int {
	switch currency {
	case "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf":
		return 0
	case "bhd", "jod", "kwd", "omr", "tnd":
		return 3
	}
	return 2
}

// sign is what stands before an amount: a sign that means one currency to everybody, else its code.
func sign(currency string) string {
	switch currency {
	case "eur":
		return "€"
	case "gbp":
		return "£"
	case "usd":
		return "$"
	}
	return strings.ToUpper(currency) + "\u00a0"
}

// amount writes minor units as people do: €1,234.50, JPY 1,200. ok is false where it says nothing: a negative amount, or
// a currency that is no three letters.
func amount(minor int64, currency string) (shown string, ok bool) {
	currency = strings.ToLower(currency)
	if minor < 0 || !isCurrency(currency) {
		return "", false
	}
	digits := strconv.FormatInt(minor, 10)
	behind := decimals(currency)
	if len(digits) <= behind {
		digits = strings.Repeat("0", behind+1-len(digits)) + digits
	}
	whole, part := digits[:len(digits)-behind], digits[len(digits)-behind:]
	var b strings.Builder
	b.WriteString(sign(currency))
	for i, d := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	if part != "" {
		b.WriteString("." + part)
	}
	return b.String(), true
}

func isCurrency(s string) bool {
	return len(s) == 3 && !strings.ContainsFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
}
