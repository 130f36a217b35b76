//go:build !windows

package engine

import (
	"io"
	"io/fs"
	"syscall"

	"xuncha/ledger"
)

// fileErrors has what callers are told of what the system says.
var fileErrors = map[error]error{
	syscall.ENOSPC: ledger.ErrFull, syscall.EDQUOT: ledger.ErrFull, syscall.EFBIG: ledger.ErrFull,
	syscall.EIO: ledger.ErrUnavailable, syscall.EROFS: ledger.ErrUnavailable, syscall.EMFILE: ledger.ErrUnavailable,
	syscall.ENFILE: ledger.ErrUnavailable, syscall.EACCES: ledger.ErrUnavailable, syscall.EPERM: ledger.ErrUnavailable,
	syscall.ENOENT: ledger.ErrUnavailable, syscall.ENOTDIR: ledger.ErrUnavailable, syscall.ENODEV: ledger.ErrUnavailable,
	syscall.ENXIO: ledger.ErrUnavailable, syscall.ESTALE: ledger.ErrUnavailable, syscall.EBADF: ledger.ErrUnavailable,
	syscall.ENOMEM: ledger.ErrUnavailable, syscall.ENOTCONN: ledger.ErrUnavailable,
	fs.ErrClosed: ledger.ErrUnavailable, io.ErrShortWrite: ledger.ErrUnavailable,
}
