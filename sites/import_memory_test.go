package sites_test

import (
	"context"
	"runtime"
	"testing"
	"weak"

	"xuncha/sites"
)

// watchedRows are rows of which a test sees when they are read.
type watchedRows struct {
	from   sites.Rows
	onRead func()
}

// PutRows implements sites.Rows.
func (w *watchedRows) PutRows(ctx context.Context, sum string, rows []byte) error {
	return w.from.PutRows(ctx, sum, rows)
}

// Rows implements sites.Rows.
func (w *watchedRows) Rows(ctx context.Context, sum string) ([]byte, error) {
	w.onRead()
	return w.from.Rows(ctx, sum)
}

// TestImportLetsItsTableGo ensures that the rows of a table are no longer in memory when what
// is stored of them is applied: of a million rows that would be 300 MB beside all the rest.
func TestImportLetsItsTableGo(t *testing.T) {
	w := filled(t)
	read, held := 0, false
	var table weak.Pointer[sites.SiteRow]
	config := w.config()
	config.Rows = &watchedRows{&w.store.MemoryRows, func() {
		read++
		runtime.GC()
		held = held || table.Value() != nil
	}}
	s, err := sites.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	read, held = 0, false
	renamed := func() []sites.SiteRow {
		rows := siteRows(t)
		for i := range rows {
			rows[i].Name += "新"
		}
		table = weak.Make(&rows[0])
		return rows
	}
	n, err := s.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{Source: "sites"}, renamed())
	if err != nil || n.Updated == 0 || read == 0 {
		t.Fatalf("got %+v, %v after the rows were read %d times", n, err, read)
	}
	if held {
		t.Error("the table is held while what is stored of it is applied")
	}
}
