package audit

import (
	"encoding/json"
	"errors"
	"fmt"
)

// archivedEvent is the event_type of an archive's record.
const archivedEvent = "audit.archived"

// record is what the details of an audit row say of the entries whose rows one transaction of an archive deleted.
type record struct {
	Before    string `json:"before"`
	Rows      int64  `json:"rows"`
	FirstSeq  int64  `json:"first_seq"`
	LastSeq   int64  `json:"last_seq"`
	Digest    string `json:"digest"` // SHA-256 over seq and hash of the entries
	File      string `json:"file"`   // the file's SHA-256
	Key       string `json:"key"`
	Signature string `json:"signature"`
}

// body is what is signed.
func (r record) body(id string) string {
	return fmt.Sprintf("%s/%s/%s/%d/%d/%d/%s/%s", archiveForm, id, r.Before, r.Rows, r.FirstSeq, r.LastSeq, r.Digest, r.File)
}

// maxRecord bounds the details of a record, in bytes; Archive's have about 600.
const maxRecord = 1 << 14

func parseRecord(details string) (r record, err error) {
	if len(details) > maxRecord || json.Unmarshal([]byte(details), &r) != nil {
		return record{}, errors.New("no record of an archive")
	}
	return r, nil
}
