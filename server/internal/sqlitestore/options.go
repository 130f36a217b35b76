package sqlitestore

import (
	"log/slog"

	"xuncha/server/internal/engine"
)

// Options say how a data folder is opened. The zero value keeps no reserve and logs
// nothing.
type Options struct {
	// AcceptLoss goes on where entries that were acknowledged, or the database, are
	// missing. Otherwise Open returns an error that wraps ErrLost.
	AcceptLoss bool
	// PhotosFirst says that photos without a single entry are no sign of a lost database:
	// a copy brings them before the entries that name them.
	PhotosFirst bool
	// ReserveBytes is how much of the disk is kept for writes of contexts that
	// ledger.WithReserve made; 0 keeps none, and leaves one that is there alone.
	ReserveBytes int64
	// Log is told what needs somebody; nil logs nothing.
	Log *slog.Logger
	// OnFull is called when the disk turns out to be full, and when it has room again;
	// nil is not.
	OnFull func(full bool)
	// OnGone is called when the files of the database are no longer in the folder, and when
	// they are back; nil is not.
	OnGone func(gone bool)

	// available is engine.Available but for tests.
	available func(dir string) (int64, error)
}

// completed returns the options with what stands for nil.
func (o Options) completed() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnFull == nil {
		o.OnFull = func(bool) {}
	}
	if o.OnGone == nil {
		o.OnGone = func(bool) {}
	}
	if o.available == nil {
		o.available = engine.Available
	}
	return o
}
