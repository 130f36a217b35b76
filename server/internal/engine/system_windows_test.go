package engine

import (
	"golang.org/x/sys/windows"

	"xuncha/ledger"
)

// fileErrors has what callers are told of what the system says.
var fileErrors = map[error]error{
	windows.ERROR_DISK_FULL: ledger.ErrFull, windows.ERROR_HANDLE_DISK_FULL: ledger.ErrFull,
	windows.ERROR_IO_DEVICE: ledger.ErrUnavailable, windows.ERROR_WRITE_PROTECT: ledger.ErrUnavailable,
}
