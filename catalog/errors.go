package catalog

import "errors"

// Sentinels; test with errors.Is.
var (
	// ErrNotFound: no row has that id.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the write would break a rule (an id taken, an active membership doubled, a slug equal to an id).
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: the host database cannot be reached, is in recovery, or did not answer in time. Try again later.
	ErrUnavailable = errors.New("host database unavailable")
	// ErrSchema: the database lacks something that this version needs, and migrating was not asked for.
	ErrSchema = errors.New("host database schema incomplete")
)
