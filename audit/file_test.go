package audit

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A run that is killed between giving the file its name and taking the other one away leaves two names of one file.
// Once the archive was moved elsewhere, the next run under the same name must not write into it.
func TestWriteFileNeverWritesIntoAnArchiveThatWasMovedAway(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "old.jsonl"), filepath.Join(dir, "moved.jsonl")
	write := func(text string) error {
		return WriteFile(path, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
	}
	must(t, write("the first"))
	must(t, os.Link(path, path+".partial"))
	must(t, os.Rename(path, moved))
	must(t, write("another"))
	for name, want := range map[string]string{moved: "the first", path: "another"} {
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
