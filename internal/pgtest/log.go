package pgtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Log is everything that the server has written to its log.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "log*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("pgtest: the server's log: %d files, %v", len(files), err)
	}
	var all strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal("pgtest: the server's log:", err)
		}
		all.Write(text)
	}
	return all.String()
}
