package sites

import "context"

// Rows keep what an import's entry names and is too large for its record. They
// are all that the roster needs beside its history. Implementations are safe for
// concurrent use. A failure that may pass wraps ledger.ErrUnavailable or
// ledger.ErrFull.
type Rows interface {
	// PutRows stores bytes under their SHA-256, written in hexadecimal, and
	// returns once they would survive a power cut. Bytes that are there already
	// are no error.
	PutRows(ctx context.Context, sum string, rows []byte) error

	// Rows returns the bytes stored under the sum, or ErrRowsUnknown.
	Rows(ctx context.Context, sum string) ([]byte, error)
}
