// Package pytime reads the timestamps that Python programs write into the host database.
//
// Purpose: answer as Python 3.11's datetime.fromisoformat does, so that a period end counts here exactly where it
// counts for the program that wrote it. Concurrency: pure functions. Failure mode: whatever Python would not read is
// an error; callers deny on it. Errors never contain the text.
package pytime

import (
	"errors"
	"time"
	"unicode/utf8"
)

// ErrSyntax says that a text is no timestamp that Python 3.11 reads.
var ErrSyntax = errors.New("not an ISO 8601 timestamp: write it as 2026-11-23T07:31:00")

// errRange says that the text has the form of a timestamp but names no moment of the years 1 to 9999.
var errRange = errors.New("timestamp out of range: write a real date and time of the years 1 to 9999")

const maxYear = 9999

// Max is the last moment that Python's datetime knows. Sums beyond it overflow there.
func Max() time.Time { return time.Date(maxYear, time.December, 31, 23, 59, 59, 999_999_000, time.UTC) }

// Parse reads a date, or a date and a time with any one character between them, in ISO 8601's basic or extended form,
// calendar (2026-06-01) or week date (2026-W23-1). The time may lack seconds or minutes; digits of the fraction beyond
// microseconds are dropped. A zone is Z or an offset of less than 24 h; without one the time is UTC. The result is in UTC.
// Python overlooks junk between a time and its zone and behind a NUL; such texts are refused here.
func Parse(s string) (time.Time, error) {
	if len(s) < len("YYYYWww") {
		return time.Time{}, ErrSyntax
	}
	cut := dateLen(s)
	if cut > len(s) {
		return time.Time{}, ErrSyntax
	}
	date, err := parseDate(s[:cut])
	if err != nil {
		return time.Time{}, err
	}
	rest := s[cut:]
	if rest == "" {
		return date, nil
	}
	sep, size := utf8.DecodeRuneInString(rest)
	if sep == utf8.RuneError && size <= 1 {
		return time.Time{}, ErrSyntax
	}
	ofDay, offset, err := parseTime(rest[size:])
	if err != nil {
		return time.Time{}, err
	}
	return date.Add(ofDay - offset), nil
}

// dateLen says where the date ends and the separator stands. Any character may separate, so a week date's form is
// told from its digits.
func dateLen(s string) int {
	const calendar, week = len("YYYY-MM-DD"), len("YYYY-Www")
	switch {
	case len(s) == len("YYYYWww"):
		return len(s)
	case s[4] == '-' && s[5] == 'W':
		if len(s) <= week || s[week] != '-' {
			return week
		}
		if len(s) > week+2 && isDigit(s[week+2]) {
			return week // a hyphen that separates, followed by the hour
		}
		return week + len("-D")
	case s[4] == '-':
		return calendar
	case s[4] == 'W':
		return basicWeekLen(s)
	default:
		return len("YYYYMMDD")
	}
}

// basicWeekLen tells YYYYWww from YYYYWwwD: the digits of a time come in pairs.
func basicWeekLen(s string) int {
	const week = len("YYYYWww")
	end := week
	for end < len(s) && isDigit(s[end]) {
		end++
	}
	switch {
	case end < week+2:
		return end
	case end%2 == 0:
		return week
	default:
		return week + 1
	}
}

func parseDate(s string) (time.Time, error) {
	year, s, ok := digits(s, 4)
	if !ok {
		return time.Time{}, ErrSyntax
	}
	extended := s != "" && s[0] == '-'
	if extended {
		s = s[1:]
	}
	if s != "" && s[0] == 'W' {
		return parseWeekDate(year, s[1:], extended)
	}
	month, s, ok := digits(s, 2)
	if !ok {
		return time.Time{}, ErrSyntax
	}
	if extended {
		if s == "" || s[0] != '-' {
			return time.Time{}, ErrSyntax
		}
		s = s[1:]
	}
	day, s, ok := digits(s, 2)
	if !ok || s != "" {
		return time.Time{}, ErrSyntax
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if year < 1 || t.Year() != year || int(t.Month()) != month || t.Day() != day {
		return time.Time{}, errRange
	}
	return t, nil
}

func parseWeekDate(year int, s string, extended bool) (time.Time, error) {
	week, s, ok := digits(s, 2)
	if !ok {
		return time.Time{}, ErrSyntax
	}
	day := 1
	if s != "" {
		if extended {
			if s[0] != '-' {
				return time.Time{}, ErrSyntax
			}
			s = s[1:]
		}
		if day, s, ok = digits(s, 1); !ok || s != "" {
			return time.Time{}, ErrSyntax
		}
	}
	if year < 1 || week < 1 || day < 1 || day > 7 {
		return time.Time{}, errRange
	}
	// 4 January is always in week 1; weeks begin on Monday.
	jan4 := time.Date(year, time.January, 4, 0, 0, 0, 0, time.UTC)
	monday := jan4.AddDate(0, 0, -(int(jan4.Weekday())+6)%7)
	if y, w := monday.AddDate(0, 0, 7*(week-1)).ISOWeek(); y != year || w != week {
		return time.Time{}, errRange
	}
	t := monday.AddDate(0, 0, 7*(week-1)+day-1)
	if t.Year() < 1 || t.Year() > maxYear {
		return time.Time{}, errRange
	}
	return t, nil
}

// parseTime reads the time of day and its zone's offset from UTC.
func parseTime(s string) (ofDay, offset time.Duration, err error) {
	zone := 0
	for zone < len(s) && s[zone] != '+' && s[zone] != '-' && s[zone] != 'Z' {
		zone++
	}
	c, err := parseClock(s[:zone])
	if err != nil {
		return 0, 0, err
	}
	if c.hour > 23 || c.minute > 59 || c.second > 59 {
		return 0, 0, errRange
	}
	ofDay = c.duration()
	if zone == len(s) {
		return ofDay, 0, nil
	}
	sign, s := s[zone], s[zone+1:]
	if sign == 'Z' {
		if s != "" {
			return 0, 0, ErrSyntax
		}
		return ofDay, 0, nil
	}
	if c, err = parseClock(s); err != nil {
		return 0, 0, err
	}
	if offset = c.duration(); offset >= 24*time.Hour {
		return 0, 0, errRange
	}
	if sign == '-' {
		offset = -offset
	}
	return ofDay, offset, nil
}

type clock struct{ hour, minute, second, micro int }

func (c clock) duration() time.Duration {
	return time.Duration(c.hour)*time.Hour + time.Duration(c.minute)*time.Minute +
		time.Duration(c.second)*time.Second + time.Duration(c.micro)*time.Microsecond
}

// parseClock reads HH[[:]MM[[:]SS[(.|,)f…]]].
func parseClock(s string) (clock, error) {
	var c clock
	colons := false
	for i, field := range []*int{&c.hour, &c.minute, &c.second} {
		var ok bool
		if *field, s, ok = digits(s, 2); !ok {
			return clock{}, ErrSyntax
		}
		if s == "" {
			return c, nil
		}
		if i == 0 {
			colons = s[0] == ':'
		}
		switch {
		case s[0] == '.' || s[0] == ',':
			return c.fraction(s[1:])
		case colons && s[0] == ':':
			s = s[1:]
		case colons:
			return clock{}, ErrSyntax
		}
	}
	if !colons && len(s) == 1 {
		return clock{}, ErrSyntax // Python's one exception: a fraction without any mark needs two digits
	}
	return c.fraction(s)
}

// fraction reads the digits after the last field.
func (c clock) fraction(s string) (clock, error) {
	if s == "" {
		return clock{}, ErrSyntax
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return clock{}, ErrSyntax
		}
		if i < 6 {
			c.micro = c.micro*10 + int(s[i]-'0')
		}
	}
	for i := len(s); i < 6; i++ {
		c.micro *= 10
	}
	return c, nil
}

// digits reads exactly n ASCII digits.
func digits(s string, n int) (value int, rest string, ok bool) {
	if len(s) < n {
		return 0, s, false
	}
	for i := range n {
		if !isDigit(s[i]) {
			return 0, s, false
		}
		value = value*10 + int(s[i]-'0')
	}
	return value, s[n:], true
}

func isDigit(b byte) bool { return b-'0' <= 9 }
