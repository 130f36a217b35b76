package sqlitestore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xuncha/ledger"
)

// A folder whose newest entries, which are in no index, or whose end cannot be read is
// looked at all the same, and what can be read of it is.
func TestOpenAtRestDamaged(t *testing.T) {
	s := open(t)
	const count = 300
	for i := range count {
		d := draft(fmt.Sprintf("entry-%03d", i))
		d.Content = []byte(`{"note":"` + strings.Repeat("x", 700) + `"}`)
		mustAppend(t, s, d)
	}
	mustExec(t, s.writer.conn, `PRAGMA wal_checkpoint(truncate)`)
	from := filepath.Dir(s.lock.Name())
	for name, damage := range map[string]func([]byte) []byte{
		"a page of the newest entries": func(b []byte) []byte {
			at := bytes.LastIndex(b, []byte(`"id":"entry-250"`)) &^ 4095
			clear(b[at : at+4096])
			return b
		},
		"cut short": func(b []byte) []byte { return b[:len(b)*2/3&^4095] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyFolder(t, from)
			b, err := os.ReadFile(filepath.Join(dir, File))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, File), damage(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			rest, err := OpenAtRest(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			defer rest.Close()
			read, told, found := 0, 0, 0
			err = rest.Stored(t.Context(), func(ledger.Entry) error { read++; return nil }, func(string) { told++ })
			if err != nil || read < count/3 || read >= count || told == 0 {
				t.Errorf("read %d entries of %d, told %d times of damage, %v", read, count, told, err)
			}
			if err := rest.CheckFile(t.Context(), func(string, bool) { found++ }); err != nil || found == 0 {
				t.Errorf("found %d faults of the file, %v", found, err)
			}
		})
	}
}
