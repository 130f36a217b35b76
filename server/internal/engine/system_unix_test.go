//go:build !windows

package engine

import (
	"syscall"

	"xuncha/ledger"
)

// fileErrors has what callers are told of what the system says.
var fileErrors = map[error]error{
	syscall.ENOSPC: ledger.ErrFull, syscall.EDQUOT: ledger.ErrFull,
	syscall.EIO: ledger.ErrUnavailable, syscall.EROFS: ledger.ErrUnavailable, syscall.EMFILE: ledger.ErrUnavailable,
}
