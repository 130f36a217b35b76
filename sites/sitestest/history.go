package sitestest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// AppendFrom appends to the store a roster's history that another version has written: the
// records in the folder's roster.jsonl, and the rows in the files that are named after
// their SHA-256. The records are stored as the bytes that they were, or there is an error.
func AppendFrom(ctx context.Context, store ledger.Store, rows sites.Rows, folder string) error {
	names, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if sum := strings.TrimSuffix(filepath.Base(name), ".jsonl"); sum != "roster" {
			if err := rows.PutRows(ctx, sum, content); err != nil {
				return err
			}
		}
	}
	records, err := os.ReadFile(filepath.Join(folder, "roster.jsonl"))
	if err != nil {
		return err
	}
	for record := range bytes.Lines(records) {
		record = bytes.TrimSuffix(record, []byte("\n"))
		var of struct {
			Kind    ledger.Kind
			ID      string
			Time    time.Time `json:"receive_time"`
			Account string
		}
		if err := json.Unmarshal(record, &of); err != nil {
			return err
		}
		e, _, err := store.Append(ctx, ledger.Draft{
			History: ledger.Roster, ID: of.ID, Kind: of.Kind, Time: of.Time, Account: of.Account, Content: ledger.Content(record),
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(e.Record, record) {
			return fmt.Errorf("%s is stored as %s", record, e.Record)
		}
	}
	return nil
}
